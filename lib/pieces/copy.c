#include "copy.h"

#include "base/beneath.h"
#include "base/fd.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 100, TRIES = 5, DEFAULT_MODE = 0711 };

void copy_init(struct copying *k, const struct home *h, struct store *s)
{
    *k = (struct copying){.home = h, .store = s, .w = {.store = s}, .phase = "", .room = xmalloc(STORE_PIECE)};
    progress_begin(&k->progress, "backup");
}

void bytes_fini(struct bytes *b)
{
    free(b->name);
    free(b->pieces);
    *b = (struct bytes){0};
}

void copy_fini(struct copying *k)
{
    size_t i = 0;
    progress_clear(&k->progress);
    for (struct bytes *b; (b = map_next(&k->before, &i));) {
        bytes_fini(b);
        free(b);
    }
    map_fini(&k->before);
    map_fini(&k->dirs);
    point_writer_fini(&k->w);
    free(k->room);
}

void copy_phase(struct copying *k, const char *phase)
{
    k->phase = phase;
    progress_show(&k->progress, phase, store_figures(k->store).bytes, -1, "B");
}

/* ---- bytes ---- */

static int put(struct copying *k, const void *p, size_t n, struct bytes *b, struct err *e)
{
    b->pieces = xgrow(b->pieces, b->n, sizeof *b->pieces);
    int r = store_put(k->store, p, n, b->pieces[b->n], e);
    b->n += r == 0;
    b->size += (int64_t)n;
    progress_show(&k->progress, k->phase, store_figures(k->store).bytes, -1, "B");
    return r;
}

