/* PUT of a file: whether it may come is asked before its first byte, and what comes is written to the spool. When all of it is
 * there and has the digest that was said, it is synced and handed to batchmgr; once that has a durable row, the client is answered.
 * A client that goes away, or a gateway that is killed, before that leaves a file in the spool that nobody knows, and that is
 * removed. */
#include "digest.h"
#include "gateway.h"
#include "handlers.h"
#include "handover.h"
#include "orders.h"
#include "places.h"
#include "request.h"
#include "spool.h"

#include "base/crash.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <string.h>

struct upload {
    struct request *rq;
    struct place *place;
    struct digest *digest;
    struct spool_file *file;
    struct handover what;
    int64_t max_bytes; /* negative: no bound */
    bool given;        /* batchmgr answered */
};

static void upload_free(struct request *rq)
{
    struct upload *u = rq->data;
    if (u->given)
        crash_at(CRASH_gateway_answered);
    place_leave(u->place);
    digest_free(u->digest);
    spool_free(u->file);
    free(u);
}

/* ---- before ---- */

/* False: it was answered. */
static bool read_header(struct upload *u)
{
    struct request *rq = u->rq;
    const char *force = uri_field(&rq->uri, "force"), *encoding = request_header(rq, MHD_HTTP_HEADER_CONTENT_ENCODING);
    u->what = (struct handover){.dataset = rq->dataset,
                                .name = rq->name,
                                .app = uri_field(&rq->uri, "app"),
                                .force = force && strcmp(force, "0") && strcmp(force, "false")};
    if (encoding && strcmp(encoding, "identity"))
        request_refuse(rq, "unsupported_media_type",
                       "send a compressed file as it is, named .gz or .zst, without Content-Encoding");
    else if (!rq->has_length)
        request_refuse(rq, "length_required",
                       "say Content-Length, or send chunks: a body that ends with its connection may be cut");
    else if (request_header(rq, MHD_HTTP_HEADER_CONTENT_RANGE))
        request_refuse(rq, "bad_request", "parts of a file are sent by the tus protocol (/v1/openapi.yaml)");
    else if (request_key(rq, &u->what.key) && !digest_parse(request_header(rq, "Content-Digest"), &u->digest))
        request_refuse(rq, "bad_request", "Content-Digest is malformed, or has neither sha-256 nor sha-512 (RFC 9530)");
    return !rq->answered;
}

static void on_checked(void *arg, const bson_t *doc)
{
    struct upload *u = arg;
    struct request *rq = u->rq;
    struct err e = {0};
    if (!doc || !json_get_bool(doc, "ok", false)) {
        orders_refuse(rq, doc);
    } else if (spool_create(rq->g->spool, &u->file, &e) < 0) {
        log_error("spool", rq->tenant, NULL, "%s", e.msg);
        request_refuse_for(rq, "disk_low", 60, "the upload cannot be written");
    } else {
        u->max_bytes = json_get_i64(doc, "max_bytes", -1);
    }
    request_go_on(rq);
}

void upload_begin(struct request *rq)
{
    struct upload *u = xcalloc(1, sizeof *u);
    *u = (struct upload){.rq = rq, .max_bytes = -1};
    rq->data = u;
    rq->free_data = upload_free;
    if (!read_header(u))
        return;
    u->place = place_take(rq);
    if (u->place)
        handover_check(rq, &u->what, rq->length, on_checked, u);
}

/* ---- meanwhile ---- */

void upload_body(struct request *rq, const char *p, size_t n)
{
    struct upload *u = rq->data;
    if (u->max_bytes >= 0 && rq->received > u->max_bytes) {
        request_refuse(rq, "max_file_bytes", "more than %lld bytes came; so many are allowed", (long long)u->max_bytes);
        return;
    }
    digest_add(u->digest, p, n);
    int r = spool_write(u->file, p, n);
    if (r == 0)
        return;
    log_error("spool", rq->tenant, NULL, "an upload cannot be written: %s", err_text(r));
    request_refuse_for(rq, r == -ENOSPC || r == -EDQUOT ? "disk_low" : "internal", 60, "the upload cannot be written");
}

/* ---- behind it ---- */

static void on_given(void *arg, const bson_t *doc)
{
    struct upload *u = arg;
    u->given = doc != NULL;
    if (doc)
        handover_answer(u->rq, &u->what, u->rq->received, doc, 0);
    request_go_on(u->rq);
}

void upload_end(struct request *rq)
{
    struct upload *u = rq->data;
    if (!digest_fits(u->digest)) {
        request_refuse(rq, "digest", "what came is not what Content-Digest says; nothing of it is kept");
        return;
    }
    handover_give(rq, &u->what, u->file, rq->received, on_given, u);
}
