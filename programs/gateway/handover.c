#include "handover.h"
#include "gateway.h"
#include "orders.h"
#include "request.h"

#include "base/crash.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>

struct giving {
    struct request *rq;
    struct handover what;
    struct spool_file *file;
    int64_t size;
    pool_answer_fn *done;
    void *arg;
};

static void add_what(const struct request *rq, const struct handover *what, const char *op, struct buf *b)
{
    json_begin(b, NULL, '{');
    json_str(b, "op", op);
    json_str(b, "tenant_id", rq->tenant);
    json_str(b, "dataset", what->dataset);
    json_str(b, "name", what->name);
    json_str(b, "account", rq->who.name);
    if (what->app)
        json_str(b, "app", what->app);
}

bool handover_check(struct request *rq, const struct handover *what, int64_t size, pool_answer_fn *fn, void *arg)
{
    AUTO_BUF struct buf b = {0};
    add_what(rq, what, "upload_check", &b);
    if (size >= 0)
        json_i64(&b, "size", size);
    json_end(&b, '}');
    if (pool_ask(rq->g->peers[PEER_batchmgr], b.p, b.n, fn, arg))
        request_wait(rq);
    else
        orders_refuse(rq, NULL);
    return !rq->answered;
}

static void finish(struct giving *g, const bson_t *doc)
{
    struct giving it = *g;
    free(g);
    if (!doc && !it.rq->answered)
        orders_refuse(it.rq, NULL);
    it.done(it.arg, doc);
}

static void on_answer(void *arg, const bson_t *doc)
{
    struct giving *g = arg;
    crash_at(CRASH_gateway_handed_in);
    bool ok = doc && json_get_bool(doc, "ok", false), again = ok && json_get_bool(doc, "again", false);
    if (!doc || ok)
        spool_give_away(g->file);
    if (!again)
        orders_audit(g->rq, "upload", ok ? json_get_str(doc, "file_id", "") : g->what.name,
                     ok    ? "ok"
                     : doc ? json_get_str(doc, "code", "refused")
                           : "unavailable");
    finish(g, doc);
}

static void offer(struct giving *g)
{
    struct request *rq = g->rq;
    AUTO_BUF struct buf b = {0};
    AUTO_FREE char *trace = g->what.trace ? NULL : request_trace(rq);
    add_what(rq, &g->what, "hand_in", &b);
    json_str(&b, "trace", g->what.trace ? g->what.trace : trace);
    json_i64(&b, "size", g->size);
    json_bool(&b, "force", g->what.force);
    json_str(&b, "spool", spool_name(g->file));
    if (g->what.key)
        json_str(&b, "idempotency_key", g->what.key);
    json_end(&b, '}');
    if (!pool_ask(rq->g->peers[PEER_batchmgr], b.p, b.n, on_answer, g)) {
        orders_refuse(rq, NULL);
        finish(g, NULL);
    }
}

static void on_synced(void *arg, int r)
{
    struct giving *g = arg;
    if (r == 0) {
        crash_at(CRASH_gateway_synced);
        spool_end(g->file);
        offer(g);
        return;
    }
    log_error("spool", g->rq->tenant, NULL, "an upload cannot be synced: %s", err_text(r));
    request_refuse_for(g->rq, "disk_low", 60, "the upload cannot be written");
    finish(g, NULL);
}

void handover_give(struct request *rq, const struct handover *what, struct spool_file *file, int64_t size, pool_answer_fn *done,
                   void *arg)
{
    struct giving *g = xmalloc(sizeof *g);
    *g = (struct giving){rq, *what, file, size, done, arg};
    request_wait(rq);
    crash_at(CRASH_gateway_spooled);
    spool_sync(file, on_synced, g); /* of one that an earlier gateway completed, its name */
}

void handover_answer(struct request *rq, const struct handover *what, int64_t size, const bson_t *doc, unsigned status)
{
    struct buf b = {0};
    const char *id = json_get_str(doc, "file_id", "");
    bool again = json_get_bool(doc, "again", false);
    if (!json_get_bool(doc, "ok", false)) {
        orders_refuse(rq, doc);
        return;
    }
    json_begin(&b, NULL, '{');
    json_str(&b, "file_id", id);
    json_str(&b, "tenant_id", rq->tenant);
    json_str(&b, "dataset", what->dataset);
    json_str(&b, "file_name", what->name);
    json_i64(&b, "size_bytes", size);
    json_str(&b, "state", "received");
    json_end(&b, '}');
    AUTO_FREE char *location = xasprintf("/v1/tenants/%s/files/%s", rq->tenant, id);
    if (status)
        buf_fini(&b);
    request_answer(rq, status ? status : again ? MHD_HTTP_OK : MHD_HTTP_CREATED, NULL, &b);
    request_add_header(rq, status ? "Content-Location" : MHD_HTTP_HEADER_LOCATION, location);
}
