/* Instances of stream apps, and how such an app did lately: streammgr starts and stops them, for one tenant at a time. An instance
 * is known by the same id for as long as what it was started for lasts, also when the platform has to start another process. */
#include "handlers.h"
#include "orders.h"
#include "request.h"

#include "base/clk.h"
#include "base/mem.h"

#include <string.h>

/* As streammgr has them; here, so that no line becomes longer than its socket takes. */
enum { MAX_ARGS = 256, MAX_ARGS_BYTES = 16 << 10 };

void get_instances(struct request *rq)
{
    AUTO_BUF struct buf b = {0};
    const char *app = uri_field(&rq->uri, "app");
    orders_begin(rq, "instances", &b);
    if (app)
        json_str(&b, "app", app);
    orders_ask(rq, &(struct order){PEER_streammgr, NULL, NULL, orders_pass_on}, &b);
}

/* reason: why there is none yet, where there is none. */
static void write_started(const struct request *rq, const bson_t *doc, struct buf *b)
{
    json_begin(b, NULL, '{');
    json_str(b, "instance_id", json_get_str(doc, "run_id", NULL));
    json_str(b, "app", rq->app);
    json_str(b, "reason", json_get_str(doc, "reason", NULL));
    json_end(b, '}');
}

static unsigned answer_created(struct request *rq, const bson_t *doc, struct buf *b)
{
    write_started(rq, doc, b);
    return MHD_HTTP_CREATED;
}

static unsigned answer_started(struct request *rq, const bson_t *doc, struct buf *b)
{
    write_started(rq, doc, b);
    return MHD_HTTP_OK;
}

/* The only key of the body. False: it is no object with that alone. */
static bool only_key(const bson_t *doc, const char *key, bson_iter_t *ret)
{
    return doc && bson_count_keys(doc) == 1 && bson_iter_init_find(ret, doc, key);
}

/* False: it is no list of arguments within the bounds. */
static bool add_args(bson_iter_t *list, struct buf *b)
{
    bson_iter_t it;
    size_t n = 0, bytes = 0;
    if (!BSON_ITER_HOLDS_ARRAY(list) || !bson_iter_recurse(list, &it))
        return false;
    json_begin(b, "args", '[');
    while (bson_iter_next(&it)) {
        uint32_t len = 0;
        const char *text = BSON_ITER_HOLDS_UTF8(&it) ? bson_iter_utf8(&it, &len) : NULL;
        bytes += len + 1;
        if (!text || strlen(text) != len || ++n > MAX_ARGS || bytes > MAX_ARGS_BYTES)
            return false;
        json_strn(b, NULL, text, len);
    }
    json_end(b, ']');
    return true;
}

void start_instance(struct request *rq)
{
    AUTO_BUF struct buf b = {0};
    AUTO_BSON bson_t *doc = rq->body.n ? json_parse(rq->body.p, rq->body.n, NULL) : NULL;
    bson_iter_t args;
    const char *key;
    if (!request_key(rq, &key))
        return;
    orders_begin(rq, "start", &b);
    json_str(&b, "app", rq->app);
    if (key)
        json_str(&b, "idempotency_key", key);
    if (!only_key(doc, "args", &args) || !add_args(&args, &b)) {
        request_refuse(
            rq, "bad_request",
            "the body is {\"args\":[…]}, with %d strings at most, without NUL, of %d bytes in all with one more for each", MAX_ARGS,
            MAX_ARGS_BYTES);
        return;
    }
    orders_ask(rq, &(struct order){PEER_streammgr, "start", rq->app, answer_created}, &b);
}

static unsigned answer_stopped(struct request *rq, const bson_t *doc, struct buf *b)
{
    json_begin(b, NULL, '{');
    json_str(b, "instance_id", rq->instance_id);
    json_str(b, "app", json_get_str(doc, "app", NULL));
    json_i64(b, "desired", json_get_i64(doc, "desired", 0));
    json_bool(b, "app_stopped", json_get_bool(doc, "stopped", false));
    json_end(b, '}');
    return MHD_HTTP_OK;
}

void stop_instance(struct request *rq)
{
    AUTO_BUF struct buf b = {0};
    orders_begin(rq, "stop", &b);
    json_str(&b, "run_id", rq->instance_id);
    orders_ask(rq, &(struct order){PEER_streammgr, "stop", rq->instance_id, answer_stopped}, &b);
}

void start_app(struct request *rq)
{
    AUTO_BUF struct buf b = {0};
    orders_begin(rq, "start", &b);
    json_str(&b, "app", rq->app);
    orders_ask(rq, &(struct order){PEER_streammgr, "start", rq->app, answer_started}, &b);
}

static unsigned answer_app(struct request *rq, const bson_t *doc, struct buf *b)
{
    (void)doc;
    json_begin(b, NULL, '{');
    json_str(b, "app", rq->app);
    json_end(b, '}');
    return MHD_HTTP_OK;
}

void stop_app(struct request *rq)
{
    AUTO_BUF struct buf b = {0};
    orders_begin(rq, "stop", &b);
    json_str(&b, "app", rq->app);
    orders_ask(rq, &(struct order){PEER_streammgr, "stop", rq->app, answer_app}, &b);
}

/* As `mysimbdp app scale`: with none wanted a message may start one; :stop prevents that. */
void scale_app(struct request *rq)
{
    AUTO_BUF struct buf b = {0};
    AUTO_BSON bson_t *doc = rq->body.n ? json_parse(rq->body.p, rq->body.n, NULL) : NULL;
    bson_iter_t count;
    bool there = only_key(doc, "count", &count), automatic = there && BSON_ITER_HOLDS_NULL(&count);
    if (!there || (!automatic && (!BSON_ITER_HOLDS_INT(&count) || bson_iter_as_int64(&count) < 0))) {
        request_refuse(rq, "bad_request", "the body is {\"count\":N}, or {\"count\":null} where the platform is to decide");
        return;
    }
    orders_begin(rq, "scale", &b);
    json_str(&b, "app", rq->app);
    if (!automatic)
        json_i64(&b, "count", bson_iter_as_int64(&count));
    json_bool(&b, "pin", !automatic && bson_iter_as_int64(&count) > 0);
    orders_ask(rq, &(struct order){PEER_streammgr, "scale", rq->app, answer_app}, &b);
}

/* ---- how an app did, of the monitor ---- */

void get_history(struct request *rq)
{
    AUTO_BUF struct buf b = {0};
    const char *since = uri_field(&rq->uri, "since");
    int64_t since_ms = 0;
    if (since && clk_parse_since(since, &since_ms) < 0) {
        request_refuse(rq, "bad_request", "since is a time like 2026-01-31T12:00:00Z, or how long ago, like 30m or 6h");
        return;
    }
    orders_begin(rq, "past", &b);
    json_str(&b, "app", rq->app);
    json_i64(&b, "since_ms", since_ms);
    orders_ask(rq, &(struct order){PEER_monitor, NULL, NULL, orders_pass_on}, &b);
}
