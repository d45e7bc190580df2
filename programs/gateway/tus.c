/* Resumable uploads: tus 1.0.0 (https://tus.io/protocols/resumable-upload) with the extensions creation, expiration, checksum and
 * termination. What a PATCH was answered for is durable; the rest of a cut one is taken back, when it has a checksum, or kept. The
 * answer to the PATCH that completes the file says where that is (Content-Location), once batchmgr has it. */
#include "gateway.h"
#include "handlers.h"
#include "handover.h"
#include "orders.h"
#include "request.h"
#include "resumable.h"

#include "base/clk.h"
#include "base/crash.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TUS_VERSION    "1.0.0"
#define TUS_EXTENSIONS "creation,expiration,checksum,termination"
#define TUS_ALGORITHMS "sha1,sha256,sha512"

enum { MAX_METADATA = 4096, MAX_VALUE = 1024, DIGEST_MAX = 64 };

/* ---- headers ---- */

static void add_number(struct request *rq, const char *name, int64_t n)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)n);
    request_add_header(rq, name, text);
}

static void add_expiry(struct request *rq, const struct resumable *r)
{
    char text[64];
    time_t at = (time_t)(r->expires_ms / 1000);
    struct tm tm;
    gmtime_r(&at, &tm);
    strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    request_add_header(rq, "Upload-Expires", text);
}

static void add_location(struct request *rq, const struct resumable *r)
{
    AUTO_FREE char *location = xasprintf("/v1/tenants/%s/uploads/%s", rq->tenant, r->id);
    request_add_header(rq, MHD_HTTP_HEADER_LOCATION, location);
}

static void answer_empty(struct request *rq, unsigned status)
{
    request_answer(rq, status, NULL, &(struct buf){0});
    request_add_header(rq, "Tus-Resumable", TUS_VERSION);
}

static bool read_number(const struct request *rq, const char *name, int64_t *ret)
{
    const char *text = request_header(rq, name);
    size_t n = text ? strspn(text, "0123456789") : 0;
    if (!n || n > 18 || text[n])
        return false;
    *ret = atoll(text);
    return true;
}

/* False: it was answered. */
static bool is_ours(struct request *rq)
{
    const char *version = request_header(rq, "Tus-Resumable");
    if (version && !strcmp(version, TUS_VERSION))
        return true;
    request_refuse(rq, "tus_version", "Tus-Resumable: " TUS_VERSION " is spoken here");
    request_add_header(rq, "Tus-Version", TUS_VERSION);
    return false;
}

void tus_options(struct request *rq)
{
    answer_empty(rq, MHD_HTTP_NO_CONTENT);
    request_add_header(rq, "Tus-Version", TUS_VERSION);
    request_add_header(rq, "Tus-Extension", TUS_EXTENSIONS);
    request_add_header(rq, "Tus-Checksum-Algorithm", TUS_ALGORITHMS);
}

/* ---- creation ---- */

struct creation {
    struct request *rq;
    char values[4][MAX_VALUE]; /* of metadata */
    bool has[4];
    int64_t length;
    struct handover what;
};
enum { META_filename, META_dataset, META_app, META_force };
static const char *const meta_names[] = {"filename", "dataset", "app", "force"};

/* Upload-Metadata: `key base64, key base64, key`. Others' keys are passed over. */
static bool read_metadata(struct creation *c, const char *field)
{
    char copy[MAX_METADATA], *save = NULL;
    if (strlen(field) >= sizeof copy)
        return false;
    snprintf(copy, sizeof copy, "%s", field);
    for (char *at = strtok_r(copy, ",", &save); at; at = strtok_r(NULL, ",", &save)) {
        at += strspn(at, " ");
        char *value = strchr(at, ' ');
        size_t n = 0;
        if (value)
            *value++ = 0;
        for (size_t i = 0; i < sizeof meta_names / sizeof *meta_names; i++) {
            if (strcmp(at, meta_names[i]))
                continue;
            if (c->has[i] || (value && sodium_base642bin((unsigned char *)c->values[i], MAX_VALUE - 1, value, strlen(value), NULL,
                                                         &n, NULL, sodium_base64_VARIANT_ORIGINAL)))
                return false;
            c->values[i][n] = 0;
            if (strlen(c->values[i]) != n || !utf8_valid(c->values[i], n))
                return false;
            c->has[i] = true;
        }
    }
    return c->has[META_filename] && c->has[META_dataset];
}

static void creation_free(struct request *rq)
{
    free(rq->data);
}

static void hand_in_empty(struct request *rq, struct resumable *r);

