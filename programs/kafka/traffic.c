/* Messages into topics and out of them.
 *
 * A message is a record. Its header "m" has who published it and when: u64 publisher, u64 number, u64 wall_ms, and the trace, if
 * there is one. A record without it is somebody else's, and comes as a message of nobody's. */
#include "client.h"

#include "base/log.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define HEADER "m"
enum { HEADER_BYTES = 24, BATCH = 512 };

/* Under way: of `left` records it is not known yet what becomes of them. */
struct request {
    struct topic *topic;
    uint64_t id;
    uint32_t left;
    int64_t first; /* offset; -1: none yet */
    bool unknown;  /* of one of them at least */
    rd_kafka_resp_err_t error;
};

/* ---- in ---- */

static void request_done(struct request *q)
{
    AUTO_BUF struct buf b = {0};
    kafka_frame_begin(&b, KAFKA_PRODUCED, q->topic->stream);
    le_add_u64(&b, q->id);
    kafka_frame_add_str(&b, q->error ? rd_kafka_err2str(q->error) : "");
    le_add_u64(&b, q->first < 0 || q->unknown ? KAFKA_OFFSET_UNKNOWN : (uint64_t)q->first);
    frame_send(q->topic->client, &b);
    free(q);
}

static void one_done(struct request *q, rd_kafka_resp_err_t error, int64_t offset)
{
    if (error)
        q->error = error;
    else if (offset < 0) /* it was there already: sent again by the library, since the first answer was lost with its node */
        q->unknown = true;
    else if (q->first < 0 || offset < q->first)
        q->first = offset;
    if (!--q->left)
        request_done(q);
}

void traffic_on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque)
{
    (void)rk;
    (void)opaque;
    if (!m->err)
        *((struct request *)m->_private)->topic->client->why = 0; /* whatever it was is over */
    one_done(m->_private, m->err, m->offset);
}

struct produce {
    uint64_t publisher, number, wall_ms;
    uint32_t n, traced, n_key;
    const unsigned char *key, *lengths, *traces;
};

static rd_kafka_resp_err_t produce_one(struct request *q, const struct produce *in, const unsigned char *p, size_t n,
                                       const char *head, size_t n_head)
{
    rd_kafka_headers_t *headers = rd_kafka_headers_new(1);
    rd_kafka_header_add(headers, HEADER, -1, head, (ssize_t)n_head);
    rd_kafka_resp_err_t r =
        rd_kafka_producev(q->topic->client->producer, RD_KAFKA_V_RKT(q->topic->out), RD_KAFKA_V_PARTITION((int32_t)q->topic->part),
                          RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_KEY(in->n_key ? (void *)in->key : NULL, in->n_key),
                          RD_KAFKA_V_VALUE((void *)p, n), RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_OPAQUE(q), RD_KAFKA_V_END);
    if (r)
        rd_kafka_headers_destroy(headers);
    return r;
}

static bool read_produce(struct reader *r, struct produce *ret)
{
    *ret = (struct produce){.publisher = read_u64(r), .number = read_u64(r), .wall_ms = read_u64(r), .n = read_u32(r)};
    ret->traced = read_u32(r);
    ret->n_key = read_u32(r);
    r->ok = r->ok && ret->n_key <= r->n;
    if (!r->ok)
        return false;
    ret->key = r->p;
    r->p += ret->n_key;
    r->n -= ret->n_key;
    size_t fixed = (size_t)ret->n * 4 + (size_t)ret->traced * KAFKA_TRACE;
    if (!r->ok || !ret->n || ret->n > KAFKA_MAX_MESSAGES || (ret->traced > 1 && ret->traced != ret->n) || r->n < fixed)
        return false;
    ret->lengths = r->p;
    ret->traces = r->p + (size_t)ret->n * 4;
    r->p += fixed;
    r->n -= fixed;
    size_t bytes = 0;
    for (uint32_t i = 0; i < ret->n; i++)
        bytes += le_u32(ret->lengths + (size_t)i * 4);
    return bytes == r->n;
}

void traffic_produce(struct topic *t, struct reader *r)
{
    static const unsigned char none[KAFKA_TRACE];
    uint64_t id = read_u64(r);
    struct produce in;
    if (!read_produce(r, &in)) {
        r->ok = false;
        return;
    }
    struct request *q = xmalloc(sizeof *q);
    *q = (struct request){.topic = t, .id = id, .left = in.n, .first = -1};
    for (uint32_t i = 0; i < in.n; i++) {
        char head[HEADER_BYTES + KAFKA_TRACE];
        const unsigned char *trace = in.traced ? in.traces + (in.traced > 1 ? (size_t)i * KAFKA_TRACE : 0) : none;
        bool traced = memcmp(trace, none, KAFKA_TRACE) != 0;
        le_set_u64(head, in.publisher);
        le_set_u64(head + 8, in.publisher ? in.number + i : 0);
        le_set_u64(head + 16, in.wall_ms);
        memcpy(head + HEADER_BYTES, trace, KAFKA_TRACE);
        uint32_t n = le_u32(in.lengths + (size_t)i * 4);
        rd_kafka_resp_err_t error = produce_one(q, &in, r->p, n, head, HEADER_BYTES + (traced ? KAFKA_TRACE : 0));
        r->p += n;
        r->n -= n;
        if (error)
            one_done(q, error, -1);
    }
}

