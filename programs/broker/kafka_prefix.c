/* What the topics of this home begin with, as it was when its first stream went to Kafka: state/broker/kafka-prefix. Another
 * kafka.prefix means other topics, and what is confirmed in the ones of before would be left there. So it is taken only where
 * kafka.prefix_before names the one of before, or where no stream is in Kafka any more. */
#include "kafka_parts.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PREFIX_FILE "kafka-prefix"

static void read_prefix(struct broker *b)
{
    AUTO_BUF struct buf text = {0};
    if (b->kafka->prefix || fd_read_file(b->store_fd, PREFIX_FILE, &text, 4096, NULL) < 0)
        return;
    b->kafka->prefix = xstrndup(text.p ? text.p : "", text.n);
}

static void write_prefix(struct broker *b, const char *prefix)
{
    struct err e = {0};
    xstr_set(&b->kafka->prefix, NULL);
    if (fd_write_file(b->store_fd, PREFIX_FILE, prefix, strlen(prefix), 0600, &e) < 0)
        log_warn("kafka", NULL, NULL, "%s", e.msg); /* the next tick */
    else
        b->kafka->prefix = xstrdup(prefix);
}

bool kafka_prefix_accept(struct broker *b)
{
    const struct conf_kafka *c = &b->conf->platform.kafka;
    read_prefix(b);
    bool other = b->kafka->prefix && strcmp(b->kafka->prefix, c->prefix) != 0;
    if (!other || strcmp(c->prefix_before, b->kafka->prefix) != 0)
        return false;
    log_warn("kafka", NULL, NULL, "topics begin with %s from now on, and not with %s, as kafka.prefix_before says", c->prefix,
             c->prefix_before);
    write_prefix(b, c->prefix);
    return true;
}

/* Also one whose tenant is not configured now. */
static bool any_is_there(const struct broker *b)
{
    size_t i = 0;
    for (const struct stream *s; (s = streams_next(b->streams, &i));)
        if (stream_is_mirror(s))
            return true;
    return false;
}

void kafka_prefix_keep(struct broker *b)
{
    if (b->kafka->streams && !b->kafka->prefix)
        write_prefix(b, b->conf->platform.kafka.prefix);
    if (b->kafka->streams || !b->kafka->prefix || any_is_there(b))
        return;
    unlinkat(b->store_fd, PREFIX_FILE, 0);
    xstr_set(&b->kafka->prefix, NULL);
}

bool kafka_prefix_is(const char *topic, const char *prefix)
{
    size_t n = strlen(prefix);
    return !strncmp(topic, prefix, n) && topic[n] == '.';
}

bool kafka_prefix_holds(const struct kafka_stream *k, char *why, size_t size)
{
    const char *prefix = k->st->b->kafka->prefix;
    if (!prefix)
        snprintf(why, size, "the broker's disk is full");
    else if (!kafka_prefix_is(k->topic, prefix))
        snprintf(why, size,
                 "kafka.prefix is another one: this home's topics begin with \"%s\"; set it back, or, to leave them, set "
                 "kafka.prefix_before = \"%s\"",
                 prefix, prefix);
    else
        return true;
    return false;
}
