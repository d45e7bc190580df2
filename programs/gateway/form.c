/* Files of a form as browsers send it (multipart/form-data, RFC 7578): each is streamed into the spool as it comes, and when all of
 * the form is there they are handed to batchmgr one after the other. libmicrohttpd takes the form apart; a name is what stands
 * behind the last slash of `filename`, since a browser that sends a directory puts paths there. */
#include "gateway.h"
#include "handlers.h"
#include "handover.h"
#include "orders.h"
#include "places.h"
#include "problem.h"
#include "request.h"
#include "spool.h"

#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <string.h>

enum { FILES_MAX = 32, POST_BUFFER = 4096, NAME_MAX_BYTES = 255 };

struct form_file {
    char *name;
    struct spool_file *file;
    int64_t size;
    bool taken;
    char *id, *code, *detail; /* what became of it */
};

struct form {
    struct request *rq;
    struct place *place;
    struct MHD_PostProcessor *post;
    struct form_file files[FILES_MAX];
    size_t n, given; /* given: how many batchmgr has answered for */
    struct handover what;
    int64_t max_bytes;
};

static void form_free(struct request *rq)
{
    struct form *f = rq->data;
    if (f->post)
        MHD_destroy_post_processor(f->post);
    for (size_t i = 0; i < f->n; i++) {
        spool_free(f->files[i].file);
        char *texts[] = {f->files[i].name, f->files[i].id, f->files[i].code, f->files[i].detail};
        for (size_t k = 0; k < sizeof texts / sizeof *texts; k++)
            free(texts[k]);
    }
    place_leave(f->place);
    free(f);
}

/* ---- what comes ---- */

static void begin_file(struct form *f, const char *filename)
{
    struct request *rq = f->rq;
    const char *slash = strrchr(filename, '/');
    struct err e = {0};
    if (f->n == FILES_MAX) {
        request_refuse(rq, "too_large", "a form has %d files at most", FILES_MAX);
        return;
    }
    struct form_file *one = &f->files[f->n++];
    one->name = xstrdup(slash ? slash + 1 : filename);
    if (spool_create(rq->g->spool, &one->file, &e) < 0) {
        log_error("spool", rq->tenant, NULL, "%s", e.msg);
        request_refuse_for(rq, "disk_low", 60, "the upload cannot be written");
    }
}

static void add(struct form *f, const char *p, size_t n)
{
    struct request *rq = f->rq;
    struct form_file *one = &f->files[f->n - 1];
    one->size += (int64_t)n;
    if (f->max_bytes >= 0 && one->size > f->max_bytes) {
        request_refuse(rq, "max_file_bytes", "\"%s\" has more than %lld bytes; so many are allowed", one->name,
                       (long long)f->max_bytes);
        return;
    }
    int r = spool_write(one->file, p, n);
    if (r == 0)
        return;
    log_error("spool", rq->tenant, NULL, "an upload cannot be written: %s", err_text(r));
    request_refuse_for(rq, r == -ENOSPC || r == -EDQUOT ? "disk_low" : "internal", 60, "the upload cannot be written");
}

static enum MHD_Result on_piece(void *arg, enum MHD_ValueKind kind, const char *key, const char *filename, const char *type,
                                const char *encoding, const char *p, uint64_t at, size_t n)
{
    struct form *f = arg;
    (void)kind;
    (void)type;
    (void)key;
    if (f->rq->answered)
        return MHD_NO;
    if (!filename || !*filename) {
        if (n) /* a file input that nobody filled in comes without a name and without bytes */
            request_refuse(f->rq, "bad_request", "a form has files here, and no other fields; app and force are fields of the URL");
        return f->rq->answered ? MHD_NO : MHD_YES;
    }
    if (encoding && strcasecmp(encoding, "binary") && strcasecmp(encoding, "8bit") && strcasecmp(encoding, "7bit"))
        request_refuse(f->rq, "bad_request", "a part of the form has a Content-Transfer-Encoding");
    else if (at == 0)
        begin_file(f, filename);
    if (!f->rq->answered && n)
        add(f, p, n);
    return f->rq->answered ? MHD_NO : MHD_YES;
}

/* ---- before ---- */

