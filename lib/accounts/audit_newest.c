/* The audit log from its end on, a page at a time. A place in it is the number of a record and where that begins in its file: by
 * the number the file is found also when it was put aside meanwhile, and what is in a file does not move. */
#include "audit_parts.h"

#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum { CHUNK = 256 << 10 };
_Static_assert((int)CHUNK > (int)AUDIT_LINE_MAX, "a line that is longer is no record");

struct walk {
    struct audit_place *place; /* what ends there is next */
    int64_t left;              /* bytes that may still be read */
    audit_each_fn each;
    void *arg;
    int64_t *n_skipped;
    char *chunk;
};

/* One line, without its end, that begins at `at` of its file. */
static int show(struct walk *w, const char *line, size_t n, int64_t at)
{
    AUTO_BSON bson_t *record = n ? json_parse(line, n, NULL) : NULL;
    const int64_t seq = record ? json_get_i64(record, "seq", 0) : 0;
    w->place->at = at;
    if (seq > 0)
        w->place->seq = seq;
    if (record)
        return w->each(w->arg, record, line, n);
    ++*w->n_skipped;
    return 0;
}

/* Lines that begin in the chunk, last first; n: its bytes, from: where it is. What stands behind its last end of line is no record,
 * or not yet; what is before its first belongs to a line that begins before it. */
static int show_chunk(struct walk *w, size_t n, int64_t from)
{
    const char *lf = memrchr(w->chunk, '\n', n);
    while (lf) {
        const size_t stop = (size_t)(lf - w->chunk);
        w->place->at = from + (int64_t)stop + 1;
        lf = memrchr(w->chunk, '\n', stop);
        if (!lf && from)
            break;
        const size_t start = lf ? (size_t)(lf - w->chunk) + 1 : 0;
        int r = show(w, w->chunk + start, stop - start, from + (int64_t)start);
        if (r)
            return r;
    }
    return 0;
}

static int read_file(struct walk *w, int fd)
{
    while (w->place->at > 0 && w->left > 0) {
        const int64_t end = w->place->at, from = end > CHUNK ? end - CHUNK : 0;
        const ssize_t n = pread(fd, w->chunk, (size_t)(end - from), from);
        if (n != end - from)
            return n < 0 ? -errno : -EIO;
        w->left -= n;
        int r = show_chunk(w, (size_t)n, from);
        if (r)
            return r;
        if (w->place->at == end || !from) { /* no record begins in it, or none before it */
            *w->n_skipped += w->place->at == end;
            w->place->at = from;
        }
    }
    return 0;
}

/* fd -1: there is none. */
static int walk_file(struct walk *w, int fd, struct err *e)
{
    struct stat st = {0};
    if (fd >= 0 && fstat(fd, &st) < 0)
        return err_sys(e, -errno, "cannot read the audit log");
    if (w->place->at == AUDIT_END)
        w->place->at = st.st_size;
    if (w->place->at > st.st_size)
        return err_set(e, ERR_USAGE, "it is no place in the audit log");
    int r = read_file(w, fd);
    return r < 0 ? err_sys(e, r, "cannot read the audit log") : r;
}

static int walk_all(int dirfd, struct walk *w, int log, const struct audit_list *old, bool *ret_more, struct err *e)
{
    size_t i = 0;
    while (i < old->n && (!w->place->seq || old->last[i] < w->place->seq))
        i++;
    for (;; i--) {
        char name[AUDIT_NAME_SIZE];
        FILE *f = NULL;
        int r = i < old->n ? audit_open_old(dirfd, old->last[i], name, &f, e) : 0;
        if (r == 0)
            r = walk_file(w, f ? fileno(f) : log, e);
        if (f)
            fclose(f);
        if (r < 0)
            return r;
        const bool is_done = w->place->at == 0;
        *ret_more = !is_done || i > 0;
        if (is_done && i > 0)
            *w->place = (struct audit_place){old->last[i - 1], AUDIT_END};
        if (r > 0 || !is_done || i == 0 || w->left <= 0)
            return 0;
    }
}

int audit_newest(int dirfd, struct audit_place *place, int64_t max_bytes, audit_each_fn each, void *arg, int64_t *ret_n_skipped,
                 bool *ret_more, struct err *e)
{
    AUTO_FREE char *chunk = xmalloc(CHUNK);
    struct walk w = {place, max_bytes, each, arg, ret_n_skipped, chunk};
    struct audit_list old = {0};
    struct stat st;
    AUTO_FD int fd = -1;
    *ret_n_skipped = 0;
    *ret_more = false;
    if (place->seq < 0 || place->at < 0)
        return err_set(e, ERR_USAGE, "it is no place in the audit log");
    struct err why = {0};
    int r = audit_open(dirfd, O_RDONLY, LOCK_SH, &fd, &why);
    if (r == 0 && (fstat(fd, &st) < 0 || flock(fd, LOCK_UN) < 0))
        r = err_sys(&why, -errno, "cannot read " AUDIT_LOG);
    if (r == 0 || r == -ENOENT)
        r = audit_list(dirfd, r == 0 ? &st : NULL, &old, &why);
    if (r < 0)
        return err_set(e, r, "%s", why.msg);
    r = walk_all(dirfd, &w, fd, &old, ret_more, e);
    audit_list_fini(&old);
    return r;
}