static void create(struct creation *c)
{
    struct request *rq = c->rq;
    AUTO_FREE char *trace = request_trace(rq);
    struct resumable *r, what = {.account = rq->who.name,
                                 .tenant = (char *)rq->tenant,
                                 .dataset = c->values[META_dataset],
                                 .name = c->values[META_filename],
                                 .app = c->has[META_app] ? c->values[META_app] : NULL,
                                 .trace = trace ? trace : "",
                                 .force = c->what.force,
                                 .length = c->length};
    struct err e = {0};
    if (resumable_new(rq->g->resumables, &what, &r, &e) < 0) {
        log_error("spool", rq->tenant, NULL, "%s", e.msg);
        request_refuse_for(rq, "disk_low", 60, "the upload cannot be written");
        request_go_on(rq);
        return;
    }
    if (r->length == 0) {
        creation_free(rq);
        hand_in_empty(rq, r);
        return;
    }
    answer_empty(rq, MHD_HTTP_CREATED);
    add_location(rq, r);
    add_expiry(rq, r);
    request_go_on(rq);
}

static void on_checked(void *arg, const bson_t *doc)
{
    struct creation *c = arg;
    if (doc && json_get_bool(doc, "ok", false)) {
        create(c);
        return;
    }
    orders_refuse(c->rq, doc);
    request_go_on(c->rq);
}

void tus_create(struct request *rq)
{
    const char *metadata = request_header(rq, "Upload-Metadata");
    int64_t most = rq->g->conf->platform.http.uploads;
    struct creation *c = xcalloc(1, sizeof *c);
    c->rq = rq;
    rq->data = c;
    rq->free_data = creation_free;
    if (!is_ours(rq))
        return;
    if (most >= 0)
        resumable_make_room(rq->g->resumables, rq->who.name, (size_t)most);
    if (!read_number(rq, "Upload-Length", &c->length))
        request_refuse(rq, "length_required", "Upload-Length has to say how many bytes will come");
    else if (!metadata || !read_metadata(c, metadata))
        request_refuse(rq, "bad_request", "Upload-Metadata has to have filename and dataset, in base64");
    else if (!account_may(&rq->who, VERB_upload, rq->tenant, c->values[META_dataset]))
        request_refuse(rq, "forbidden", "%s may not upload to this dataset", rq->who.name);
    else if (most >= 0 && resumable_count(rq->g->resumables, rq->who.name) >= (size_t)most)
        request_refuse_for(rq, "uploads", 60, "%lld uploads of this account are not complete (http.uploads)", (long long)most);
    if (rq->answered)
        return;
    c->what = (struct handover){.dataset = c->values[META_dataset],
                                .name = c->values[META_filename],
                                .app = c->has[META_app] ? c->values[META_app] : NULL,
                                .force = c->has[META_force] && strcmp(c->values[META_force], "0") &&
                                         strcmp(c->values[META_force], "false")};
    handover_check(rq, &c->what, c->length, on_checked, c);
}

/* ---- handing in ---- */

struct patch {
    struct request *rq;
    struct resumable *to; /* NULL: it is somebody else's, or gone */
    struct handover what;
    gnutls_hash_hd_t hash; /* NULL: no checksum was said */
    unsigned char said[DIGEST_MAX];
    size_t n_said;
    int64_t size;        /* of the file now */
    unsigned status;     /* when it was taken */
    char taken[ID_SIZE]; /* the upload that batchmgr has: it is known until its answer was sent */
};

/* Of one whose answer was cut the description stays until it expires: asked again (HEAD, PATCH), batchmgr says the same. Somebody
 * may be asking it just now; then it is his. */
static void forget(struct request *rq, const char *id)
{
    struct resumable *r = resumable_find(rq->g->resumables, rq->tenant, id);
    crash_at(CRASH_gateway_answered);
    if (rq->sent && r && !r->file)
        resumable_remove(rq->g->resumables, r);
}

/* What is not answered for is taken back where its checksum was not seen; else the client goes on behind it. */
static void patch_free(struct request *rq)
{
    struct patch *p = rq->data;
    struct resumable *r = p->to;
    if (r && r->file && !spool_has_ended(r->file)) {
        if (p->hash && p->size != r->offset)
            spool_cut(r->file, r->offset);
        else
            r->offset = p->size;
        spool_free(r->file);
        r->file = NULL;
    }
    if (*p->taken)
        forget(rq, p->taken);
    if (p->hash)
        gnutls_hash_deinit(p->hash, NULL);
    free(p);
}

static struct patch *patch_new(struct request *rq)
{
    struct patch *p = xcalloc(1, sizeof *p);
    p->rq = rq;
    rq->data = p;
    rq->free_data = patch_free;
    return p;
}

