/* Versions of apps, and what tenants configure themselves. An upload is streamed into the spool as a file is; when all of it is
 * there, the store's keeper (programs/keeper/store.h) has another program look at it, and the client is answered when that is done,
 * or told after a while that it goes on. The keeper looks itself who may do it: each request to it carries the ticket of the
 * login. */
#include "digest.h"
#include "gateway.h"
#include "handlers.h"
#include "login.h"
#include "orders.h"
#include "places.h"
#include "request.h"
#include "spool.h"
#include "store_job.h"

#include "base/clk.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <string.h>

enum { TICKET_MS = 30000 /* one that is older is not used any more */ };
enum { TAG_SIZE = 66 /* of an ETag: SHA-256 in hex, quoted */ };

struct store {
    struct request *rq;
    struct place *place;
    struct digest *digest;
    struct spool_file *file;
    struct store_job job;
    bool configures; /* else it is a version */
    bool activate;
    char *if_match; /* of a configuration: the SHA-256 that the present one has to have; NULL: any */
    int64_t max_bytes;
};

static void store_free(struct request *rq)
{
    struct store *v = rq->data;
    store_job_fini(&v->job);
    place_leave(v->place);
    digest_free(v->digest);
    spool_free(v->file);
    free(v->if_match);
    free(v);
}

/* ---- before the first byte ---- */

static void on_checked(void *arg, int code, const bson_t *doc, const char *body, size_t n)
{
    struct store *v = arg;
    struct request *rq = v->rq;
    struct err e = {0};
    (void)body;
    (void)n;
    if (code < 0 || !json_get_bool(doc, "ok", false)) {
        orders_refuse(rq, code < 0 ? NULL : doc);
    } else if (spool_create(rq->g->spool, &v->file, &e) < 0) {
        log_error("spool", rq->tenant, NULL, "%s", e.msg);
        request_refuse_for(rq, "disk_low", 60, "the upload cannot be written");
    } else {
        v->max_bytes = json_get_i64(doc, "max_bytes", 0);
    }
    request_go_on(rq);
}

/* One entity tag of ours, or that there is none (RFC 9110, 13.1). False: it was answered. */
static bool read_match(struct store *v)
{
    const char *match = request_header(v->rq, MHD_HTTP_HEADER_IF_MATCH),
               *none = request_header(v->rq, MHD_HTTP_HEADER_IF_NONE_MATCH);
    size_t n = match ? strlen(match) : 0;
    if (none && !strcmp(none, "*") && !match)
        v->if_match = xstrdup("");
    else if (n == TAG_SIZE && match[0] == '"' && match[n - 1] == '"' && strspn(match + 1, "0123456789abcdef") == n - 2)
        v->if_match = xstrndup(match + 1, n - 2);
    else if (match || none)
        request_refuse(v->rq, "bad_request", "If-Match has one entity tag as GET gives it; or there is If-None-Match: *");
    return !v->rq->answered;
}

/* False: it was answered. */
static bool read_header(struct store *v)
{
    struct request *rq = v->rq;
    const char *activate = uri_field(&rq->uri, "activate"), *encoding = request_header(rq, MHD_HTTP_HEADER_CONTENT_ENCODING);
    v->activate = activate && strcmp(activate, "0") && strcmp(activate, "false");
    if (encoding && strcmp(encoding, "identity"))
        request_refuse(rq, "unsupported_media_type", "send an archive as it is, without Content-Encoding");
    else if (!rq->has_length)
        request_refuse(rq, "length_required",
                       "say Content-Length, or send chunks: a body that ends with its connection may be cut");
    else if (!digest_parse(request_header(rq, "Content-Digest"), &v->digest))
        request_refuse(rq, "bad_request", "Content-Digest is malformed, or has neither sha-256 nor sha-512 (RFC 9530)");
    return !rq->answered && (!v->configures || read_match(v));
}

