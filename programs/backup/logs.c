/* Logs are closed while they are read: one that is large is renamed to NAME.1, or to a name with a number, and begun anew; the
 * audit log gets the other name as a second one before. Who lists a directory meanwhile may see the file by both names, or by
 * neither.
 *
 * So what is being written to is opened first, and then the directory is listed again: all that was closed before is in that list.
 * What is closed since is the file that is open, known by its inode, and those behind it, which have nothing from before: neither
 * is taken by its other name. A list that was being made while it was closed may have those behind it, and not itself: then there
 * is another list.
 *
 * Closed journals of streams become parts of stream.days.jsonl (lib/host/stream_log_sum.c), which says which of them it has; these
 * are removed later. If it is another one when all is read, then everything is read again: what was removed meanwhile is in that.
 * A closed file that was read once is not read again: it does not change. So the second time takes as long as what came since.
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

enum { TRIES = 100 };

#define ENDING  ".jsonl"
#define TENANTS "logs/tenants"

struct log_file {
    char *name;
    int fd; /* open while its inode is to be known; -1: it is closed, or no regular file */
    bool is_file;
    struct bytes *bytes; /* NULL: none; of `closed`, where that has it */
};

struct logs {
    struct copying *k;
    const char *path, *begin; /* of the directory; what the names begin with that are taken */
    int dirfd;
    struct log_file *v;
    size_t n;
    struct map closed; /* name -> struct bytes: closed files that were read, this time or before */
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

static void bytes_free(struct bytes *b)
{
    if (b)
        bytes_fini(b);
    free(b);
}

/* All but what is known of closed files. */
static void begin_anew(struct logs *l)
{
    for (size_t i = 0; i < l->n; i++) {
        fd_cleanup(&l->v[i].fd);
        if (map_get(&l->closed, l->v[i].name) != l->v[i].bytes)
            bytes_free(l->v[i].bytes);
        free(l->v[i].name);
    }
    free(l->v);
    l->v = NULL;
    l->n = 0;
}

static void logs_fini(struct logs *l)
{
    begin_anew(l);
    size_t i = 0;
    for (struct bytes *b; (b = map_next(&l->closed, &i));)
        bytes_free(b);
    map_fini(&l->closed);
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

static struct log_file *append(struct logs *l, const char *name, bool is_file)
{
    l->v = xgrow(l->v, l->n, sizeof *l->v);
    struct log_file *f = &l->v[l->n++];
    *f = (struct log_file){.name = xstrdup(name), .fd = -1, .is_file = is_file};
    return f;
}

static int put(struct logs *l, const char *name, int fd, bool is_file, struct err *e)
{
    AUTO_FREE char *path = xasprintf("%s/%s", l->path, name);
    struct log_file *f = append(l, name, is_file);
    if (is_file)
        f->bytes = xcalloc(1, sizeof *f->bytes);
    return is_file ? copy_bytes(l->k, fd, path, COPY_LINES, f->bytes, e) : 0;
}

static bool is_same(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* One that was read before is not read again. */
static int put_unless_known(struct logs *l, const char *name, int fd, const struct stat *st, struct err *e)
{
    struct bytes *known = map_get(&l->closed, name);
    if (known && is_same(&known->st, st)) {
        append(l, name, true)->bytes = known;
        return 0;
    }
    int r = put(l, name, fd, S_ISREG(st->st_mode), e);
    struct bytes *b = l->v[l->n - 1].bytes;
    if (r == 0 && b) {
        map_put(&l->closed, name, b);
        bytes_free(known);
    }
    return r;
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

/* Whether the list has what was open and is closed by now: it has not, if it was being made then. */
static bool has_ended(const struct logs *l, const struct names *names)
{
    for (size_t i = 0; i < l->n; i++) {
        const struct log_file *f = &l->v[i];
        struct stat st;
        bool found = f->fd < 0 || (fstatat(l->dirfd, f->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && is_open_as(l, f->name, &st));
        for (size_t k = 0; !found && k < names->n; k++) {
            AUTO_FREE char *before = name_before(names->v[k]);
            found = before && !strcmp(before, f->name) && fstatat(l->dirfd, names->v[k], &st, AT_SYMLINK_NOFOLLOW) == 0 &&
                    is_open_as(l, f->name, &st);
        }
        if (!found)
            return false;
    }
    return true;
}

/* -ENOENT: one of the list is not there any more; the others were read all the same, so that they need not be the next time. */
static int put_closed(struct logs *l, struct err *e)
{
    struct names names = {0};
    struct map ended = {0}; /* logs whose open file was found among the closed ones */
    bool is_changed = false;
    int r = list(l, &names, e);
    if (r == 0 && !has_ended(l, &names)) {
        names_fini(&names);
        r = list(l, &names, e);
        is_changed = r == 0 && !has_ended(l, &names);
    }
    for (size_t i = 0; r == 0 && i < names.n; i++) {
        AUTO_FREE char *before = name_before(names.v[i]);
        struct stat st;
        AUTO_FD int fd = -1;
        if (!before || !is_wanted(l, names.v[i]) || map_get(&ended, before))
            continue;
        r = open_one(l, names.v[i], &st, &fd, e);
        is_changed |= r == -ENOENT;
        if (r == -ENOENT)
            r = 0;
        else if (r == 0 && is_open_as(l, before, &st))
            map_put(&ended, before, l);
        else if (r == 0)
            r = put_unless_known(l, names.v[i], fd, &st, e);
    }
    names_fini(&names);
    map_fini(&ended);
    return r == 0 && is_changed ? -ENOENT : r;
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
        begin_anew(l);
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
        r = l->v[i].is_file ? copy_add(l->k, path, l->v[i].bytes, e) : copy_path(l->k, path, COPY_LINES, e);
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
    logs_fini(&l);
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