/* It is batchmgr's now, or nobody knows: no bytes of it are here any more. */
static void let_go(struct resumable *r)
{
    r->complete = true;
    spool_give_away(r->file);
    spool_free(r->file);
    r->file = NULL;
}

/* What batchmgr does not want is no upload any more. Where that is not known, the client asks again (HEAD), and batchmgr knows by
 * the key whether it has it. */
static void on_given(void *arg, const bson_t *doc)
{
    struct patch *p = arg;
    struct request *rq = p->rq;
    struct resumable *r = p->to;
    p->to = NULL;
    if (!doc) {
        let_go(r);
        request_go_on(rq);
        return;
    }
    handover_answer(rq, &p->what, r->length, doc, p->status);
    if (json_get_bool(doc, "ok", false)) {
        if (p->status == MHD_HTTP_CREATED) {
            add_location(rq, r);
            add_expiry(rq, r);
        } else {
            memcpy(p->taken, r->id, sizeof p->taken);
        }
        request_add_header(rq, "Tus-Resumable", TUS_VERSION);
        add_number(rq, "Upload-Offset", r->length);
        add_number(rq, "Upload-Length", r->length);
        r->taken = true;
        let_go(r);
    } else {
        resumable_remove(rq->g->resumables, r);
    }
    request_go_on(rq);
}

static void hand_in(struct patch *p, unsigned status)
{
    struct resumable *r = p->to;
    p->status = status;
    p->what = (struct handover){
        .dataset = r->dataset, .name = r->name, .app = r->app, .trace = r->trace, .key = r->id, .force = r->force};
    handover_give(p->rq, &p->what, r->file, r->length, on_given, p);
}

static void hand_in_again(struct patch *p, struct resumable *r, unsigned status)
{
    p->to = r;
    r->file = spool_completed(p->rq->g->spool, r->id);
    hand_in(p, status);
}

/* Of no bytes none comes: it is complete with its creation. Some clients send an empty PATCH all the same, which asks again. */
static void hand_in_empty(struct request *rq, struct resumable *r)
{
    struct patch *p = patch_new(rq);
    struct err e = {0};
    p->to = r;
    if (spool_resume(rq->g->spool, r->id, false, &r->file, &e) == 0 && resumable_complete(rq->g->resumables, r, &e) == 0) {
        hand_in(p, MHD_HTTP_CREATED);
        return;
    }
    log_error("spool", rq->tenant, NULL, "%s", e.msg);
    request_refuse(rq, "internal", "the upload cannot be handed in");
    request_go_on(rq);
}

/* ---- one that is there ---- */

static struct resumable *find(struct request *rq)
{
    struct resumable *r = is_ours(rq) ? resumable_find(rq->g->resumables, rq->tenant, rq->upload_id) : NULL;
    if (!r && !rq->answered)
        request_refuse(rq, "not_found", "there is no such upload, or it has expired");
    return r;
}

void tus_head(struct request *rq)
{
    struct resumable *r = find(rq);
    if (!r)
        return;
    if (r->complete && !r->file) {
        hand_in_again(patch_new(rq), r, MHD_HTTP_OK);
        return;
    }
    answer_empty(rq, MHD_HTTP_OK);
    add_number(rq, "Upload-Offset", r->offset);
    add_number(rq, "Upload-Length", r->length);
    add_expiry(rq, r);
}

void tus_delete(struct request *rq)
{
    struct resumable *r = find(rq);
    if (r && r->file) {
        request_refuse_for(rq, "conflict", 1, "somebody is sending to this upload");
    } else if (r) {
        resumable_remove(rq->g->resumables, r);
        answer_empty(rq, MHD_HTTP_NO_CONTENT);
    }
}

/* ---- bytes ---- */

/* Upload-Checksum: `algorithm base64`. False: it was answered. */
static bool read_checksum(struct patch *p)
{
    static const struct {
        const char *name;
        gnutls_digest_algorithm_t algorithm;
    } known[] = {{"sha1", GNUTLS_DIG_SHA1}, {"sha256", GNUTLS_DIG_SHA256}, {"sha512", GNUTLS_DIG_SHA512}};
    const char *field = request_header(p->rq, "Upload-Checksum"), *blank = field ? strchr(field, ' ') : NULL;
    if (!field)
        return true;
    for (size_t i = 0; blank && i < sizeof known / sizeof *known; i++) {
        if (strlen(known[i].name) != (size_t)(blank - field) || strncmp(field, known[i].name, (size_t)(blank - field)))
            continue;
        size_t n = gnutls_hash_get_len(known[i].algorithm);
        if (sodium_base642bin(p->said, sizeof p->said, blank + 1, strlen(blank + 1), NULL, &p->n_said, NULL,
                              sodium_base64_VARIANT_ORIGINAL) ||
            p->n_said != n || gnutls_hash_init(&p->hash, known[i].algorithm) < 0)
            break;
        return true;
    }
    request_refuse(p->rq, "bad_request", "Upload-Checksum is malformed, or its algorithm none of " TUS_ALGORITHMS);
    return false;
}

