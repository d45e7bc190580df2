/* Streams and their dead letters, as the broker has them. What it is asked for is one tenant's; it looks that the tenant is
 * configured, and bounds how much is read and changed at once. */
#include "handlers.h"
#include "orders.h"
#include "request.h"

#include "base/mem.h"

#include <string.h>

enum { MAX_IDS = 1000, MAX_ID = 64, MAX_DEAD = 100 };

/* ---- what there is ---- */

static unsigned answer_one(struct request *rq, const bson_t *doc, struct buf *b)
{
    bson_iter_t it;
    bson_t stream;
    (void)rq;
    if (!json_get_iter(doc, "streams", &it) || !json_next_doc(&it, &stream))
        return MHD_HTTP_INTERNAL_SERVER_ERROR; /* it said that there is one */
    json_from_bson(&stream, b);
    return MHD_HTTP_OK;
}

void get_streams(struct request *rq)
{
    AUTO_BUF struct buf b = {0};
    orders_begin(rq, "streams", &b);
    orders_ask(rq, &(struct order){PEER_broker, NULL, NULL, orders_pass_on}, &b);
}

void get_stream(struct request *rq)
{
    AUTO_BUF struct buf b = {0};
    orders_begin(rq, "streams", &b);
    json_str(&b, "stream", rq->stream);
    orders_ask(rq, &(struct order){PEER_broker, NULL, NULL, answer_one}, &b);
}

/* ---- dead letters ---- */

static void add_letter(struct buf *b, const bson_t *d)
{
    json_begin(b, NULL, '{');
    json_str(b, "id", json_get_str(d, "id", NULL));
    json_str(b, "app", json_get_str(d, "app", NULL));
    json_i64(b, "sequence", json_get_i64(d, "seq", 0));
    json_i64(b, "deliveries", json_get_i64(d, "deliveries", 0));
    json_str(b, "reason", json_get_str(d, "reason", NULL));
    json_str(b, "published_at", json_get_str(d, "published_at", NULL));
    json_str(b, "died_at", json_get_str(d, "died_at", NULL));
    json_i64_or_null(b, "bytes", json_get_i64(d, "bytes", -1));
    json_str(b, "text", json_get_str(d, "message", NULL));
    json_str(b, "base64", json_get_str(d, "base64", NULL));
    json_end(b, '}');
}

static unsigned answer_letters(struct request *rq, const bson_t *doc, struct buf *b)
{
    bson_iter_t it;
    bson_t d;
    (void)rq;
    json_begin(b, NULL, '{');
    json_begin(b, "dead_letters", '[');
    if (json_get_iter(doc, "dead", &it))
        while (json_next_doc(&it, &d))
            add_letter(b, &d);
    json_end(b, ']');
    json_str(b, "next", json_get_str(doc, "next", NULL));
    json_end(b, '}');
    return MHD_HTTP_OK;
}

/* Passes on a field of the URL's query. */
static void add_field(const struct request *rq, const char *name, struct buf *b)
{
    const char *value = uri_field(&rq->uri, name);
    if (value)
        json_str(b, name, value);
}

void get_dead_letters(struct request *rq)
{
    AUTO_BUF struct buf b = {0};
    int64_t limit;
    if (rq->who.datasets) { /* a message is of no dataset in particular */
        request_refuse(rq, "forbidden", "a token that is limited to datasets does not read messages");
        return;
    }
    if (!uri_number(&rq->uri, "limit", MAX_DEAD, 1, MAX_DEAD, &limit)) {
        request_refuse(rq, "bad_request", "limit is a number from 1 to %d", MAX_DEAD);
        return;
    }
    orders_begin(rq, "dead", &b);
    json_str(&b, "stream", rq->stream);
    json_i64(&b, "limit", limit);
    add_field(rq, "app", &b);
    add_field(rq, "cursor", &b);
    orders_ask(rq, &(struct order){PEER_broker, NULL, NULL, answer_letters}, &b);
}

static unsigned answer_settled(struct request *rq, const bson_t *doc, struct buf *b)
{
    (void)rq;
    json_begin(b, NULL, '{');
    json_i64(b, "n", json_get_i64(doc, "n", 0));
    json_bool(b, "more", json_get_bool(doc, "more", false));
    json_end(b, '}');
    return MHD_HTTP_OK;
}

/* Adds the ids of a body. False: it is no such body. */
static bool add_ids(const struct buf *body, struct buf *b)
{
    AUTO_BSON bson_t *doc = json_parse(body->p, body->n, NULL);
    bson_iter_t it;
    int n = 0;
    if (!doc || bson_count_keys(doc) != 1 || !bson_iter_init_find(&it, doc, "ids") || !BSON_ITER_HOLDS_ARRAY(&it) ||
        !json_get_iter(doc, "ids", &it))
        return false;
    json_begin(b, "ids", '[');
    while (bson_iter_next(&it)) {
        uint32_t len = 0;
        const char *id = BSON_ITER_HOLDS_UTF8(&it) ? bson_iter_utf8(&it, &len) : NULL;
        if (!id || len > MAX_ID || strlen(id) != len || ++n > MAX_IDS)
            return false;
        json_strn(b, NULL, id, len);
    }
    json_end(b, ']');
    return true;
}

/* Of which: the field `id`, or the body's list, or all, or all of one app. */
static void settle(struct request *rq, const char *op)
{
    AUTO_BUF struct buf b = {0};
    const char *id = uri_field(&rq->uri, "id");
    if ((id != NULL) + (uri_field(&rq->uri, "app") != NULL) + (rq->body.n > 0) > 1) {
        request_refuse(rq, "bad_request", "there may be one of id, app and a body");
        return;
    }
    orders_begin(rq, op, &b);
    json_str(&b, "stream", rq->stream);
    add_field(rq, "app", &b);
    if (id) {
        json_begin(&b, "ids", '[');
        json_str(&b, NULL, id);
        json_end(&b, ']');
    }
    if (rq->body.n && !add_ids(&rq->body, &b)) {
        request_refuse(rq, "bad_request", "the body is empty, or {\"ids\":[…]} with %d ids at most", MAX_IDS);
        return;
    }
    orders_ask(rq, &(struct order){PEER_broker, op, rq->stream, answer_settled}, &b);
}

void replay_dead_letters(struct request *rq)
{
    settle(rq, "dead_replay");
}

void drop_dead_letters(struct request *rq)
{
    settle(rq, "dead_drop");
}
