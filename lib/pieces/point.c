#include "point.h"
#include "piece.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_POINT = 64 << 20, FLUSH_AT = STORE_PIECE / 2 };

void point_fini(struct point *p)
{
    free(p->home);
    free(p->host);
    free(p->version);
    for (size_t i = 0; i < p->n_notes; i++)
        free(p->notes[i]);
    free(p->notes);
    free(p->list);
    *p = (struct point){0};
}

void point_name(int64_t wall_ms, char out[POINT_NAME])
{
    char text[CLK_RFC3339_SIZE];
    size_t n = 0;
    for (const char *c = clk_rfc3339(wall_ms, text); *c && n + 1 < POINT_NAME; c++)
        if (*c != '-' && *c != ':')
            out[n++] = *c;
    out[n] = 0;
}

/* ---- names ---- */

static void add_escaped(struct buf *b, const char *key, const char *text)
{
    AUTO_BUF struct buf v = {0};
    for (const unsigned char *c = (const unsigned char *)text; *c; c++)
        if (*c <= ' ' || *c >= 0x7f || *c == '%')
            buf_addf(&v, "%%%02X", *c);
        else
            buf_add(&v, c, 1);
    json_str(b, key, v.p ? v.p : "");
}

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* NULL: no such text. */
static char *unescape(const char *text)
{
    char *out = xmalloc(strlen(text) + 1);
    size_t n = 0;
    for (const char *c = text; *c; c++) {
        int hi = *c == '%' ? digit(c[1]) : 0, lo = *c == '%' && hi >= 0 ? digit(c[2]) : 0;
        if (hi < 0 || lo < 0 || (*c == '%' && !(hi << 4 | lo))) {
            free(out);
            return NULL;
        }
        out[n++] = *c == '%' ? (char)(hi << 4 | lo) : *c;
        c += *c == '%' ? 2 : 0;
    }
    out[n] = 0;
    return out;
}

/* Below the home, and by no detour. */
static bool is_path(const char *path)
{
    if (!*path || strlen(path) >= PATH_MAX)
        return false;
    for (const char *c = path;; c++) {
        size_t n = strcspn(c, "/");
        if (!n || (n == 1 && c[0] == '.') || (n == 2 && c[0] == '.' && c[1] == '.'))
            return false;
        c += n;
        if (!*c)
            return true;
    }
}

/* ---- writing ---- */

static int flush(struct point_writer *w, struct err *e)
{
    if (!w->lines.n)
        return 0;
    w->p.list = xgrow(w->p.list, w->p.n_list, sizeof *w->p.list);
    int r = store_put(w->store, w->lines.p, w->lines.n, w->p.list[w->p.n_list], e);
    w->p.n_list += r == 0;
    w->lines.n = 0;
    return r;
}

static int end_line(struct point_writer *w, struct err *e)
{
    json_end(&w->lines, '}');
    buf_adds(&w->lines, "\n");
    return w->lines.n >= FLUSH_AT ? flush(w, e) : 0;
}

static void begin(struct point_writer *w, const char *path, const char *type, const struct stat *st)
{
    json_begin(&w->lines, NULL, '{');
    add_escaped(&w->lines, "path", path);
    json_str(&w->lines, "type", type);
    json_i64(&w->lines, "mode", st->st_mode & 07777);
    json_i64(&w->lines, "uid", st->st_uid);
    json_i64(&w->lines, "gid", st->st_gid);
    w->p.entries++;
}

int point_add_dir(struct point_writer *w, const char *path, const struct stat *st, struct err *e)
{
    begin(w, path, "dir", st);
    return end_line(w, e);
}

int point_add_link(struct point_writer *w, const char *path, const char *to, const struct stat *st, struct err *e)
{
    begin(w, path, "link", st);
    add_escaped(&w->lines, "to", to);
    return end_line(w, e);
}

static void add_pieces(struct buf *b, const char *key, const char (*pieces)[STORE_NAME], size_t n)
{
    json_begin(b, key, '[');
    for (size_t i = 0; i < n; i++)
        json_str(b, NULL, pieces[i]);
    json_end(b, ']');
}

int point_add_file(struct point_writer *w, const char *path, const struct stat *st, int64_t size, const char (*pieces)[STORE_NAME],
                   size_t n, struct err *e)
{
    size_t some = n < ENTRY_PIECES ? n : ENTRY_PIECES;
    begin(w, path, "file", st);
    json_i64(&w->lines, "mtime_ns", st->st_mtim.tv_sec * INT64_C(1000000000) + st->st_mtim.tv_nsec);
    json_i64(&w->lines, "size", size);
    add_pieces(&w->lines, "pieces", pieces, some);
    w->p.bytes += size;
    int r = end_line(w, e);
    for (size_t at = some; r == 0 && at < n; at += some) {
        some = n - at < ENTRY_PIECES ? n - at : ENTRY_PIECES;
        json_begin(&w->lines, NULL, '{');
        add_pieces(&w->lines, "more", pieces + at, some);
        r = end_line(w, e);
    }
    return r;
}

