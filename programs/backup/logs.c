/* Logs are closed while they are read: one that is large is renamed to NAME.1, or to a name with a number, and begun anew; the
 * audit log gets the other name as a second one before. Who lists a directory meanwhile may see the file by both names, or by
 * neither.
 *
 * So what is being written to is opened first, and then the directory is listed again: all that was closed before is in that list.
 * What is closed since is the file that is open, known by its inode, and those behind it, which have nothing from before: neither
 * is taken by its other name.
 *
 * Closed journals of streams become parts of stream.days.jsonl (lib/host/stream_log_sum.c), which says which of them it has; these
 * are removed later. If it is another one when all is read, then everything is read again: what was removed meanwhile is in that.
 */
#include "logs.h"

#include "base/fd.h"
#include "base/mem.h"
#include "base/strs.h"
#include "host/stream_log_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

enum { TRIES = 20 };

#define ENDING  ".jsonl"
#define TENANTS "logs/tenants"

struct log_file {
    char *name;
    int fd; /* open while its inode is to be known; -1: it is closed, or no regular file */
    bool is_file;
    struct bytes bytes;
};

struct logs {
    struct copying *k;
    const char *path, *begin; /* of the directory; what the names begin with that are taken */
    int dirfd;
    struct log_file *v;
    size_t n;
};

/* ---- names ---- */

/* What a closed file was called while it was written to; the caller frees. NULL: it is no closed one. */
static char *name_before(const char *name)
{
    size_t n = strlen(name);
    if (str_has_ending(name, ".1"))
        return xstrndup(name, n - 2);
    if (!str_has_ending(name, ENDING))
        return NULL;
    size_t end = n - strlen(ENDING), at = end;
    while (at > 0 && name[at - 1] >= '0' && name[at - 1] <= '9')
        at--;
    return at < end && at > 1 && name[at - 1] == '.' ? xasprintf("%.*s" ENDING, (int)at - 1, name) : NULL;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

struct names {
    char **v;
    size_t n;
};

static void names_fini(struct names *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->v[i]);
    free(l->v);
    *l = (struct names){0};
}

/* Sorted, so that numbers rise. */
static int list(const struct logs *l, struct names *ret, struct err *e)
{
    DIR *d = fd_open_dir(l->dirfd, ".");
    int r = d ? 0 : -errno;
    for (struct dirent *ent; d && (ent = fd_next_name(d, &r));) {
        ret->v = xgrow(ret->v, ret->n, sizeof *ret->v);
        ret->v[ret->n++] = xstrdup(ent->d_name);
    }
    if (d)
        closedir(d);
    if (ret->n)
        qsort(ret->v, ret->n, sizeof *ret->v, by_name);
    return r < 0 ? err_sys(e, r, "cannot list %s/%s", l->k->home->path, l->path) : 0;
}

static bool is_wanted(const struct logs *l, const char *name)
{
    const size_t n = strlen(l->begin);
    return !strncmp(name, l->begin, n) && !str_has_ending(name, ".tmp") && (!n || str_has_ending(name, ENDING));
}

/* ---- files ---- */

static void forget(struct logs *l)
{
    for (size_t i = 0; i < l->n; i++) {
        fd_cleanup(&l->v[i].fd);
        bytes_fini(&l->v[i].bytes);
        free(l->v[i].name);
    }
    free(l->v);
    l->v = NULL;
    l->n = 0;
}

static const struct log_file *find(const struct logs *l, const char *name)
{
    for (size_t i = 0; i < l->n; i++)
        if (!strcmp(l->v[i].name, name))
            return &l->v[i];
    return NULL;
}

static bool is_open_as(const struct logs *l, const char *name, const struct stat *st)
{
    const struct log_file *f = find(l, name);
    struct stat is;
    return f && f->fd >= 0 && fstat(f->fd, &is) == 0 && is.st_ino == st->st_ino && is.st_dev == st->st_dev;
}

static int put(struct logs *l, const char *name, int fd, bool is_file, struct err *e)
{
    AUTO_FREE char *path = xasprintf("%s/%s", l->path, name);
    l->v = xgrow(l->v, l->n, sizeof *l->v);
    struct log_file *f = &l->v[l->n++];
    *f = (struct log_file){.name = xstrdup(name), .fd = -1, .is_file = is_file};
    return is_file ? copy_bytes(l->k, fd, path, COPY_LINES, &f->bytes, e) : 0;
}

