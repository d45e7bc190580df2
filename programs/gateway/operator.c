/* What an operator orders: the store's keeper (programs/keeper/store.h) has the command line do it, which adds it to the audit log.
 * The keeper looks itself who may; no program of the platform takes such an order from the gateway. */
#include "handlers.h"
#include "orders.h"
#include "request.h"
#include "store_job.h"

#include "base/mem.h"

#include <string.h>

struct ordered {
    struct store_job job;
    void (*answer)(struct request *rq, const bson_t *doc);
};

static void ordered_free(struct request *rq)
{
    struct ordered *o = rq->data;
    store_job_fini(&o->job);
    free(o);
}

static void on_done(void *arg, const bson_t *doc)
{
    struct ordered *o = arg;
    if (doc)
        o->answer(o->job.rq, doc);
    else
        orders_refuse(o->job.rq, NULL);
    request_go_on(o->job.rq);
}

static void on_late(void *arg)
{
    struct ordered *o = arg;
    request_refuse_for(o->job.rq, "unavailable", 5, "it takes long, and goes on; ask again");
    request_go_on(o->job.rq);
}

static void on_ordered(void *arg, int code, const bson_t *doc, const char *body, size_t n)
{
    struct ordered *o = arg;
    (void)body;
    (void)n;
    if (code == 0 && json_get_bool(doc, "ok", false)) {
        store_job_follow(&o->job, json_get_str(doc, "job", ""));
        return;
    }
    orders_refuse(o->job.rq, code < 0 ? NULL : doc);
    request_go_on(o->job.rq);
}

static void order(struct request *rq, const char *verb, void (*answer)(struct request *rq, const bson_t *doc))
{
    AUTO_BUF struct buf b = {0};
    struct ordered *o = xcalloc(1, sizeof *o);
    *o = (struct ordered){.job = {.rq = rq, .done = on_done, .late = on_late, .arg = o}, .answer = answer};
    rq->data = o;
    rq->free_data = ordered_free;
    store_begin(rq, verb, &b);
    json_str(&b, "address", rq->address);
    if (store_ask(rq, &b, on_ordered, o))
        request_wait(rq);
}

/* ---- tenants ---- */

static void answer_state(struct request *rq, const bson_t *doc)
{
    struct buf b = {0};
    if (!json_get_bool(doc, "ok", false)) {
        orders_refuse(rq, doc);
        return;
    }
    request_answer(rq, orders_pass_on(rq, doc, &b), NULL, &b);
}

void suspend_tenant(struct request *rq)
{
    order(rq, "suspend", answer_state);
}

void resume_tenant(struct request *rq)
{
    order(rq, "resume", answer_state);
}

/* ---- the audit log ---- */

static void answer_verification(struct request *rq, const bson_t *doc)
{
    struct buf b = {0};
    bson_iter_t it;
    bson_t head;
    const bool whole = json_get_bool(doc, "ok", false);
    if (!whole && strcmp(json_get_str(doc, "code", ""), "damaged") != 0) {
        orders_refuse(rq, doc);
        return;
    }
    const bool has_head = bson_iter_init_find(&it, doc, "head") && json_iter_doc(&it, &head);
    json_begin(&b, NULL, '{');
    json_bool(&b, "whole", whole);
    json_i64_or_null(&b, "records", json_get_i64(doc, "records", -1));
    json_i64_or_null(&b, "first", json_get_i64(doc, "first", -1));
    json_i64_or_null(&b, "last", has_head ? json_get_i64(&head, "seq", -1) : -1);
    json_str(&b, "hash", has_head ? json_get_str(&head, "hash", NULL) : NULL);
    json_str(&b, "detail", json_get_str(doc, "error", NULL));
    json_end(&b, '}');
    request_answer(rq, MHD_HTTP_OK, NULL, &b);
}

void get_audit_verification(struct request *rq)
{
    order(rq, "verify_audit", answer_verification);
}