void point_note(struct point_writer *w, const char *fmt, ...)
{
    va_list ap;
    char text[1024];
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    w->p.notes = xgrow(w->p.notes, w->p.n_notes, sizeof *w->p.notes);
    w->p.notes[w->p.n_notes++] = xstrdup(text);
}

static void add_text(const struct point *p, struct buf *b)
{
    json_begin(b, NULL, '{');
    json_i64(b, "v", POINT_VERSION);
    json_str(b, "point", p->name);
    json_i64(b, "at", p->at_ms);
    json_i64(b, "done", p->done_ms);
    json_str(b, "home", p->home);
    json_str(b, "host", p->host);
    json_str(b, "version", p->version);
    json_i64(b, "uid_base", p->uid_base);
    json_bool(b, "files", p->files);
    json_i64(b, "mode", p->mode);
    json_i64(b, "uid", p->uid);
    json_i64(b, "gid", p->gid);
    json_i64(b, "entries", p->entries);
    json_i64(b, "bytes", p->bytes);
    json_begin(b, "notes", '[');
    for (size_t i = 0; i < p->n_notes; i++)
        json_str(b, NULL, p->notes[i]);
    json_end(b, ']');
    add_pieces(b, "list", (const char(*)[STORE_NAME])p->list, p->n_list);
}

int point_finish(struct point_writer *w, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    char check[STORE_NAME];
    int r = flush(w, e);
    if (r < 0)
        return r;
    w->p.done_ms = clk_wall_ms();
    add_text(&w->p, &b);
    piece_name(b.p, b.n, check);
    json_str(&b, "check", check);
    json_end(&b, '}');
    buf_adds(&b, "\n");
    return store_put_point(w->store, w->p.name, b.p, b.n, e);
}

void point_writer_fini(struct point_writer *w)
{
    point_fini(&w->p);
    buf_fini(&w->lines);
}

/* ---- reading ---- */

static int take_names(const bson_t *doc, const char *key, char (**list)[STORE_NAME], size_t *n)
{
    bson_iter_t it;
    if (!json_get_iter(doc, key, &it))
        return ERR_FORMAT;
    while (bson_iter_next(&it)) {
        const char *name = BSON_ITER_HOLDS_UTF8(&it) ? bson_iter_utf8(&it, NULL) : "";
        if (!piece_is_name(name))
            return ERR_FORMAT;
        *list = xgrow(*list, *n, sizeof **list);
        memcpy((*list)[(*n)++], name, STORE_NAME);
    }
    return 0;
}

static void take_notes(const bson_t *doc, struct point *p)
{
    bson_iter_t it;
    if (!json_get_iter(doc, "notes", &it))
        return;
    while (bson_iter_next(&it)) {
        p->notes = xgrow(p->notes, p->n_notes, sizeof *p->notes);
        p->notes[p->n_notes++] = xstrdup(BSON_ITER_HOLDS_UTF8(&it) ? bson_iter_utf8(&it, NULL) : "");
    }
}

/* What its last key says of all before it. */
static bool has_check(const struct buf *b)
{
    static const char key[] = ",\"check\":\"";
    char check[STORE_NAME];
    const size_t tail = sizeof key - 1 + STORE_NAME - 1 + sizeof "\"}\n" - 1;
    if (b->n <= tail || memcmp(b->p + b->n - tail, key, sizeof key - 1) != 0)
        return false;
    piece_name(b->p, b->n - tail, check);
    return !memcmp(check, b->p + b->n - tail + sizeof key - 1, STORE_NAME - 1);
}