static void begin(struct request *rq, bool configures)
{
    AUTO_BUF struct buf b = {0};
    struct store *v = xcalloc(1, sizeof *v);
    *v = (struct store){.rq = rq, .configures = configures};
    rq->data = v;
    rq->free_data = store_free;
    if (!read_header(v))
        return;
    v->place = place_take(rq);
    if (!v->place)
        return;
    store_begin(rq, configures ? "check_configuration" : "check", &b);
    if (rq->length >= 0)
        json_i64(&b, "size", rq->length);
    if (store_ask(rq, &b, on_checked, v))
        request_wait(rq);
}

void version_begin(struct request *rq)
{
    begin(rq, false);
}

void configuration_begin(struct request *rq)
{
    begin(rq, true);
}

/* ---- meanwhile ---- */

void store_body(struct request *rq, const char *p, size_t n)
{
    struct store *v = rq->data;
    if (rq->received > v->max_bytes) {
        request_refuse(rq, v->configures ? "too_large" : "max_app_bytes", "more than %lld bytes came; so many are allowed",
                       (long long)v->max_bytes);
        return;
    }
    digest_add(v->digest, p, n);
    int r = spool_write(v->file, p, n);
    if (r == 0)
        return;
    log_error("spool", rq->tenant, NULL, "an upload cannot be written: %s", err_text(r));
    request_refuse_for(rq, r == -ENOSPC || r == -EDQUOT ? "disk_low" : "internal", 60, "the upload cannot be written");
}

/* ---- behind it ---- */

static void finish_configuration(struct store *v, const bson_t *doc)
{
    struct request *rq = v->rq;
    struct buf b = {0};
    bool ok = doc && json_get_bool(doc, "ok", false);
    orders_audit(rq, "configure", NULL, ok ? "ok" : doc ? json_get_str(doc, "code", "refused") : "unavailable");
    if (!ok) {
        orders_refuse(rq, doc);
        request_go_on(rq);
        return;
    }
    const char *hash = json_get_str(doc, "sha256", "");
    AUTO_FREE char *tag = xasprintf("\"%s\"", hash);
    json_begin(&b, NULL, '{');
    json_str(&b, "sha256", hash);
    json_end(&b, '}');
    request_answer(rq, MHD_HTTP_OK, NULL, &b);
    request_add_header(rq, MHD_HTTP_HEADER_ETAG, tag);
    request_go_on(rq);
}

static void finish_version(struct store *v, const bson_t *doc)
{
    struct request *rq = v->rq;
    struct buf b = {0};
    bson_iter_t it;
    bson_t pushed;
    bool ok = doc && json_get_bool(doc, "ok", false) && bson_iter_init_find(&it, doc, "pushed") && json_iter_doc(&it, &pushed);
    const char *version = ok ? json_get_str(&pushed, "version", "") : "";
    AUTO_FREE char *subject = xasprintf("%s/%s", rq->app, version);
    orders_audit(rq, "app_push", ok ? subject : rq->app, ok ? "ok" : doc ? json_get_str(doc, "code", "refused") : "unavailable");
    if (!ok) {
        orders_refuse(rq, doc);
        request_go_on(rq);
        return;
    }
    AUTO_BUF struct buf text = {0};
    AUTO_FREE char *location = xasprintf("/v1/tenants/%s/apps/%s/versions/%s", rq->tenant, rq->app, version);
    json_from_bson(&pushed, &text);
    json_begin(&b, NULL, '{');
    json_str(&b, "app", rq->app);
    buf_adds(&b, ",");
    buf_add(&b, text.p + 1, text.n - 1);
    request_answer(rq, json_get_bool(doc, "again", false) ? MHD_HTTP_OK : MHD_HTTP_CREATED, NULL, &b);
    request_add_header(rq, MHD_HTTP_HEADER_LOCATION, location);
    request_go_on(rq);
}

static void finish(void *arg, const bson_t *doc)
{
    struct store *v = arg;
    if (v->configures)
        finish_configuration(v, doc);
    else
        finish_version(v, doc);
}

