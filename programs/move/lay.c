/* Files that a move brought, into their places. Each is written beside its place and renamed, so that what is there is whole; one
 * that is there with the same size and time came before, and is left. Killed anywhere, the next call goes on.
 *
 * Owners: uids of the source's block become those of the same place in this home's; the tenant's, the one that it got here. */
#include "move.h"

#include "base/beneath.h"
#include "base/buf.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/map.h"
#include "base/mem.h"
#include "host/move_record.h"
#include "host/uid_block.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { FILE_MODE = 0777, MAX_MANIFEST = 65536 };

#define TMP ".move.tmp"

struct laying {
    const struct home *h;
    const char *tenant;
    struct store *store;
    struct point point;
    struct map known; /* paths of the list, for done/ and quarantine/ */
    struct entry *dirs;
    size_t n_dirs;
    int64_t uid, uid_was, base, base_was;
    bool ahead;
    unsigned char *room;
};

static int64_t moved(const struct laying *l, int64_t id)
{
    if (id == l->uid_was)
        return l->uid;
    return l->base_was >= 0 && id >= l->base_was && id < l->base_was + UID_BLOCK_SIZE ? id - l->base_was + l->base : id;
}

static int own(const struct laying *l, int fd, const struct entry *v, mode_t mode, struct err *e)
{
    if (home_is_roots(l->h) && fchown(fd, (uid_t)moved(l, v->uid), (gid_t)moved(l, v->gid)) < 0 && errno != EINVAL &&
        errno != EPERM)
        return err_sys(e, -errno, "cannot give %s/%s its owner", l->h->path, v->path);
    return fchmod(fd, mode) < 0 ? err_sys(e, -errno, "cannot give %s/%s its mode", l->h->path, v->path) : 0;
}

static int open_parent(const struct laying *l, const char *path, const char **ret_last, struct err *e)
{
    const char *slash = strrchr(path, '/');
    AUTO_FREE char *parent = xstrndup(path, slash ? (size_t)(slash - path) : 0);
    *ret_last = slash ? slash + 1 : path;
    int fd = beneath_open(l->h->dirfd, slash ? parent : ".", O_RDONLY | O_DIRECTORY, 0);
    return fd < 0 ? err_sys(e, fd, "cannot open %s/%s", l->h->path, parent) : fd;
}

/* staging/T and its datasets are batchmgr's to open. */
static bool is_managed(const struct laying *l, const char *path)
{
    const size_t n = strlen("staging/") + strlen(l->tenant);
    const char *slash = strncmp(path, "staging/", strlen("staging/")) == 0 && strlen(path) > n ? strchr(path + n + 1, '/') : NULL;
    return !strncmp(path, "staging/", strlen("staging/")) && !slash;
}

static int make_dir(struct laying *l, const struct entry *v, struct err *e)
{
    const char *last;
    AUTO_FD int parent = open_parent(l, v->path, &last, e);
    if (parent < 0)
        return parent;
    if (mkdirat(parent, last, 0700) < 0 && errno != EEXIST)
        return err_sys(e, -errno, "cannot make %s/%s", l->h->path, v->path);
    if (is_managed(l, v->path))
        return 0;
    l->dirs = xgrow(l->dirs, l->n_dirs, sizeof *l->dirs);
    l->dirs[l->n_dirs++] = (struct entry){.path = xstrdup(v->path), .mode = v->mode, .uid = v->uid, .gid = v->gid};
    return 0;
}

