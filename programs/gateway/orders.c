#include "orders.h"
#include "handlers.h"
#include "pool.h"
#include "problem.h"
#include "request.h"

#include "base/crash.h"
#include "base/log.h"
#include "base/mem.h"

#include <string.h>

struct asked {
    struct request *rq;
    struct order order;
};

/* A program's words for people, without what only the provider can do about it. */
static int length_for_tenants(const char *error)
{
    const char *hint = strstr(error, "; `mysimbdp ");
    return hint ? (int)(hint - error) : (int)strlen(error);
}

void orders_refuse(struct request *rq, const bson_t *doc)
{
    if (!doc) {
        request_refuse_for(rq, "unavailable", 1, "the program that does this does not answer; it is being started again");
        return;
    }
    const char *code = json_get_str(doc, "code", "unprocessable"), *error = json_get_str(doc, "error", "");
    int64_t after = json_get_i64(doc, "retry_after_s", 0);
    if (problem_status(code) == 500 && strcmp(code, "internal"))
        code = "unprocessable";
    if (after > 0)
        request_refuse_for(rq, code, after, "%.*s", length_for_tenants(error), error);
    else
        request_refuse(rq, code, "%.*s", length_for_tenants(error), error);
}

static void on_audited(void *arg, int code, const bson_t *doc, const char *body, size_t n)
{
    (void)arg;
    (void)body;
    (void)n;
    if (code < 0 || !json_get_bool(doc, "added", false))
        log_error("audit", NULL, NULL, "what an account changed could not be added to logs/audit.jsonl");
}

void orders_audit(const struct request *rq, const char *what, const char *subject, const char *outcome)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_str(&b, "ticket", rq->ticket);
    json_str(&b, "account", rq->who.name);
    json_str(&b, "what", what);
    json_str(&b, "tenant_id", rq->tenant);
    json_str(&b, "subject", subject);
    json_str(&b, "outcome", outcome);
    json_str(&b, "address", rq->address);
    json_end(&b, '}');
    if (keeper_ask(rq->g->keepers[KEEPER_OF_AUDIT], KEEPER_AUDIT, b.p, b.n, on_audited, NULL) < 0)
        on_audited(NULL, -1, NULL, "", 0);
}

static unsigned answer_count(struct request *rq, const bson_t *doc, struct buf *b)
{
    (void)rq;
    json_begin(b, NULL, '{');
    json_i64(b, "n", json_get_i64(doc, "n", 1));
    json_end(b, '}');
    return MHD_HTTP_OK;
}

unsigned orders_pass_on(struct request *rq, const bson_t *doc, struct buf *b)
{
    bson_t rest = BSON_INITIALIZER;
    (void)rq;
    bson_copy_to_excluding_noinit(doc, &rest, "ok", NULL);
    json_from_bson(&rest, b);
    bson_destroy(&rest);
    return MHD_HTTP_OK;
}

static void on_answer(void *arg, const bson_t *doc)
{
    AUTO_FREE struct asked *a = arg;
    struct request *rq = a->rq;
    AUTO_BUF struct buf b = {0};
    bool ok = doc && json_get_bool(doc, "ok", false);
    if (a->order.what)
        crash_at(CRASH_order_done);
    if (a->order.what)
        orders_audit(rq, a->order.what, a->order.subject, ok ? "ok" : doc ? json_get_str(doc, "code", "refused") : "unavailable");
    if (ok) {
        unsigned status = a->order.answer(rq, doc, &b);
        request_answer(rq, status, NULL, &b);
    } else {
        orders_refuse(rq, doc);
    }
    request_go_on(rq);
}

void orders_begin(const struct request *rq, const char *op, struct buf *b)
{
    json_begin(b, NULL, '{');
    json_str(b, "op", op);
    json_str(b, "tenant_id", rq->tenant);
    json_str(b, "account", rq->who.name);
}

void orders_ask(struct request *rq, const struct order *order, struct buf *b)
{
    json_end(b, '}');
    struct asked *a = xmalloc(sizeof *a);
    *a = (struct asked){rq, *order};
    if (pool_ask(rq->g->peers[order->peer], b->p, b->n, on_answer, a)) {
        request_wait(rq);
        return;
    }
    free(a);
    orders_refuse(rq, NULL);
}

/* ---- batchmgr's ---- */

/* op with up to one more field. */
static void order(struct request *rq, const char *op, const char *field, const char *value)
{
    AUTO_BUF struct buf b = {0};
    orders_begin(rq, op, &b);
    if (field)
        json_str(&b, field, value);
    orders_ask(rq, &(struct order){PEER_batchmgr, op, value, answer_count}, &b);
}

void post_begin(struct request *rq)
{
    (void)rq;
}

void retry_all(struct request *rq)
{
    order(rq, "retry", NULL, NULL);
}

void retry_file(struct request *rq)
{
    order(rq, "retry", "file_id", rq->file_id);
}

void delete_file(struct request *rq)
{
    order(rq, "delete", "file_id", rq->file_id);
}

void stop_run(struct request *rq)
{
    order(rq, "stop", "run_id", rq->run_id);
}

void run_app(struct request *rq)
{
    order(rq, "run", "app", rq->app);
}
