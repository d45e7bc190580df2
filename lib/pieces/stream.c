/* A backup as a stream. See store.h. */
#include "piece.h"
#include "store_parts.h"

#include "base/buf.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"

#include <archive_entry.h>
#include <errno.h>
#include <string.h>

enum { MAX_POINT = 64 << 20, BLOCK = 1 << 16, PREFIX = 8 /* of objects/ */ };

/* ---- writing ---- */

static int fail(const struct store *s, struct err *e)
{
    return err_set(e, -EIO, "cannot write the backup to stdout: %s", archive_error_string(s->tar));
}

static int add(struct store *s, const char *path, const void *p, size_t n, struct err *e)
{
    struct archive_entry *entry = archive_entry_new();
    if (!entry)
        mem_exhausted();
    archive_entry_set_pathname(entry, path);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0600);
    archive_entry_set_size(entry, (la_int64_t)n);
    bool ok = archive_write_header(s->tar, entry) == ARCHIVE_OK && archive_write_data(s->tar, p, n) == (la_ssize_t)n &&
              archive_write_finish_entry(s->tar) == ARCHIVE_OK;
    archive_entry_free(entry);
    return ok ? 0 : fail(s, e);
}

int store_to_stream(int fd, const char *home, struct store **ret, struct err *e)
{
    struct store *s = store_new("-");
    AUTO_FREE char *marker = store_marker(home);
    s->home = xstrdup(home);
    s->tar = archive_write_new();
    if (!s->tar)
        mem_exhausted();
    int r =
        archive_write_set_format_ustar(s->tar) == ARCHIVE_OK && archive_write_open_fd(s->tar, fd) == ARCHIVE_OK ? 0 : fail(s, e);
    if (r == 0)
        r = add(s, "backup.json", marker, strlen(marker), e);
    if (r < 0)
        store_close(s);
    else
        *ret = s;
    return r;
}

int store_stream_object(struct store *s, const char *name, const void *p, size_t n, struct err *e)
{
    char path[STORE_NAME + PREFIX + 2];
    snprintf(path, sizeof path, "objects/%.2s/%s", name, name + 2);
    return add(s, path, p, n, e);
}

int store_stream_point(struct store *s, const char *path, const void *p, size_t n, struct err *e)
{
    int r = add(s, path, p, n, e);
    return r < 0 ? r : archive_write_close(s->tar) == ARCHIVE_OK ? 0 : fail(s, e);
}

void store_end_stream(struct store *s)
{
    if (!s->tar)
        return;
    archive_write_fail(s->tar); /* no end is written to what was not finished; it does nothing to what is closed */
    archive_write_free(s->tar);
    s->tar = NULL;
}

/* ---- reading ---- */

struct reading {
    struct archive *a;
    struct store *s;
    char *point;
    struct err *e;
};

static int bad(struct reading *r, const char *why)
{
    return err_set(r->e, ERR_FORMAT, "what comes on stdin is no whole backup: %s; nothing was restored", why);
}

static int read_entry(struct reading *r, struct archive_entry *entry, size_t max, struct buf *b)
{
    la_int64_t size = archive_entry_size(entry);
    if (archive_entry_filetype(entry) != AE_IFREG || size < 0 || (size_t)size > max)
        return bad(r, "an entry of another kind is in it");
    buf_reserve(b, (size_t)size + 1);
    for (la_ssize_t n; (n = archive_read_data(r->a, b->p + b->n, (size_t)size - b->n)) > 0;)
        b->n += (size_t)n;
    b->p[b->n] = 0;
    return b->n == (size_t)size ? 0 : bad(r, "it ends too early");
}

static int take_marker(struct reading *r, const struct buf *b)
{
    AUTO_BSON bson_t *doc = json_parse(b->p, b->n, NULL);
    int64_t v = doc ? json_get_i64(doc, "v", 0) : 0;
    if (v > STORE_VERSION)
        return err_set(r->e, ERR_VERSION, "it was written by a newer mysimbdp (%lld; this one knows up to %d); use that version",
                       (long long)v, STORE_VERSION);
    if (v < 1 || r->s->home)
        return bad(r, "its backup.json is damaged");
    r->s->home = xstrdup(json_get_str(doc, "home", ""));
    return 0;
}

/* Whether the bytes are those of the name is seen when they are used. */
static int take_object(struct reading *r, const char *path, const struct buf *b)
{
    char name[STORE_NAME];
    snprintf(name, sizeof name, "%.2s%s", path, strlen(path) > 3 ? path + 3 : "");
    if (strlen(path) != STORE_NAME || path[2] != '/' || !piece_is_name(name))
        return bad(r, "an entry has another name");
    return store_write_object(r->s, name, b->p, b->n, r->e);
}

static int take(struct reading *r, struct archive_entry *entry)
{
    AUTO_BUF struct buf b = {0};
    const char *path = archive_entry_pathname(entry);
    bool is_object = path && !strncmp(path, "objects/", PREFIX), is_point = path && !strncmp(path, "points/", PREFIX - 1);
    if (!path || (!r->s->home && strcmp(path, "backup.json") != 0) || r->point)
        return bad(r, r->point ? "something follows its end" : "it does not begin as one");
    int n = read_entry(r, entry, is_object ? piece_bound(STORE_PIECE) : MAX_POINT, &b);
    if (n < 0)
        return n;
    if (is_object)
        return take_object(r, path + PREFIX, &b);
    if (!is_point)
        return !strcmp(path, "backup.json") ? take_marker(r, &b) : bad(r, "an entry has another name");
    if (!store_is_point(path + PREFIX - 1))
        return bad(r, "its point has no name");
    r->point = xstrdup(path + PREFIX - 1);
    return fd_write_file(r->s->dir, path, b.p, b.n, 0600, r->e);
}

static int read_all(struct reading *r, int fd)
{
    struct archive_entry *entry;
    int code, n = 0;
    if (archive_read_support_format_tar(r->a) != ARCHIVE_OK || archive_read_open_fd(r->a, fd, BLOCK) != ARCHIVE_OK)
        return bad(r, archive_error_string(r->a));
    while (n == 0 && (code = archive_read_next_header(r->a, &entry)) == ARCHIVE_OK)
        n = take(r, entry);
    if (n == 0 && code != ARCHIVE_EOF)
        return bad(r, archive_error_string(r->a));
    return n < 0 ? n : r->point ? 0 : bad(r, "it ends too early");
}

int store_from_stream(int fd, int dirfd, const char *path, struct store **ret, char **ret_point, struct err *e)
{
    struct reading r = {.a = archive_read_new(), .s = store_new(path), .e = e};
    if (!r.a)
        mem_exhausted();
    r.s->dir = fcntl(dirfd, F_DUPFD_CLOEXEC, 0);
    int n = r.s->dir < 0 ? err_sys(e, -errno, "%s", path) : store_make_parts(r.s, e);
    if (n == 0)
        n = read_all(&r, fd);
    archive_read_free(r.a);
    if (n < 0) {
        free(r.point);
        store_close(r.s);
        return n;
    }
    *ret = r.s;
    *ret_point = r.point;
    return 0;
}
