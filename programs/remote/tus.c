/* A large file by tus (https://tus.io, docs/openapi.yaml): begun once, then pieces with a checksum each, of which a cut keeps none.
 * What is there, only the gateway knows: after anything but a plain answer it is asked, and the next piece goes behind that.
 *
 *   the connection is cut, or we are killed    the next try, or start, asks and goes on
 *   the answer to the last piece is lost       asked, it says which file it became
 *   it knows the upload no more                another one is begun
 *   all is there, but was not handed in        a piece of no bytes hands it in
 *   the file is changed meanwhile              the upload is given up: half of each would be neither
 *   an old connection still holds it (409)     waited for
 *
 * Pieces grow while they go quickly, and shrink when the connection is lost, so that a line that is cut again and again gets on. */
#include "resume.h"
#include "send.h"

#include "base/clk.h"
#include "base/mem.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MIN_PIECE = 64 << 10, FIRST_PIECE = 1 << 20, MAX_PIECE = 8 << 20, QUICK_MS = 1000, MAX_META = 4095 };

#define VERSION "Tus-Resumable: 1.0.0"

struct tus {
    struct http *h;
    const struct send_order *o;
    struct item *i;
    int fd;
    struct resume resume;
    char *piece;
    int64_t size;     /* of the next piece */
    int64_t offset;   /* so much is there; -1: it has to be asked */
    int64_t until_ms; /* monotonic: until then it has to get on */
    int n_tries;      /* since it last got on */
};

static void got_on(struct tus *t)
{
    t->until_ms = clk_now_ms() + t->o->patience_ms;
    t->n_tries = 0;
}

static char *path_of(const struct tus *t, const char *id)
{
    struct buf b = {0};
    buf_adds(&b, "/v1/tenants/");
    http_escape(&b, t->o->tenant);
    buf_addf(&b, "/uploads%s%s", *id ? "/" : "", id);
    return b.p;
}

static void add_meta(struct buf *b, const char *key, const char *value)
{
    size_t n = strlen(value), room = sodium_base64_encoded_len(n, sodium_base64_VARIANT_ORIGINAL);
    AUTO_FREE char *text = xmalloc(room);
    sodium_bin2base64(text, room, (const unsigned char *)value, n, sodium_base64_VARIANT_ORIGINAL);
    buf_addf(b, "%s%s %s", b->n ? "," : "", key, text);
}

static int begin(struct tus *t, struct err *e)
{
    AUTO_BUF struct buf meta = {0};
    AUTO_ANSWER struct http_answer a = {0};
    AUTO_FREE char *path = path_of(t, "");
    AUTO_FREE char *length = xasprintf("Upload-Length: %lld", (long long)t->i->size);
    char id[ID_SIZE];
    add_meta(&meta, "filename", t->i->name);
    add_meta(&meta, "dataset", t->o->dataset);
    if (t->o->app)
        add_meta(&meta, "app", t->o->app);
    if (t->o->force)
        add_meta(&meta, "force", "1");
    AUTO_FREE char *field = xasprintf("Upload-Metadata: %s", meta.p);
    const char *const fields[] = {VERSION, length, field, NULL};
    /* One that is begun twice, since the answer was lost, is an empty upload that expires. */
    struct http_request rq = {
        .method = "POST", .path = path, .fields = fields, .body = &(struct http_body){.p = ""}, .again = true};
    int r = http_ask(t->h, &rq, &a, e);
    if (r < 0)
        return r;
    send_id_of(a.location, id);
    if (!*id)
        return err_set(e, ERR_FORMAT, "the answer does not say where the upload is");
    resume_remember(&t->resume, id);
    t->offset = 0;
    got_on(t);
    return 0;
}

static void take_file_id(struct tus *t, const struct http_answer *a)
{
    if (strstr(a->location, "/files/"))
        send_id_of(a->location, t->i->file_id);
}

/* Asks how much is there. An upload that is not known any more is forgotten: offset stays -1. */
static int look(struct tus *t, struct err *e)
{
    static const char *const fields[] = {VERSION, NULL};
    AUTO_ANSWER struct http_answer a = {0};
    AUTO_FREE char *path = path_of(t, t->resume.upload_id);
    int r = http_ask(t->h, &(struct http_request){.method = "HEAD", .path = path, .fields = fields}, &a, e);
    if (r < 0 && (a.status == 404 || a.status == 410)) {
        resume_forget(&t->resume);
        return 0;
    }
    if (r < 0)
        return r;
    if (a.upload_length != t->i->size || a.upload_offset < 0 || a.upload_offset > t->i->size)
        return err_set(e, ERR_FORMAT, "the gateway says %lld of %lld bytes are there, and the file has %lld",
                       (long long)a.upload_offset, (long long)a.upload_length, (long long)t->i->size);
    take_file_id(t, &a);
    if (t->offset != a.upload_offset)
        got_on(t);
    t->offset = a.upload_offset;
    t->i->sent = t->offset;
    return 0;
}