/* -ENOENT: nothing has that name any more. */
static int open_one(const struct logs *l, const char *name, struct stat *st, int *ret_fd, struct err *e)
{
    AUTO_FD int fd = openat(l->dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if ((fd < 0 && errno != ELOOP) || (fd >= 0 && fstat(fd, st) < 0))
        return errno == ENOENT ? -ENOENT : err_sys(e, -errno, "cannot read %s/%s/%s", l->k->home->path, l->path, name);
    if (fd < 0)
        *st = (struct stat){.st_mode = S_IFLNK};
    *ret_fd = fd_take(&fd);
    return 0;
}

/* What is written to, and what is no log. */
static int put_open(struct logs *l, struct err *e)
{
    struct names names = {0};
    int r = list(l, &names, e);
    for (size_t i = 0; r == 0 && i < names.n; i++) {
        AUTO_FREE char *before = name_before(names.v[i]);
        struct stat st;
        AUTO_FD int fd = -1;
        if (before || !is_wanted(l, names.v[i]))
            continue;
        r = open_one(l, names.v[i], &st, &fd, e);
        if (r == 0) {
            r = put(l, names.v[i], fd, S_ISREG(st.st_mode), e);
            l->v[l->n - 1].fd = fd_take(&fd);
        }
        r = r == -ENOENT ? 0 : r;
    }
    names_fini(&names);
    return r;
}

/* -ENOENT: one of the list is not there any more. */
static int put_closed(struct logs *l, struct err *e)
{
    struct names names = {0};
    struct map ended = {0}; /* logs whose open file was found among the closed ones */
    int r = list(l, &names, e);
    for (size_t i = 0; r == 0 && i < names.n; i++) {
        AUTO_FREE char *before = name_before(names.v[i]);
        struct stat st;
        AUTO_FD int fd = -1;
        if (!before || !is_wanted(l, names.v[i]) || map_get(&ended, before))
            continue;
        r = open_one(l, names.v[i], &st, &fd, e);
        if (r == 0 && is_open_as(l, before, &st))
            map_put(&ended, before, l);
        else if (r == 0)
            r = put(l, names.v[i], fd, S_ISREG(st.st_mode), e);
    }
    names_fini(&names);
    map_fini(&ended);
    return r;
}

/* Whether the sums of closed files are those that were read. */
static bool is_summed_since(const struct logs *l)
{
    struct stat st;
    if (fstatat(l->dirfd, STREAM_LOG_DAYS, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return find(l, STREAM_LOG_DAYS);
    return !is_open_as(l, STREAM_LOG_DAYS, &st);
}

static int put_all(struct logs *l, struct err *e)
{
    for (int i = 0; i < TRIES; i++) {
        forget(l);
        int r = put_open(l, e);
        if (r == 0)
            r = put_closed(l, e);
        if (r != -ENOENT && (r < 0 || !is_summed_since(l)))
            return r;
    }
    return err_set(e, -EAGAIN, "%s/%s is being changed each time that it is read; take the backup again", l->k->home->path,
                   l->path);
}

/* ---- directories ---- */

static int add_all(const struct logs *l, struct err *e)
{
    AUTO_FREE char *below = xasprintf("%s/-", l->path);
    int r = copy_add_above(l->k, below, e);
    for (size_t i = 0; r == 0 && i < l->n; i++) {
        AUTO_FREE char *path = xasprintf("%s/%s", l->path, l->v[i].name);
        r = l->v[i].is_file ? copy_add(l->k, path, &l->v[i].bytes, e) : copy_path(l->k, path, COPY_LINES, e);
    }
    return r;
}

/* No such directory: nothing. */
static int copy_directory(struct copying *k, const char *path, const char *begin, struct err *e)
{
    AUTO_FD int fd = openat(k->home->dirfd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct logs l = {.k = k, .path = path, .begin = begin, .dirfd = fd};
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? 0
                                                                     : err_sys(e, -errno, "cannot read %s/%s", k->home->path, path);
    int r = put_all(&l, e);
    if (r == 0)
        r = add_all(&l, e);
    forget(&l);
    return r;
}

int logs_copy(struct copying *k, struct err *e)
{
    AUTO_FD int fd = openat(k->home->dirfd, TENANTS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct logs all = {.k = k, .path = TENANTS, .dirfd = fd};
    struct names tenants = {0};
    int r = fd < 0 ? errno == ENOENT ? 0 : err_sys(e, -errno, "cannot read %s/" TENANTS, k->home->path) : list(&all, &tenants, e);
    for (size_t i = 0; r == 0 && i < tenants.n; i++) {
        AUTO_FREE char *path = xasprintf(TENANTS "/%s", tenants.v[i]);
        r = copy_directory(k, path, "", e);
    }
    names_fini(&tenants);
    return r == 0 ? copy_directory(k, "logs", "audit", e) : r;
}