static int make_link(struct laying *l, const struct entry *v, struct err *e)
{
    char to[4096];
    const char *last;
    AUTO_FD int parent = open_parent(l, v->path, &last, e);
    if (parent < 0)
        return parent;
    const ssize_t n = readlinkat(parent, last, to, sizeof to);
    if (n == (ssize_t)strlen(v->to) && !memcmp(to, v->to, (size_t)n))
        return 0;
    unlinkat(parent, last, 0);
    if (symlinkat(v->to, parent, last) < 0)
        return err_sys(e, -errno, "cannot make %s/%s", l->h->path, v->path);
    AUTO_FD int fd = openat(parent, last, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (home_is_roots(l->h) && fd >= 0)
        (void)!fchownat(fd, "", (uid_t)moved(l, v->uid), (gid_t)moved(l, v->gid), AT_EMPTY_PATH);
    return 0;
}

static bool is_there(int parent, const char *last, int64_t size, int64_t mtime_ns)
{
    struct stat st;
    return fstatat(parent, last, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) && st.st_size == size &&
           mtime_ns_of(&st) == mtime_ns;
}

static int write_file(struct laying *l, const struct entry *v, int fd, struct err *e)
{
    const struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, {v->mtime_ns / 1000000000, v->mtime_ns % 1000000000}};
    for (size_t i = 0; i < v->n_pieces; i++) {
        size_t n;
        int r = store_get(l->store, v->pieces[i], l->room, &n, e);
        if (r < 0)
            return r;
        if ((r = fd_write_all(fd, l->room, n)) < 0)
            return err_sys(e, r, "cannot write %s/%s", l->h->path, v->path);
    }
    int r = own(l, fd, v, v->mode & FILE_MODE, e);
    if (r == 0 && futimens(fd, times) < 0)
        r = err_sys(e, -errno, "cannot write %s/%s", l->h->path, v->path);
    return r;
}