/* ---- out ---- */

static void key_of(const rd_kafka_topic_t *rkt, int32_t part, char out[48])
{
    snprintf(out, 48, "%p.%" PRId32, (const void *)rkt, part);
}

static struct topic *find_followed(struct client *c, const rd_kafka_topic_t *rkt, int32_t part)
{
    char key[48];
    if (c->last && c->last->in == rkt && (int32_t)c->last->part == part)
        return c->last;
    key_of(rkt, part, key);
    return c->last = map_get(&c->followed, key);
}

static void stop_following(struct topic *t)
{
    char key[48];
    if (!t->in)
        return;
    key_of(t->in, (int32_t)t->part, key);
    map_remove(&t->client->followed, key);
    t->client->last = NULL;
    rd_kafka_consume_stop(t->in, (int32_t)t->part);
    rd_kafka_topic_destroy(t->in);
    t->in = NULL;
}

static void broken(struct topic *t, const char *why)
{
    AUTO_BUF struct buf b = {0};
    stop_following(t);
    kafka_frame_begin(&b, KAFKA_BROKEN, t->stream);
    kafka_frame_add_str(&b, why);
    frame_send(t->client, &b);
}

void traffic_follow(struct topic *t, uint64_t offset)
{
    stop_following(t);
    rd_kafka_topic_conf_t *conf = rd_kafka_topic_conf_new();
    rd_kafka_topic_conf_set(conf, "auto.offset.reset", "error", NULL, 0);
    t->in = rd_kafka_topic_new(t->client->consumer, t->name, conf);
    if (!t->in) {
        broken(t, rd_kafka_err2str(rd_kafka_last_error()));
        return;
    }
    char key[48];
    key_of(t->in, (int32_t)t->part, key);
    map_put(&t->client->followed, key, t);
    if (rd_kafka_consume_start_queue(t->in, (int32_t)t->part, (int64_t)offset, t->client->records) < 0)
        broken(t, rd_kafka_err2str(rd_kafka_last_error()));
}

void traffic_close(struct topic *t)
{
    stop_following(t);
    t->closed = true;
}

static void add_record(struct topic *t, const rd_kafka_message_t *m, struct buf *b)
{
    rd_kafka_headers_t *headers;
    const void *head = NULL;
    size_t n = 0;
    if (rd_kafka_message_headers(m, &headers) || rd_kafka_header_get_last(headers, HEADER, &head, &n))
        n = 0;
    bool ours = n == HEADER_BYTES || n == HEADER_BYTES + KAFKA_TRACE;
    kafka_frame_begin(b, KAFKA_RECORD, t->stream);
    le_add_u64(b, (uint64_t)m->offset);
    if (ours) {
        buf_add(b, head, HEADER_BYTES);
    } else {
        le_add_u64(b, 0);
        le_add_u64(b, 0);
        le_add_u64(b, (uint64_t)rd_kafka_message_timestamp(m, NULL));
    }
    le_add_u32(b, n == HEADER_BYTES + KAFKA_TRACE);
    if (n == HEADER_BYTES + KAFKA_TRACE)
        buf_add(b, (const char *)head + HEADER_BYTES, KAFKA_TRACE);
    buf_add(b, m->payload, m->len);
    frame_send(t->client, b);
}

/* Errors that pass are librdkafka's to deal with. */
static bool is_the_end(rd_kafka_resp_err_t error)
{
    return error == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET || error == RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE ||
           error == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC || error == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION ||
           error == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART || error == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
           error == RD_KAFKA_RESP_ERR__BAD_MSG;
}

size_t traffic_take_records(struct client *c, size_t max)
{
    AUTO_BUF struct buf b = {0};
    rd_kafka_message_t *v[BATCH];
    ssize_t n = rd_kafka_consume_batch_queue(c->records, 0, v, max < BATCH ? max : BATCH);
    for (ssize_t i = 0; i < n; i++) {
        struct topic *t = v[i]->rkt ? find_followed(c, v[i]->rkt, v[i]->partition) : NULL; /* NULL: it came late */
        if (t && !v[i]->err)
            add_record(t, v[i], &b);
        else if (t && is_the_end(v[i]->err))
            broken(t, rd_kafka_message_errstr(v[i]));
        rd_kafka_message_destroy(v[i]);
    }
    return n > 0 ? (size_t)n : 0;
}

void traffic_poll(struct client *c)
{
    rd_kafka_poll(c->producer, 0);
    rd_kafka_poll(c->consumer, 0);
}