/* Up to a piece, less at the end of the file. */
static ssize_t read_piece(int fd, unsigned char *room, int64_t at, int64_t end)
{
    size_t want = end - at < STORE_PIECE ? (size_t)(end - at) : STORE_PIECE, n = 0;
    while (n < want) {
        ssize_t got = pread(fd, room + n, want - n, at + (int64_t)n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        n += (size_t)got;
    }
    return (ssize_t)n;
}

static int read_once(struct copying *k, int fd, enum copy_how how, struct bytes *b, struct err *e)
{
    const int64_t end = b->st.st_size;
    for (int64_t at = 0; at < end;) {
        ssize_t n = read_piece(fd, k->room, at, end);
        if (n < 0)
            return err_sys(e, (int)n, "cannot read %s/%s", k->home->path, b->name);
        bool last = at + n >= end || n < STORE_PIECE;
        while (how == COPY_LINES && last && n > 0 && k->room[n - 1] != '\n')
            n--;
        int r = n ? put(k, k->room, (size_t)n, b, e) : 0;
        if (r < 0 || last)
            return r;
        at += n;
    }
    return 0;
}

static bool is_same(const struct stat *a, const struct stat *b)
{
    return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

int copy_bytes(struct copying *k, int fd, const char *name, enum copy_how how, struct bytes *ret, struct err *e)
{
    *ret = (struct bytes){.name = xstrdup(name)};
    for (int i = 0;; i++) {
        struct stat now;
        ret->n = 0;
        ret->size = 0;
        if (fstat(fd, &ret->st) < 0)
            return err_sys(e, -errno, "cannot read %s/%s", k->home->path, name);
        int r = read_once(k, fd, how, ret, e);
        if (r < 0)
            return r;
        if (how == COPY_LINES || (fstat(fd, &now) == 0 && is_same(&now, &ret->st)))
            break;
        if (i + 1 == TRIES) {
            point_note(&k->w, "%s was being written to; it may be cut", name);
            break;
        }
    }
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); /* what the platform works with stays in memory, and not what was backed up */
    return 0;
}

int copy_memory(struct copying *k, const char *path, const void *p, size_t n, const struct stat *st, struct err *e)
{
    struct bytes b = {.name = xstrdup(path), .st = *st};
    int r = n > STORE_PIECE ? err_set(e, ERR_LIMIT, "%s is too large", path) : n ? put(k, p, n, &b, e) : 0;
    if (r == 0)
        r = copy_add(k, path, &b, e);
    bytes_fini(&b);
    return r;
}

/* ---- the list ---- */

int copy_add_above(struct copying *k, const char *path, struct err *e)
{
    char above[PATH_MAX];
    int r = 0;
    for (const char *slash = path; r == 0 && (slash = strchr(slash, '/')); slash++) {
        struct stat st = {.st_mode = DEFAULT_MODE};
        snprintf(above, sizeof above, "%.*s", (int)(slash - path), path);
        if (map_get(&k->dirs, above))
            continue;
        if (fstatat(k->home->dirfd, above, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode))
            st = (struct stat){.st_mode = DEFAULT_MODE};
        map_put(&k->dirs, above, k);
        r = point_add_dir(&k->w, above, &st, e);
    }
    return r;
}

int copy_add(struct copying *k, const char *path, const struct bytes *b, struct err *e)
{
    int r = copy_add_above(k, path, e);
    return r < 0 ? r : point_add_file(&k->w, path, &b->st, b->size, (const char(*)[STORE_NAME])b->pieces, b->n, e);
}

/* ---- trees ---- */

struct place {
    int dirfd; /* of the directory that it is in */
    const char *last, *path;
    enum copy_how how;
    int depth;
};

static int copy_one(struct copying *k, const struct place *at, struct err *e);

static int copy_dir(struct copying *k, const struct place *at, const struct stat *st, struct err *e)
{
    AUTO_FD int fd = openat(at->dirfd, at->last, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fd_open_dir(fd, ".");
    int r = 0;
    if (!d)
        return errno == ENOENT || errno == ENOTDIR ? 0 : err_sys(e, -errno, "cannot read %s/%s", k->home->path, at->path);
    if (at->depth >= MAX_DEPTH) {
        closedir(d);
        point_note(&k->w, "%s lies too deep, and was left out", at->path);
        return 0;
    }
    if (!map_get(&k->dirs, at->path)) {
        map_put(&k->dirs, at->path, k);
        r = point_add_dir(&k->w, at->path, st, e);
    }
    int unread = 0;
    for (struct dirent *ent; r == 0 && (ent = fd_next_name(d, &unread));) {
        AUTO_FREE char *path = xasprintf("%s/%s", at->path, ent->d_name);
        if (strlen(path) < PATH_MAX)
            r = copy_one(k, &(struct place){fd, ent->d_name, path, at->how, at->depth + 1}, e);
    }
    closedir(d);
    return r == 0 && unread < 0 ? err_sys(e, unread, "cannot read %s/%s", k->home->path, at->path) : r;
}

static int copy_link(struct copying *k, const struct place *at, const struct stat *st, struct err *e)
{
    char to[PATH_MAX];
    ssize_t n = readlinkat(at->dirfd, at->last, to, sizeof to - 1);
    if (n <= 0)
        return 0;
    to[n] = 0;
    return point_add_link(&k->w, at->path, to, st, e);
}

static int copy_file(struct copying *k, const struct place *at, struct err *e)
{
    struct stat st;
    AUTO_FD int fd = openat(at->dirfd, at->last, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return errno == ENOENT || errno == ELOOP ? 0 : err_sys(e, -errno, "cannot read %s/%s", k->home->path, at->path);
    struct bytes b = {0};
    int r = k->look && S_ISREG(st.st_mode) ? k->look(k->look_arg, fd, at->path, &st, e) : 0;
    if (r != 0)
        return r < 0 ? r : 0;
    r = S_ISREG(st.st_mode) ? copy_bytes(k, fd, at->path, at->how, &b, e) : 0;
    if (r == 0 && b.name)
        r = copy_add(k, at->path, &b, e);
    bytes_fini(&b);
    return r;
}

static int copy_one(struct copying *k, const struct place *at, struct err *e)
{
    struct stat st;
    if (fstatat(at->dirfd, at->last, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : err_sys(e, -errno, "cannot read %s/%s", k->home->path, at->path);
    if (S_ISDIR(st.st_mode))
        return copy_dir(k, at, &st, e);
    if (S_ISLNK(st.st_mode))
        return copy_link(k, at, &st, e);
    return S_ISREG(st.st_mode) ? copy_file(k, at, e) : 0;
}

int copy_path(struct copying *k, const char *path, enum copy_how how, struct err *e)
{
    struct stat st;
    if (fstatat(k->home->dirfd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : err_sys(e, -errno, "cannot read %s/%s", k->home->path, path);
    int r = copy_add_above(k, path, e);
    return r < 0 ? r : copy_one(k, &(struct place){k->home->dirfd, path, path, how, 0}, e);
}

/* ---- the point before ---- */

static int note_before(void *arg, const struct entry *v, struct err *e)
{
    struct copying *k = arg;
    (void)e;
    if (v->type != 'f' || (strncmp(v->path, "done/", 5) != 0 && strncmp(v->path, "quarantine/", 11) != 0))
        return 0;
    if (map_get(&k->before, v->path))
        return 0;
    for (size_t i = 0; i < v->n_pieces; i++)
        if (!store_has(k->store, v->pieces[i]))
            return 0;
    struct bytes *b = xcalloc(1, sizeof *b);
    b->size = v->size;
    b->st.st_size = v->size;
    b->st.st_mtim = (struct timespec){v->mtime_ns / 1000000000, v->mtime_ns % 1000000000};
    b->n = v->n_pieces;
    b->pieces = xcalloc(b->n ? b->n : 1, sizeof *b->pieces);
    memcpy(b->pieces, v->pieces, b->n * sizeof *b->pieces);
    map_put(&k->before, v->path, b);
    return 0;
}

int copy_before(struct copying *k, const char *point, struct err *e)
{
    AUTO_POINT struct point p;
    int r = point_read(k->store, point, &p, e);
    return r < 0 ? r : point_each(k->store, &p, note_before, k, e);
}

bool copy_known(struct copying *k, const char *path, const struct stat *st, struct bytes *ret)
{
    const struct bytes *b = map_get(&k->before, path);
    if (!b || !is_same(&b->st, st))
        return false;
    *ret = (struct bytes){
        .name = xstrdup(path), .st = *st, .size = b->size, .n = b->n, .pieces = xcalloc(b->n ? b->n : 1, sizeof *b->pieces)};
    memcpy(ret->pieces, b->pieces, b->n * sizeof *b->pieces);
    return true;
}