int point_read(const struct store *s, const char *name, struct point *ret, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    char path[64];
    *ret = (struct point){0};
    snprintf(path, sizeof path, "points/%.40s", name);
    if (!store_is_point(name))
        return err_set(e, ERR_USAGE, "\"%s\" is no point of a backup; `mysimbdp backup %s --list` has them", name, store_path(s));
    int r = fd_read_file(store_dir(s), path, &b, MAX_POINT, NULL);
    if (r == -ENOENT)
        return err_set(e, ERR_FORMAT, "%s has no point %s; `mysimbdp backup %s --list` has them", store_path(s), name,
                       store_path(s));
    AUTO_BSON bson_t *doc = r < 0 || !has_check(&b) ? NULL : json_parse(b.p, b.n, NULL);
    if (!doc)
        return err_set(e, ERR_FORMAT, "%s/%s cannot be used: %s", store_path(s), path, r < 0 ? err_text(r) : "it is damaged");
    if (json_get_i64(doc, "v", 0) > POINT_VERSION)
        return err_set(e, ERR_VERSION, "%s/%s was written by a newer mysimbdp (%lld; this one knows up to %d); use that version",
                       store_path(s), path, (long long)json_get_i64(doc, "v", 0), POINT_VERSION);
    snprintf(ret->name, sizeof ret->name, "%s", name);
    ret->at_ms = json_get_i64(doc, "at", 0);
    ret->done_ms = json_get_i64(doc, "done", 0);
    ret->entries = json_get_i64(doc, "entries", 0);
    ret->bytes = json_get_i64(doc, "bytes", 0);
    ret->uid_base = json_get_i64(doc, "uid_base", -1);
    ret->files = json_get_bool(doc, "files", false);
    ret->mode = json_get_i64(doc, "mode", 0755) & 0777;
    ret->uid = json_get_i64(doc, "uid", -1);
    ret->gid = json_get_i64(doc, "gid", -1);
    ret->home = xstrdup(json_get_str(doc, "home", ""));
    ret->host = xstrdup(json_get_str(doc, "host", ""));
    ret->version = xstrdup(json_get_str(doc, "version", ""));
    take_notes(doc, ret);
    return take_names(doc, "list", &ret->list, &ret->n_list) < 0 ? err_set(e, ERR_FORMAT, "%s/%s is damaged", store_path(s), path)
                                                                 : 0;
}

/* ---- its list ---- */

struct listing {
    int (*fn)(void *arg, const struct entry *v, struct err *e);
    void *arg;
    struct entry now; /* path NULL: none */
    struct err *e;
};

static void entry_fini(struct entry *v)
{
    free(v->path);
    free(v->to);
    free(v->pieces);
    *v = (struct entry){0};
}

static int hand_out(struct listing *l)
{
    const struct entry *v = &l->now;
    int64_t pieces = v->type == 'f' ? (v->size + STORE_PIECE - 1) / STORE_PIECE : 0;
    int r = 0;
    if (v->path)
        r = (int64_t)v->n_pieces == pieces ? l->fn(l->arg, v, l->e)
                                           : err_set(l->e, ERR_FORMAT, "the list of the backup is damaged");
    entry_fini(&l->now);
    return r;
}

static bool take_entry(const bson_t *doc, struct entry *v)
{
    const char *type = json_get_str(doc, "type", ""), *path = json_get_str(doc, "path", "");
    v->type = !strcmp(type, "dir") ? 'd' : !strcmp(type, "link") ? 'l' : !strcmp(type, "file") ? 'f' : 0;
    v->path = unescape(path);
    v->to = unescape(json_get_str(doc, "to", ""));
    v->mode = (mode_t)json_get_i64(doc, "mode", 0) & 07777;
    v->uid = json_get_i64(doc, "uid", -1);
    v->gid = json_get_i64(doc, "gid", -1);
    v->mtime_ns = json_get_i64(doc, "mtime_ns", 0);
    v->size = json_get_i64(doc, "size", 0);
    return v->type && v->path && is_path(v->path) && v->to && (v->type != 'l' || *v->to) && v->uid >= 0 && v->uid < UINT32_MAX &&
           v->gid >= 0 && v->gid < UINT32_MAX && v->size >= 0 &&
           (v->type != 'f' || take_names(doc, "pieces", &v->pieces, &v->n_pieces) == 0);
}

static int take_line(struct listing *l, const char *p, size_t n)
{
    AUTO_BSON bson_t *doc = json_parse(p, n, NULL);
    bson_iter_t it;
    if (doc && l->now.path && l->now.type == 'f' && json_get_iter(doc, "more", &it) &&
        take_names(doc, "more", &l->now.pieces, &l->now.n_pieces) == 0)
        return 0;
    int r = doc ? hand_out(l) : 0;
    if (r == 0 && (!doc || !take_entry(doc, &l->now)))
        r = err_set(l->e, ERR_FORMAT, "the list of the backup is damaged");
    return r;
}

int point_each(struct store *s, const struct point *p, int (*fn)(void *arg, const struct entry *v, struct err *e), void *arg,
               struct err *e)
{
    struct listing l = {.fn = fn, .arg = arg, .e = e};
    AUTO_FREE char *lines = xmalloc(STORE_PIECE);
    int r = 0;
    for (size_t i = 0; r == 0 && i < p->n_list; i++) {
        size_t n = 0;
        r = store_get(s, p->list[i], lines, &n, e);
        for (size_t at = 0; r == 0 && at < n;) {
            const char *end = memchr(lines + at, '\n', n - at);
            r = end ? take_line(&l, lines + at, (size_t)(end - lines) - at)
                    : err_set(e, ERR_FORMAT, "the list of the backup is damaged");
            at = end ? (size_t)(end + 1 - lines) : n;
        }
    }
    if (r == 0)
        r = hand_out(&l);
    entry_fini(&l.now);
    return r;
}
