/* Segments are appended to, and removed from the oldest on, when what they have is needed no more or was appended again. So a part
 * of them is a log that the broker may have left when it was killed, if
 *   - of the last one it has the beginning, up to some record, and of the others all;
 *   - each that was removed before that record was written is not in it, or nothing says that it is not needed.
 * The second is what needs care: the directory is listed; each segment of the list that was not read yet is read, the last one
 * last; and if one was removed meanwhile, it is begun anew with what is there then (what was read is kept). Once all of a list were
 * read, what the list did not have any more was removed before the last one was read, so it has the records that say why. That the
 * list has more than was needed by then does not matter: a record that is read twice changes nothing.
 *
 * A segment that is removed becomes another one, in the same file (seglog.h): after reading, its name must still be its own.
 * Numbers are never used again.
 *
 * Of the last segment what is no whole record is left out: it is being written. Nothing of it was confirmed. */
#include "segments.h"

#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"
#include "segment/segment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

enum { TRIES = 1000, READ_AGAIN = 5 };

#define DIRECTORY "state/broker"

struct copied {
    uint64_t number;
    struct bytes bytes;
    bool full, damaged; /* full: it does not change any more */
};

struct log {
    struct copying *k;
    int dirfd;
    struct copied *v; /* by number */
    size_t n;
    struct buf room;
};

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static int list(const struct log *l, uint64_t **ret, size_t *ret_n, struct err *e)
{
    DIR *d = fd_open_dir(l->dirfd, ".");
    *ret = NULL;
    *ret_n = 0;
    if (!d)
        return err_sys(e, -errno, "cannot list %s/" DIRECTORY, l->k->home->path);
    int r = 0;
    for (struct dirent *ent; (ent = fd_next_name(d, &r));) {
        char *end;
        uint64_t number = strtoull(ent->d_name, &end, 16);
        if (end != ent->d_name + 16 || strcmp(end, ".seg") != 0 || !number)
            continue;
        *ret = xgrow(*ret, *ret_n, sizeof **ret);
        (*ret)[(*ret_n)++] = number;
    }
    closedir(d);
    if (*ret_n)
        qsort(*ret, *ret_n, sizeof **ret, by_number);
    return r < 0 ? err_sys(e, r, "cannot list %s/" DIRECTORY, l->k->home->path) : 0;
}

static struct copied *find(struct log *l, uint64_t number)
{
    for (size_t i = 0; i < l->n; i++)
        if (l->v[i].number == number)
            return &l->v[i];
    return NULL;
}

/* Whether the file still has that name, and is that segment. */
static bool is_still(const struct log *l, int fd, const char *name)
{
    struct stat a, b;
    return fstat(fd, &a) == 0 && fstatat(l->dirfd, name, &b, AT_SYMLINK_NOFOLLOW) == 0 && a.st_ino == b.st_ino &&
           a.st_dev == b.st_dev;
}

/* Reads it until its end is whole, or is damaged: what was being written is written by then. */
static int read_segment(struct log *l, int fd, const char *name, struct segment_scan *scan, struct err *e)
{
    for (int i = 0; i < READ_AGAIN; i++) {
        l->room.n = 0;
        if (lseek(fd, 0, SEEK_SET) < 0)
            return err_sys(e, -errno, "cannot read " DIRECTORY "/%s", name);
        int r = fd_read_all(fd, &l->room, SEGMENT_MAX);
        if (r < 0)
            return err_sys(e, r, "cannot read " DIRECTORY "/%s", name);
        buf_reserve(&l->room, 1);
        segment_scan((const unsigned char *)l->room.p, l->room.n, scan);
        if (scan->is_header && !scan->goes_on)
            break;
    }
    return 0;
}