static void on_checked(void *arg, const bson_t *doc)
{
    struct form *f = arg;
    if (!doc || !json_get_bool(doc, "ok", false))
        orders_refuse(f->rq, doc);
    else
        f->max_bytes = json_get_i64(doc, "max_bytes", -1);
    request_go_on(f->rq);
}

void form_begin(struct request *rq)
{
    const char *type = request_header(rq, MHD_HTTP_HEADER_CONTENT_TYPE), *force = uri_field(&rq->uri, "force");
    struct form *f = xcalloc(1, sizeof *f);
    *f = (struct form){.rq = rq, .max_bytes = -1};
    f->what = (struct handover){
        .dataset = rq->dataset, .app = uri_field(&rq->uri, "app"), .force = force && strcmp(force, "0") && strcmp(force, "false")};
    rq->data = f;
    rq->free_data = form_free;
    if (!type || strncasecmp(type, "multipart/form-data", 19) != 0)
        request_refuse(rq, "unsupported_media_type", "send multipart/form-data; or one file by PUT .../files/{name}");
    else if (!rq->has_length)
        request_refuse(rq, "length_required", "say Content-Length, or send chunks");
    else if (!(f->post = MHD_create_post_processor(rq->connection, POST_BUFFER, on_piece, f)))
        request_refuse(rq, "bad_request", "the Content-Type has no boundary that can be used");
    else if ((f->place = place_take(rq)))
        handover_check(rq, &f->what, -1, on_checked, f);
}

/* ---- meanwhile ---- */

void form_body(struct request *rq, const char *p, size_t n)
{
    struct form *f = rq->data;
    if (MHD_post_process(f->post, p, n) != MHD_YES && !rq->answered)
        request_refuse(rq, "bad_request", "the form is malformed");
}

/* ---- behind it ---- */

static void give_next(struct form *f);

static void tell(const struct request *rq, const struct form_file *one, struct buf *b)
{
    json_begin(b, NULL, '{');
    json_str(b, "file_name", one->name);
    json_i64(b, "size_bytes", one->size);
    json_i64(b, "status", one->taken ? MHD_HTTP_CREATED : problem_status(one->code));
    json_str(b, "file_id", one->id);
    json_str(b, "code", one->code);
    json_str(b, "detail", one->detail);
    json_end(b, '}');
    (void)rq;
}

static void answer(struct form *f)
{
    struct request *rq = f->rq;
    struct buf b = {0};
    size_t taken = 0;
    for (size_t i = 0; i < f->n; i++)
        taken += f->files[i].taken;
    json_begin(&b, NULL, '{');
    json_begin(&b, "files", '[');
    for (size_t i = 0; i < f->n; i++)
        tell(rq, &f->files[i], &b);
    json_end(&b, ']');
    json_end(&b, '}');
    request_answer(rq, taken == f->n ? MHD_HTTP_CREATED : MHD_HTTP_MULTI_STATUS, NULL, &b);
    request_go_on(rq);
}

static void on_given(void *arg, const bson_t *doc)
{
    struct form *f = arg;
    struct form_file *one = &f->files[f->given];
    if (!doc) { /* the request was answered */
        request_go_on(f->rq);
        return;
    }
    one->taken = json_get_bool(doc, "ok", false);
    one->id = xstrdup(json_get_str(doc, "file_id", NULL));
    if (!one->taken) {
        const char *code = json_get_str(doc, "code", "unprocessable");
        one->code = xstrdup(problem_status(code) == 500 ? "unprocessable" : code);
        one->detail = xstrdup(json_get_str(doc, "error", ""));
    }
    f->given++;
    give_next(f);
}

static void give_next(struct form *f)
{
    if (f->given == f->n) {
        answer(f);
        return;
    }
    struct form_file *one = &f->files[f->given];
    f->what.name = one->name;
    handover_give(f->rq, &f->what, one->file, one->size, on_given, f);
}

void form_end(struct request *rq)
{
    struct form *f = rq->data;
    bool whole = MHD_destroy_post_processor(f->post) == MHD_YES;
    f->post = NULL;
    if (rq->answered) /* the last piece came just now */
        return;
    if (!whole || !f->n) {
        request_refuse(rq, "bad_request", whole ? "there is no file in the form" : "the form ends early");
        return;
    }
    request_wait(rq);
    give_next(f);
}
