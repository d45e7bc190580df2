#include "client.h"

#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* What the promises rest on comes last, so that no setting of the operator's changes it (may_set allows for none of these, too). */
static const char *const ours[][2] = {
    {"client.id", "mysimbdp"},
    {"reconnect.backoff.ms", "50"},
    {"reconnect.backoff.max.ms", "1000"},
    {"socket.connection.setup.timeout.ms", "4000"}, /* a host that is gone, or cut off, says nothing */
    {"socket.timeout.ms", "10000"},
    {"topic.metadata.refresh.interval.ms", "3000"},
    {"topic.metadata.refresh.fast.interval.ms", "100"},
    {"topic.metadata.propagation.max.ms", "3000"},
    {"socket.keepalive.enable", "true"},
    {"socket.nagle.disable", "true"},
    {NULL, NULL},
};
static const char *const of_producer[][2] = {
    {"enable.idempotence", "true"},
    {"acks", "all"},
    {"message.max.bytes", "33554432"}, /* the topic says how much it takes */
    {"linger.ms", "1"},
    {"request.timeout.ms", "4000"},
    {"message.timeout.ms", "20000"},
    {"queue.buffering.max.messages", "2000000"},
    {"queue.buffering.max.kbytes", "524288"},
    {NULL, NULL},
};
static const char *const of_consumer[][2] = {
    {"group.id", "mysimbdp"}, /* nothing is committed under it */
    {"enable.auto.commit", "false"},
    {"enable.partition.eof", "false"},
    {"auto.offset.reset", "error"},
    {"fetch.wait.max.ms", "200"},
    {"fetch.error.backoff.ms", "100"},
    {"queued.max.messages.kbytes", "4096"},
    {"fetch.message.max.bytes", "1048576"},
    {"receive.message.max.bytes", "268435456"},
    {"fetch.max.bytes", "33554432"},
    {"check.crcs", "true"},
    {NULL, NULL},
};

/* ---- frames ---- */

uint32_t read_u32(struct reader *r)
{
    uint32_t v = 0;
    r->ok = r->ok && r->n >= sizeof v;
    if (!r->ok)
        return 0;
    v = le_u32(r->p);
    r->p += sizeof v;
    r->n -= sizeof v;
    return v;
}

uint64_t read_u64(struct reader *r)
{
    uint64_t low = read_u32(r);
    return low | (uint64_t)read_u32(r) << 32;
}

char *read_str(struct reader *r)
{
    uint32_t n = read_u32(r);
    r->ok = r->ok && r->n >= n;
    char *s = xstrndup(r->ok ? (const char *)r->p : "", r->ok ? n : 0);
    r->p += r->ok ? n : 0;
    r->n -= r->ok ? n : 0;
    return s;
}

void frame_send(struct client *c, struct buf *b)
{
    uint64_t one = 1;
    kafka_frame_end(b);
    pthread_mutex_lock(&c->lock);
    buf_add(&c->out, b->p, b->n);
    pthread_mutex_unlock(&c->lock);
    if (write(c->wake_fd, &one, sizeof one) < 0)
        log_debug("kafka", NULL, NULL, "it is awake");
}

/* ---- the clients ---- */

static void say_down(struct client *c, const char *why)
{
    AUTO_BUF struct buf b = {0};
    kafka_frame_begin(&b, KAFKA_DOWN, 0);
    kafka_frame_add_str(&b, why);
    frame_send(c, &b);
}