static int put(struct log *l, const char *name, const struct stat *st, struct copied *c, struct err *e)
{
    c->bytes = (struct bytes){.name = xstrdup(name), .st = *st, .size = (int64_t)l->room.n};
    for (size_t at = 0; at < l->room.n; at += STORE_PIECE) {
        c->bytes.pieces = xgrow(c->bytes.pieces, c->bytes.n, sizeof *c->bytes.pieces);
        size_t n = l->room.n - at < STORE_PIECE ? l->room.n - at : STORE_PIECE;
        int r = store_put(l->k->store, l->room.p + at, n, c->bytes.pieces[c->bytes.n], e);
        if (r < 0)
            return r;
        c->bytes.n++;
        copy_phase(l->k, l->k->phase);
    }
    return 0;
}

/* 1: it was removed meanwhile. */
static int copy(struct log *l, uint64_t number, bool last, struct err *e)
{
    char name[SEGMENT_NAME];
    struct segment_scan scan;
    struct stat st;
    struct copied *c = find(l, number), fresh = {.number = number};
    if (c && c->full)
        return 0;
    segment_name_of(number, name);
    AUTO_FD int fd = openat(l->dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return errno == ENOENT ? 1 : err_sys(e, -errno, "cannot read " DIRECTORY "/%s", name);
    int r = read_segment(l, fd, name, &scan, e);
    if (r < 0)
        return r;
    if (!is_still(l, fd, name))
        return 1;
    fresh.damaged = !scan.is_header || scan.goes_on || scan.header.size != l->room.n || scan.header.number != number;
    fresh.full = !last;
    if (!fresh.damaged && scan.end < l->room.n) /* what lies behind is no record yet, or of the segment that this file was before */
        memset(l->room.p + scan.end, 0, l->room.n - scan.end);
    r = put(l, name, &st, &fresh, e);
    if (r < 0) {
        bytes_fini(&fresh.bytes);
        return r;
    }
    if (!c) {
        l->v = xgrow(l->v, l->n, sizeof *l->v);
        c = &l->v[l->n++];
        *c = (struct copied){0};
    }
    bytes_fini(&c->bytes);
    *c = fresh;
    return 0;
}

static int copy_listed(struct log *l, const uint64_t *numbers, size_t n, struct err *e)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < n; i++)
        r = copy(l, numbers[i], i + 1 == n, e);
    return r;
}

static int add_all(struct log *l, const uint64_t *numbers, size_t n, struct err *e)
{
    int r = copy_add_above(l->k, DIRECTORY "/-", e);
    for (size_t i = 0; r == 0 && i < n; i++) {
        const struct copied *c = find(l, numbers[i]);
        AUTO_FREE char *path = xasprintf(DIRECTORY "/%s", c->bytes.name);
        if (c->damaged)
            point_note(&l->k->w, "%s has damage; it is in the backup as it is", path);
        r = copy_add(l->k, path, &c->bytes, e);
    }
    return r;
}

static int copy_log(struct log *l, struct err *e)
{
    for (int i = 0; i < TRIES; i++) {
        AUTO_FREE uint64_t *numbers = NULL;
        size_t n;
        int r = list(l, &numbers, &n, e);
        if (r == 0)
            r = copy_listed(l, numbers, n, e);
        if (r <= 0)
            return r < 0 ? r : add_all(l, numbers, n, e);
    }
    return err_set(e, -EAGAIN, "cannot copy %s/" DIRECTORY ": its segments are removed faster than they can be read",
                   l->k->home->path);
}

int segments_copy(struct copying *k, struct err *e)
{
    struct log l = {.k = k, .dirfd = openat(k->home->dirfd, DIRECTORY, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
    if (l.dirfd < 0)
        return errno == ENOENT ? 0 : err_sys(e, -errno, "cannot read %s/" DIRECTORY, k->home->path);
    int r = copy_log(&l, e);
    for (size_t i = 0; i < l.n; i++)
        bytes_fini(&l.v[i].bytes);
    free(l.v);
    buf_fini(&l.room);
    close(l.dirfd);
    return r;
}