static void answer_later(void *arg)
{
    struct store *v = arg;
    struct request *rq = v->rq;
    struct buf b = {0};
    AUTO_FREE char *location = v->configures ? xasprintf("/v1/tenants/%s/configuration", rq->tenant)
                                             : xasprintf("/v1/tenants/%s/apps/%s/versions", rq->tenant, rq->app);
    orders_audit(rq, v->configures ? "configure" : "app_push", rq->app, "building");
    json_begin(&b, NULL, '{');
    json_str(&b, "app", rq->app);
    json_str(&b, "state", "building");
    json_end(&b, '}');
    request_answer(rq, MHD_HTTP_ACCEPTED, NULL, &b);
    request_add_header(rq, MHD_HTTP_HEADER_LOCATION, location);
    request_go_on(rq);
}

static void on_pushed(void *arg, int code, const bson_t *doc, const char *body, size_t n)
{
    struct store *v = arg;
    (void)body;
    (void)n;
    if (code < 0 || !json_get_bool(doc, "ok", false)) {
        finish(v, code < 0 ? NULL : doc);
        return;
    }
    AUTO_FREE char *job = xstrdup(spool_name(v->file));
    spool_give_away(v->file);
    v->job = (struct store_job){.rq = v->rq, .done = finish, .late = answer_later, .arg = v};
    store_job_follow(&v->job, job);
}

static void offer(struct request *rq)
{
    struct store *v = rq->data;
    AUTO_BUF struct buf b = {0};
    store_begin(rq, v->configures ? "configure" : "push", &b);
    json_str(&b, "spool", spool_name(v->file));
    json_bool(&b, "activate", v->activate);
    if (v->if_match)
        json_str(&b, "if_match", v->if_match);
    if (!store_ask(rq, &b, on_pushed, v))
        request_go_on(rq);
}

static void on_synced(void *arg, int r)
{
    struct store *v = arg;
    struct request *rq = v->rq;
    if (r < 0) {
        log_error("spool", rq->tenant, NULL, "an upload cannot be synced: %s", err_text(r));
        request_refuse_for(rq, "disk_low", 60, "the upload cannot be written");
        request_go_on(rq);
        return;
    }
    spool_end(v->file);
    if (clk_now_us() / 1000 - rq->began_us / 1000 > TICKET_MS)
        login_again(rq, offer);
    else
        offer(rq);
}

void store_end(struct request *rq)
{
    struct store *v = rq->data;
    if (!digest_fits(v->digest)) {
        request_refuse(rq, "digest", "what came is not what Content-Digest says; nothing of it is kept");
        return;
    }
    request_wait(rq);
    spool_sync(v->file, on_synced, v);
}

/* ---- which one is active ---- */

static void on_changed(void *arg, int code, const bson_t *doc, const char *body, size_t n)
{
    struct request *rq = arg;
    struct buf b = {0};
    (void)body;
    (void)n;
    bool ok = code == 0 && json_get_bool(doc, "ok", false);
    AUTO_FREE char *subject = xasprintf("%s/%s", rq->app, rq->version ? rq->version : ok ? json_get_str(doc, "version", "") : "");
    orders_audit(rq, rq->data, subject, ok ? "ok" : code < 0 ? "unavailable" : json_get_str(doc, "code", "refused"));
    if (!ok) {
        orders_refuse(rq, code < 0 ? NULL : doc);
    } else {
        json_begin(&b, NULL, '{');
        json_str(&b, "app", rq->app);
        json_str(&b, "version", json_get_str(doc, "version", NULL));
        json_str(&b, "previous", json_get_str(doc, "previous", NULL));
        json_end(&b, '}');
        request_answer(rq, MHD_HTTP_OK, NULL, &b);
    }
    request_go_on(rq);
}

static void change(struct request *rq, const char *verb, const char *audited)
{
    AUTO_BUF struct buf b = {0};
    rq->data = (void *)audited; /* nothing to free */
    store_begin(rq, verb, &b);
    if (rq->version)
        json_str(&b, "version", rq->version);
    if (store_ask(rq, &b, on_changed, rq))
        request_wait(rq);
}

void version_activate(struct request *rq)
{
    change(rq, "activate", "app_activate");
}

void version_delete(struct request *rq)
{
    change(rq, "remove", "app_remove");
}

void app_rollback(struct request *rq)
{
    change(rq, "rollback", "app_rollback");
}