static void open_file(struct patch *p, struct resumable *r)
{
    struct request *rq = p->rq;
    struct err e = {0};
    if (spool_resume(rq->g->spool, r->id, false, &r->file, &e) < 0) {
        log_error("spool", rq->tenant, NULL, "%s", e.msg);
        request_refuse(rq, "not_found", "the upload is gone");
        return;
    }
    p->to = r;
    p->size = r->offset;
    if (spool_size(r->file) != r->offset && spool_cut(r->file, r->offset) < 0)
        request_refuse_for(rq, "disk_low", 60, "the upload cannot be written");
}

void tus_patch_begin(struct request *rq)
{
    const char *type = request_header(rq, MHD_HTTP_HEADER_CONTENT_TYPE);
    struct patch *p = patch_new(rq);
    struct resumable *r = find(rq);
    int64_t offset;
    if (!r)
        return;
    if (!type || strcmp(type, "application/offset+octet-stream"))
        request_refuse(rq, "unsupported_media_type", "Content-Type: application/offset+octet-stream");
    else if (!read_number(rq, "Upload-Offset", &offset))
        request_refuse(rq, "bad_request", "Upload-Offset has to say where this begins");
    else if (r->file)
        request_refuse_for(rq, "conflict", 1, "somebody else is sending to this upload");
    else if (offset != r->offset)
        request_refuse(rq, "conflict", "the upload has %lld bytes; go on behind them", (long long)r->offset);
    else if (rq->length > r->length - r->offset)
        request_refuse(rq, "too_large", "%lld bytes are missing", (long long)(r->length - r->offset));
    else if (r->complete)
        hand_in_again(p, r, MHD_HTTP_NO_CONTENT);
    else if (read_checksum(p))
        open_file(p, r);
}

void tus_patch_body(struct request *rq, const char *bytes, size_t n)
{
    struct patch *p = rq->data;
    if ((int64_t)n > p->to->length - p->size) {
        request_refuse(rq, "too_large", "more bytes came than Upload-Length said");
        return;
    }
    if (p->hash)
        gnutls_hash(p->hash, bytes, n);
    int r = spool_write(p->to->file, bytes, n);
    if (r == 0) {
        p->size += (int64_t)n;
        return;
    }
    spool_cut(p->to->file, p->size);
    log_error("spool", rq->tenant, NULL, "an upload cannot be written: %s", err_text(r));
    request_refuse_for(rq, "disk_low", 60, "the upload cannot be written");
}

static void on_synced(void *arg, int n)
{
    struct patch *p = arg;
    struct request *rq = p->rq;
    struct resumable *r = p->to;
    struct err e = {0};
    if (n < 0) {
        /* What a failed sync was for is never written, and the next sync would not say so: it has to come again. */
        p->size = spool_cut(r->file, r->offset) < 0 ? p->size : r->offset;
        log_error("spool", rq->tenant, NULL, "an upload cannot be synced: %s", err_text(n));
        request_refuse_for(rq, "disk_low", 60, "the upload cannot be written");
    } else if (resumable_advance(r, p->size), p->size < r->length) {
        answer_empty(rq, MHD_HTTP_NO_CONTENT);
        add_number(rq, "Upload-Offset", r->offset);
        add_expiry(rq, r);
    } else if (resumable_complete(rq->g->resumables, r, &e) < 0) {
        log_error("spool", rq->tenant, NULL, "%s", e.msg);
        request_refuse(rq, "internal", "the upload cannot be handed in");
    } else {
        hand_in(p, MHD_HTTP_NO_CONTENT);
        return;
    }
    request_go_on(rq);
}

static bool checksum_fits(struct patch *p)
{
    unsigned char is[DIGEST_MAX];
    if (!p->hash)
        return true;
    gnutls_hash_output(p->hash, is);
    return !memcmp(is, p->said, p->n_said);
}

void tus_patch_end(struct request *rq)
{
    struct patch *p = rq->data;
    if (!checksum_fits(p)) {
        request_refuse(rq, "checksum", "these bytes do not have the checksum that was said; none of them is kept");
        return;
    }
    spool_sync(p->to->file, on_synced, p);
    request_wait(rq);
}