static void on_error(rd_kafka_t *rk, int code, const char *reason, void *opaque)
{
    struct client *c = opaque;
    char text[512];
    if (code == RD_KAFKA_RESP_ERR__FATAL) {
        bool known = rd_kafka_fatal_error(rk, text, sizeof text) != RD_KAFKA_RESP_ERR_NO_ERROR;
        log_error("kafka", NULL, NULL, "%s: it begins anew", known ? text : reason);
        say_down(c, known ? text : reason);
        c->dead = true;
        return;
    }
    bool says_why =
        code == RD_KAFKA_RESP_ERR__AUTHENTICATION || code == RD_KAFKA_RESP_ERR__SSL || code == RD_KAFKA_RESP_ERR__RESOLVE;
    log_debug("kafka", NULL, NULL, "%s: %s", rd_kafka_err2name(code), reason);
    if (says_why)
        snprintf(c->why, sizeof c->why, "%s", reason);
    if (!says_why && code != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
        return;
    say_down(c, *c->why ? c->why : reason);
}

static void on_log(const rd_kafka_t *rk, int level, const char *fac, const char *text)
{
    (void)rk;
    (void)level;
    log_debug("kafka", NULL, NULL, "%s: %s", fac, text);
}

static int set(rd_kafka_conf_t *conf, const char *name, const char *value, struct err *e)
{
    char text[256];
    if (rd_kafka_conf_set(conf, name, value, text, sizeof text) != RD_KAFKA_CONF_OK)
        return err_set(e, ERR_CONFIG, "librdkafka does not take %s: %s", name, text); /* the value may be a password */
    return 0;
}

static int set_all(rd_kafka_conf_t *conf, const char *const v[][2], struct err *e)
{
    int r = 0;
    for (size_t i = 0; r == 0 && v[i][0]; i++)
        r = set(conf, v[i][0], v[i][1], e);
    return r;
}

static int set_lines(rd_kafka_conf_t *conf, const char *settings, struct err *e)
{
    AUTO_FREE char *lines = xstrdup(settings);
    char *save = NULL;
    int r = 0;
    for (char *line = strtok_r(lines, "\n", &save); r == 0 && line; line = strtok_r(NULL, "\n", &save)) {
        char *is = strchr(line, '=');
        if (!is)
            continue;
        *is = 0;
        r = set(conf, line, is + 1, e);
    }
    explicit_bzero(lines, strlen(settings));
    return r;
}

static rd_kafka_conf_t *conf_of(struct client *c, const char *brokers, const char *settings, const char *const own[][2],
                                struct err *e)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    int r = set(conf, "bootstrap.servers", brokers, e);
    if (r == 0)
        r = set_lines(conf, settings, e);
    if (r == 0)
        r = set_all(conf, ours, e);
    if (r == 0)
        r = set_all(conf, own, e);
    rd_kafka_conf_set_opaque(conf, c);
    rd_kafka_conf_set_error_cb(conf, on_error);
    rd_kafka_conf_set_log_cb(conf, on_log);
    if (r == 0)
        return conf;
    rd_kafka_conf_destroy(conf);
    return NULL;
}

/* conf: taken. */
static rd_kafka_t *open_one(rd_kafka_type_t type, rd_kafka_conf_t *conf, struct err *e)
{
    char text[256];
    rd_kafka_t *rk = rd_kafka_new(type, conf, text, sizeof text);
    if (!rk) {
        rd_kafka_conf_destroy(conf);
        err_set(e, ERR_CONFIG, "librdkafka cannot be started: %s", text);
    }
    return rk;
}

void client_wake_by(const struct client *c, rd_kafka_queue_t *q)
{
    static const uint64_t one = 1;
    rd_kafka_queue_io_event_enable(q, c->wake_fd, &one, sizeof one);
}

rd_kafka_t *client_open_group(struct client *c, const char *const own[][2], struct err *e)
{
    rd_kafka_conf_t *conf = conf_of(c, c->brokers, c->settings, own, e);
    if (!conf)
        return NULL;
    rd_kafka_conf_set_error_cb(conf, NULL);
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_REBALANCE | RD_KAFKA_EVENT_OFFSET_COMMIT | RD_KAFKA_EVENT_ERROR);
    return open_one(RD_KAFKA_CONSUMER, conf, e);
}

struct topic *client_topic(struct client *c, const char *name, uint32_t part)
{
    size_t i = 0;
    for (struct topic *t; (t = map_next(&c->topics, &i));)
        if (t->part == part && !strcmp(t->name, name))
            return t;
    return NULL;
}

int client_open(struct client *c, const char *brokers, const char *settings, struct err *e)
{
    pthread_mutex_init(&c->lock, NULL);
    c->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    c->brokers = xstrdup(brokers);
    c->settings = xstrdup(settings);
    rd_kafka_conf_t *out = conf_of(c, brokers, settings, of_producer, e);
    if (!out)
        return e->code;
    rd_kafka_conf_set_dr_msg_cb(out, traffic_on_delivery);
    c->producer = open_one(RD_KAFKA_PRODUCER, out, e);
    rd_kafka_conf_t *in = c->producer ? conf_of(c, brokers, settings, of_consumer, e) : NULL;
    if (!in)
        return e->code;
    c->consumer = open_one(RD_KAFKA_CONSUMER, in, e);
    if (!c->consumer)
        return e->code;
    c->records = rd_kafka_queue_new(c->consumer);
    client_wake_by(c, c->records);
    rd_kafka_queue_t *main_of_producer = rd_kafka_queue_get_main(c->producer);
    client_wake_by(c, main_of_producer);
    rd_kafka_queue_destroy(main_of_producer);
    return 0;
}
