/* Rights that Kafka's ACLs do not give. A topic may be open all the same, so what Kafka said last of each stays, until it does it.
 */
#include "kafka_parts.h"

#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

enum { TRIM_AGAIN_MS = 10000 };

static const char *const without[] = {[KAFKA_MAY_PUBLISH] = "nothing can be published",
                                      [KAFKA_MAY_READ] = "no messages come",
                                      [KAFKA_MAY_COMMIT] = "where apps are cannot be committed",
                                      [KAFKA_MAY_TRIM] = "records that are done cannot be deleted, and the topic grows"};

void kafka_right(struct kafka_stream *k, enum kafka_right right, const char *why)
{
    char **is = &k->may_not[right];
    if (!*why && !*is)
        return;
    if (*why && !strstr(why, "uthorization failed"))
        return;
    if (*why && !*is)
        log_warn("kafka", k->st->tenant->id, NULL, "stream %s: %s: %s", k->st->name, without[right], why);
    else if (!*why)
        log_info("kafka", k->st->tenant->id, NULL, "stream %s: Kafka gives the right again; it was: %s", k->st->name,
                 without[right]);
    xstr_set(is, *why ? why : NULL);
}

const char *kafka_lacks(const struct kafka_stream *k, char *text, size_t size)
{
    for (size_t i = 0; i < KAFKA_N_RIGHTS; i++)
        if (k->may_not[i])
            return snprintf(text, size, "topic %s: %s: %s", k->topic, without[i], k->may_not[i]), text;
    return NULL;
}

void kafka_rights_fini(struct kafka_stream *k)
{
    for (size_t i = 0; i < KAFKA_N_RIGHTS; i++)
        free(k->may_not[i]);
}

bool kafka_on_trimmed(struct kafka_stream *k, const unsigned char *p, size_t n)
{
    AUTO_FREE char *why = kafka_take_str(&p, &n);
    if (!why)
        return false;
    kafka_right(k, KAFKA_MAY_TRIM, why);
    if (*why && k->trim) { /* the same again; not more, whose numbers are to be remembered for longer */
        k->next_trim = k->trim;
        k->trim = 0;
        k->trim_ms = k->st->b->now_ms + TRIM_AGAIN_MS;
    }
    return true;
}