static int make_file(struct laying *l, const struct entry *v, struct err *e)
{
    const char *last;
    AUTO_FD int parent = open_parent(l, v->path, &last, e);
    if (parent < 0)
        return parent;
    if (is_there(parent, last, v->size, v->mtime_ns))
        return 0;
    unlinkat(parent, TMP, 0);
    AUTO_FD int fd = openat(parent, TMP, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    int r = fd < 0 ? err_sys(e, -errno, "cannot make %s/%s", l->h->path, v->path) : write_file(l, v, fd, e);
    if (r == 0 && renameat(parent, TMP, parent, last) < 0)
        r = err_sys(e, -errno, "cannot make %s/%s", l->h->path, v->path);
    if (r < 0)
        unlinkat(parent, TMP, 0);
    return r;
}

static int lay_entry(void *arg, const struct entry *v, struct err *e)
{
    struct laying *l = arg;
    const char *name;
    if (!strcmp(v->path, "conf/own") && v->type == 'd') { /* made with the first tenant that configures itself */
        const int r = fd_mkdirs(l->h->dirfd, "conf/own", 0750);
        return r < 0 ? err_sys(e, r, "cannot make %s/conf/own", l->h->path) : 0;
    }
    if (place_of(l->tenant, v, &name) != PLACE_home)
        return 0;
    map_put(&l->known, v->path, l);
    crash_at(CRASH_move_entry);
    return v->type == 'd' ? make_dir(l, v, e) : v->type == 'l' ? make_link(l, v, e) : make_file(l, v, e);
}

static int check_kept(void *arg, const char *path, int64_t size, int64_t mtime_ns, struct err *e)
{
    struct laying *l = arg;
    struct entry v = {.type = 'f', .path = (char *)path};
    const char *name, *last;
    if (strstr(path, "/../") || place_of(l->tenant, &v, &name) == PLACE_none)
        return err_set(e, ERR_FORMAT, "its list of files that were brought ahead has %.200s", path);
    if (place_of(l->tenant, &v, &name) != PLACE_home)
        return 0;
    map_put(&l->known, path, l);
    AUTO_FD int parent = open_parent(l, path, &last, e);
    if (parent < 0)
        return parent;
    return is_there(parent, last, size, mtime_ns)
               ? 0
               : err_set(e, ERR_REFUSED, "%s was brought ahead and is not here any more; go back with --undo and begin anew", path);
}

/* ---- the end ---- */

static int own_dirs(const struct laying *l, struct err *e)
{
    int r = 0;
    for (size_t i = l->n_dirs; r == 0 && i-- > 0;) {
        const struct entry *v = &l->dirs[i];
        AUTO_FD int fd = beneath_open(l->h->dirfd, v->path, O_RDONLY | O_DIRECTORY, 0);
        r = fd < 0 ? err_sys(e, fd, "cannot open %s/%s", l->h->path, v->path) : own(l, fd, v, v->mode, e);
    }
    return r;
}

/* What was brought ahead and is not there any more (its time was over, or it was retried): DIR/T/DATASET/ID. */
static int drop_gone(struct laying *l, const char *path, int depth, struct err *e)
{
    DIR *d = fd_open_dir(l->h->dirfd, path);
    int unread = 0, r = d ? 0 : errno == ENOENT ? 0 : err_sys(e, -errno, "cannot read %s/%s", l->h->path, path);
    for (struct dirent *ent; d && r == 0 && (ent = fd_next_name(d, &unread));) {
        AUTO_FREE char *below = xasprintf("%s/%s", path, ent->d_name);
        if (!map_get(&l->known, below))
            r = fd_remove_tree(l->h->dirfd, below) < 0 ? err_set(e, -EIO, "cannot remove %s/%s", l->h->path, below) : 0;
        else if (depth)
            r = drop_gone(l, below, depth - 1, e);
    }
    if (d)
        closedir(d);
    return r == 0 && unread < 0 ? err_sys(e, unread, "cannot read %s/%s", l->h->path, path) : r;
}

static int finish(struct laying *l, struct err *e)
{
    AUTO_FREE char *kept = xasprintf(MOVES_DIR "/%s.kept", l->tenant), *done = xasprintf("done/%s", l->tenant),
                   *quarantine = xasprintf("quarantine/%s", l->tenant);
    int r = l->ahead ? 0 : kept_each(l->h->dirfd, kept, check_kept, l, e);
    if (r == 0 && !l->ahead)
        r = drop_gone(l, done, 1, e);
    if (r == 0 && !l->ahead)
        r = drop_gone(l, quarantine, 1, e);
    if (r == 0)
        r = own_dirs(l, e);
    if (r == 0 && syncfs(l->h->dirfd) < 0)
        r = err_sys(e, -errno, "cannot write %s", l->h->path);
    crash_at(CRASH_move_laid);
    return r;
}

static int read_manifest(struct laying *l, const char *in, struct err *e)
{
    char **points = NULL;
    size_t n = 0;
    AUTO_FREE char *path = xasprintf(MOVES_DIR "/%s.tenant.json", l->tenant), *dir = home_path(l->h, in);
    AUTO_BUF struct buf b = {0};
    struct uid_block block;
    int r = fd_read_file(l->h->dirfd, path, &b, MAX_MANIFEST, e);
    AUTO_BSON bson_t *doc = r == 0 ? json_parse(b.n ? b.p : "", b.n, e) : NULL;
    if (!doc)
        return r < 0 ? r : ERR_FORMAT;
    l->uid_was = json_get_i64(doc, "uid", -1);
    l->ahead = json_get_bool(doc, "ahead", false);
    r = uid_block_of_home(l->h->path, &block, e);
    if (r == 0)
        r = store_open(dir, STORE_READ, NULL, &l->store, e);
    if (r == 0)
        r = store_points(l->store, &points, &n, e);
    if (r == 0)
        r = n == 1 ? point_read(l->store, points[0], &l->point, e) : err_set(e, ERR_FORMAT, "%s is no whole stream", dir);
    for (size_t i = 0; i < n; i++)
        free(points[i]);
    free(points);
    l->base = block.base;
    l->base_was = l->point.uid_base;
    return r;
}

int lay_tenant(const struct home *h, const char *tenant, int64_t uid, struct err *e)
{
    struct laying l = {.h = h, .tenant = tenant, .uid = uid, .room = xmalloc(STORE_PIECE)};
    AUTO_FREE char *in = xasprintf(MOVES_DIR "/%s.in", tenant);
    int r = read_manifest(&l, in, e);
    if (r == 0)
        r = point_each(l.store, &l.point, lay_entry, &l, e);
    if (r == 0)
        r = finish(&l, e);
    if (r == 0)
        fd_remove_tree(h->dirfd, in);
    store_close(l.store);
    point_fini(&l.point);
    map_fini(&l.known);
    for (size_t i = 0; i < l.n_dirs; i++)
        free(l.dirs[i].path);
    free(l.dirs);
    free(l.room);
    return r;
}