static void on_sent(void *arg, int64_t n)
{
    struct item *i = arg;
    i->sent += n;
}

static int read_piece(struct tus *t, int64_t n, struct err *e)
{
    for (int64_t at = 0; at < n;) {
        ssize_t got = pread(t->fd, t->piece + at, (size_t)(n - at), t->offset + at);
        if (got < 0)
            return err_sys(e, -errno, "cannot read it");
        if (!got)
            break;
        at += got;
    }
    return item_is_same(t->i, t->fd)
               ? 0
               : err_set(e, -ESTALE, "it was changed while it was sent; nothing of it was taken. Send it again");
}

static int send_piece(struct tus *t, struct http_answer *a, struct err *e)
{
    int64_t n = t->i->size - t->offset < t->size ? t->i->size - t->offset : t->size, began = clk_now_ms();
    char digest[SEND_DIGEST_SIZE], at[48], sum[96];
    AUTO_FREE char *path = path_of(t, t->resume.upload_id);
    int r = read_piece(t, n, e);
    if (r < 0)
        return r;
    send_digest(t->piece, (size_t)n, digest);
    snprintf(at, sizeof at, "Upload-Offset: %lld", (long long)t->offset);
    snprintf(sum, sizeof sum, "Upload-Checksum: sha256 %s", digest);
    const char *const fields[] = {VERSION, "Content-Type: application/offset+octet-stream", at, sum, NULL};
    struct http_body body = {.p = t->piece, .n = n};
    struct http_request rq = {.method = "PATCH",
                              .path = path,
                              .fields = fields,
                              .body = &body,
                              .again = true,
                              .once = true,
                              .on_sent = on_sent,
                              .arg = t->i};
    r = http_ask(t->h, &rq, a, e);
    if (r < 0)
        return r;
    take_file_id(t, a);
    t->offset = a->upload_offset;
    t->i->sent = t->offset < 0 ? 0 : t->offset;
    if (clk_now_ms() - began < QUICK_MS && t->size < MAX_PIECE)
        t->size *= 2;
    got_on(t);
    return t->offset == t->i->size && !*t->i->file_id
               ? err_set(e, ERR_FORMAT, "all of it is there, but the answer does not say which file it became")
               : 0;
}

/* Whether a refusal says nothing about the file. */
static bool passes(const struct http_answer *a, int r)
{
    const long s = a->status;
    return r == ERR_CLOSED || s == 404 || s == 409 || s == 410 || s == 429 || s == 460 || s >= 500;
}

static int give_up(struct tus *t, int r)
{
    static const char *const fields[] = {VERSION, NULL};
    AUTO_ANSWER struct http_answer a = {0};
    AUTO_FREE char *path = path_of(t, t->resume.upload_id);
    http_ask(t->h, &(struct http_request){.method = "DELETE", .path = path, .fields = fields, .once = true}, &a, NULL);
    resume_forget(&t->resume);
    return r;
}

/* One step: begins, asks, or sends a piece. */
static int step(struct tus *t, struct err *e)
{
    if (!*t->resume.upload_id)
        return begin(t, e);
    if (t->offset < 0)
        return look(t, e);
    AUTO_ANSWER struct http_answer a = {0};
    int r = send_piece(t, &a, e);
    if (r == -ESTALE || (a.status / 100 == 4 && a.status != 401 && a.status != 403 && !passes(&a, r)))
        return give_up(t, r);
    if (r >= 0 || !passes(&a, r) || (e->reason && !strcmp(e->reason, "certificate")))
        return r;
    t->offset = -1;
    if (r == ERR_CLOSED && t->size > MIN_PIECE)
        t->size /= 2;
    if (!http_wait(t->h, e, ++t->n_tries, t->until_ms))
        return r;
    *e = (struct err){0};
    return 0;
}

int send_by_tus(struct http *h, const struct send_order *o, struct item *i, int fd, struct err *e)
{
    struct tus t = {.h = h, .o = o, .i = i, .fd = fd, .size = FIRST_PIECE, .offset = -1};
    AUTO_FREE char *what = xasprintf("%s\n%s\n%s\n%s\n%d", o->url, o->tenant, o->dataset, o->app ? o->app : "", o->force);
    int r = resume_open(what, i, &t.resume, e);
    if (r == -EBUSY)
        return r;
    if (r < 0)
        fprintf(stderr, "warning: %s: %s\n", i->path, e->msg);
    *e = (struct err){0};
    t.piece = xmalloc(MAX_PIECE);
    got_on(&t);
    for (r = 0; r == 0 && !*i->file_id;)
        r = step(&t, e);
    if (r == 0)
        resume_forget(&t.resume);
    resume_close(&t.resume);
    free(t.piece);
    return r;
}
