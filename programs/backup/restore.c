/* A home is one by its state/home.json. That is written last, when all else is synced, by a rename of `.restoring`, which was there
 * from the beginning: so a restore that was killed left no home, and is known by that file. The next one empties the directory and
 * begins anew.
 *
 * The list of a backup may be anybody's: no path of it leads out of the home (point.c), or through a link that was just made
 * (lib/base/beneath.h); nothing gets setuid or setgid bits but directories; files that are there already are none of ours.
 *
 * Owners. Files belong to uids of the home's block (lib/host/uid_block.h). state/uids.json is the first file, so it is known early
 * whether the home may have that block here. If another home has it, which is so when the original still exists, this one gets
 * another; then all owners, and the tenants' uids in the ledger, are moved by the difference. */
#include "restore.h"
#include "restore_parts.h"

#include "base/beneath.h"
#include "base/buf.h"
#include "base/clk.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"
#include "db/db.h"
#include "host/home.h"
#include "host/uid_block.h"
#include "host/userns.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

enum { MAX_HOME_JSON = 65536, FILE_MODE = 0777 };

#define RESTORING ".restoring" /* becomes state/home.json */
#define SPOOL     ".restore"   /* where a stream's pieces are kept meanwhile */
#define HOME_JSON "state/home.json"
#define UIDS_JSON "state/uids.json"

/* ---- the directory ---- */

/* Removes what an earlier restore left; RESTORING last, by which it is known. */
static int empty_again(struct restoring *r, struct err *e)
{
    DIR *d = fd_open_dir(r->dirfd, ".");
    int n = d ? 0 : -errno;
    for (struct dirent *ent; d && n == 0 && (ent = readdir(d));)
        if (strcmp(ent->d_name, ".") && strcmp(ent->d_name, "..") && strcmp(ent->d_name, RESTORING))
            n = fd_remove_tree(r->dirfd, ent->d_name);
    if (d)
        closedir(d);
    return n < 0 ? err_sys(e, n, "cannot remove what an earlier restore left in %s", r->path) : 0;
}

/* But for RESTORING that was being written, by a restore that ended then. */
static bool is_empty(int dirfd)
{
    DIR *d = fd_open_dir(dirfd, ".");
    int unread = 0;
    bool empty = d != NULL;
    for (struct dirent *ent; empty && (ent = fd_next_name(d, &unread));)
        empty = !strcmp(ent->d_name, RESTORING ".tmp");
    if (d)
        closedir(d);
    return empty && unread == 0;
}

static int make_home(struct restoring *r, const char *to, struct err *e)
{
    char real[PATH_MAX];
    if (mkdir(to, 0700) < 0 && errno != EEXIST)
        return err_sys(e, -errno, "cannot make %s", to);
    r->dirfd = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r->dirfd < 0 || !realpath(to, real))
        return err_sys(e, -errno, "cannot open %s", to);
    r->path = xstrdup(real);
    if (flock(r->dirfd, LOCK_EX | LOCK_NB) < 0)
        return err_set(e, ERR_REFUSED, "another restore works on %s", r->path);
    bool again = fd_exists(r->dirfd, RESTORING) && !fd_exists(r->dirfd, HOME_JSON);
    if (fd_exists(r->dirfd, HOME_JSON))
        return err_set(e, ERR_REFUSED,
                       "%s is a home already, and nothing was changed; restore into another directory, or stop this home and move "
                       "it away",
                       r->path);
    if (!again && !is_empty(r->dirfd))
        return err_set(e, ERR_REFUSED,
                       "%s is not empty, and nothing was changed; restore into a directory that is not there, or is empty",
                       r->path);
    int n = again ? empty_again(r, e) : fd_write_file(r->dirfd, RESTORING, "", 0, 0600, e);
    crash_at(CRASH_restore_begin);
    if (n == 0 && mkdirat(r->dirfd, "state", 0700) < 0)
        n = err_sys(e, -errno, "cannot make %s/state", r->path);
    return n == 0 && geteuid() != 0 ? userns_enter(r->path, e) : n;
}

/* ---- owners ---- */

static int64_t moved(const struct restoring *r, int64_t id)
{
    const int64_t from = r->ret->uid_base_was;
    return from >= 0 && id >= from && id < from + UID_BLOCK_SIZE ? id - from + r->ret->uid_base : id;
}

/* Only root can give files away; in a user namespace to whom is mapped there. Else they are the user's, as all of his home's are.
 */
static int own(const struct restoring *r, int fd, int64_t uid, int64_t gid, mode_t mode, const char *path, struct err *e)
{
    if (geteuid() == 0 && fchown(fd, (uid_t)moved(r, uid), (gid_t)moved(r, gid)) < 0 && errno != EINVAL && errno != EPERM)
        return err_sys(e, -errno, "cannot give %s/%s its owner", r->path, path);
    return fchmod(fd, mode) < 0 ? err_sys(e, -errno, "cannot give %s/%s its mode", r->path, path) : 0;
}

static int choose_uids(struct restoring *r, struct err *e)
{
    struct uid_block block;
    struct err why = {0};
    r->ret->uid_base_was = r->point->uid_base;
    int n = uid_block_of_home(r->path, &block, &why);
    if (n == ERR_CONFIG) { /* another home has it, or it is not mapped here */
        if (unlinkat(r->dirfd, UIDS_JSON, 0) < 0)
            return err_sys(e, -errno, "cannot remove %s/" UIDS_JSON, r->path);
        n = uid_block_of_home(r->path, &block, &why);
    }
    if (n < 0)
        return err_set(e, n, "%s", why.msg);
    r->ret->uid_base = block.base;
    return 0;
}

/* ---- entries ---- */

/* The directory that the entry is in; *ret_last is its name there. */
static int open_parent(const struct restoring *r, const char *path, const char **ret_last, struct err *e)
{
    const char *slash = strrchr(path, '/');
    AUTO_FREE char *parent = slash ? xstrndup(path, (size_t)(slash - path)) : xstrdup(".");
    int fd = slash ? beneath_open(r->dirfd, parent, O_RDONLY | O_DIRECTORY, 0) : fcntl(r->dirfd, F_DUPFD_CLOEXEC, 0);
    *ret_last = slash ? slash + 1 : path;
    return fd < 0 ? err_sys(e, slash ? fd : -errno, "cannot open %s/%s", r->path, parent) : fd;
}

static int make_dir(struct restoring *r, const struct entry *v, struct err *e)
{
    const char *last;
    AUTO_FD int parent = open_parent(r, v->path, &last, e);
    if (parent < 0)
        return parent;
    if (mkdirat(parent, last, 0700) < 0 && errno != EEXIST)
        return err_sys(e, -errno, "cannot make %s/%s", r->path, v->path);
    r->dirs = xgrow(r->dirs, r->n_dirs, sizeof *r->dirs);
    r->dirs[r->n_dirs++] = (struct entry){.path = xstrdup(v->path), .mode = v->mode, .uid = v->uid, .gid = v->gid};
    return 0;
}

static int make_link(struct restoring *r, const struct entry *v, struct err *e)
{
    const char *last;
    AUTO_FD int parent = open_parent(r, v->path, &last, e);
    if (parent < 0)
        return parent;
    if (symlinkat(v->to, parent, last) < 0)
        return err_sys(e, -errno, "cannot make %s/%s", r->path, v->path);
    AUTO_FD int fd = openat(parent, last, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (geteuid() == 0 && fd >= 0)
        (void)!fchownat(fd, "", (uid_t)moved(r, v->uid), (gid_t)moved(r, v->gid), AT_EMPTY_PATH);
    return 0;
}

static int write_pieces(struct restoring *r, const struct entry *v, int fd, struct err *e)
{
    int64_t size = 0;
    for (size_t i = 0; i < v->n_pieces; i++) {
        size_t n;
        int w = store_get(r->store, v->pieces[i], r->room, &n, e);
        if (w < 0) {
            err_context(e, "%s is not whole in this point, another one may have it", v->path);
            return w;
        }
        w = fd_write_all(fd, r->room, n);
        if (w < 0)
            return err_sys(e, w, "cannot write %s/%s", r->path, v->path);
        size += (int64_t)n;
        r->bytes += (int64_t)n;
        progress_show(&r->progress, "writing", r->bytes, r->point->bytes, "B");
    }
    return size == v->size ? 0 : err_set(e, ERR_FORMAT, "%s has another size in the backup than its list says", v->path);
}

static int make_file(struct restoring *r, const struct entry *v, struct err *e)
{
    const char *last;
    AUTO_FD int parent = open_parent(r, v->path, &last, e);
    if (parent < 0)
        return parent;
    AUTO_FD int fd = openat(parent, last, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(e, -errno, "cannot make %s/%s", r->path, v->path);
    int n = write_pieces(r, v, fd, e);
    const struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, {v->mtime_ns / 1000000000, v->mtime_ns % 1000000000}};
    if (n == 0)
        n = own(r, fd, v->uid, v->gid, v->mode & FILE_MODE, v->path, e);
    if (n == 0)
        futimens(fd, times);
    return n == 0 && !strcmp(v->path, UIDS_JSON) ? choose_uids(r, e) : n;
}

static int keep_home_json(struct restoring *r, const struct entry *v, struct err *e)
{
    size_t n = 0;
    if (v->type != 'f' || v->n_pieces != 1)
        return err_set(e, ERR_FORMAT, "the backup has no state/home.json that a home has");
    int g = store_get(r->store, v->pieces[0], r->room, &n, e);
    r->home_json.n = 0;
    if (g == 0)
        buf_add(&r->home_json, r->room, n);
    return g;
}

static int make_entry(void *arg, const struct entry *v, struct err *e)
{
    static const char *const roots[] = {"conf", "keys", "apps", "state", "logs", "staging", "work", "done", "quarantine", "runs"};
    struct restoring *r = arg;
    const size_t n = strcspn(v->path, "/");
    bool known = false;
    for (size_t i = 0; i < sizeof roots / sizeof *roots; i++)
        known |= strlen(roots[i]) == n && !strncmp(v->path, roots[i], n) && (v->path[n] || v->type == 'd');
    if (!known)
        return err_set(e, ERR_FORMAT, "the backup has %.200s, which is nothing of a home", v->path);
    crash_at(CRASH_restore_entry);
    if (!strcmp(v->path, HOME_JSON))
        return keep_home_json(r, v, e);
    return v->type == 'd' ? make_dir(r, v, e) : v->type == 'l' ? make_link(r, v, e) : make_file(r, v, e);
}

/* ---- the end ---- */

/* The inner ones first, since the outer ones may then be closed to us. */
static int own_dirs(const struct restoring *r, struct err *e)
{
    int n = 0;
    for (size_t i = r->n_dirs; n == 0 && i-- > 0;) {
        const struct entry *v = &r->dirs[i];
        AUTO_FD int fd = beneath_open(r->dirfd, v->path, O_RDONLY | O_DIRECTORY, 0);
        n = fd < 0 ? err_sys(e, fd, "cannot open %s/%s", r->path, v->path) : own(r, fd, v->uid, v->gid, v->mode, v->path, e);
    }
    return n < 0 || r->point->uid < 0 ? n : own(r, r->dirfd, r->point->uid, r->point->gid, (mode_t)r->point->mode, ".", e);
}

static int note_restored(const struct restoring *r, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_str(&b, "point", r->point->name);
    json_i64(&b, "at", r->point->at_ms);
    json_i64(&b, "restored", clk_wall_ms());
    json_str(&b, "home", r->point->home);
    json_str(&b, "host", r->point->host);
    json_end(&b, '}');
    buf_adds(&b, "\n");
    return fd_write_file(r->dirfd, HOME_RESTORED, b.p, b.n, 0600, e);
}

/* What cannot be said to be one is none, so that it may be restored again. */
static int become_home(const struct restoring *r, struct err *e)
{
    int n = renameat(r->dirfd, RESTORING, r->dirfd, HOME_JSON) < 0 ? -errno : 0;
    if (n == 0 && syncfs(r->dirfd) < 0) {
        n = -errno;
        renameat(r->dirfd, HOME_JSON, r->dirfd, RESTORING);
    }
    return n < 0 ? err_sys(e, n, "cannot write %s/" HOME_JSON, r->path) : 0;
}

static int finish(struct restoring *r, struct err *e)
{
    int n = r->home_json.n ? 0 : err_set(e, ERR_FORMAT, "the backup has no state/home.json: it is none of a home");
    if (n == 0)
        n = move_tenants(r, e);
    if (n == 0)
        n = keep_moved(r, e);
    if (n == 0)
        n = note_restored(r, e);
    if (n == 0)
        n = own_dirs(r, e);
    if (n == 0)
        n = fd_remove_tree(r->dirfd, SPOOL);
    if (n == 0 && syncfs(r->dirfd) < 0)
        n = err_sys(e, -errno, "cannot write %s", r->path);
    crash_at(CRASH_restore_done);
    if (n == 0)
        n = fd_write_file(r->dirfd, RESTORING, r->home_json.p, r->home_json.n, 0600, e);
    return n == 0 ? become_home(r, e) : n;
}

static int restore(struct restoring *r, struct err *e)
{
    *r->ret = (struct restored){.uid_base = -1, .uid_base_was = -1, .n_later = -1, .n_later_ingested = -1};
    progress_begin(&r->progress, "restore");
    r->room = xmalloc(STORE_PIECE);
    int n = point_each(r->store, r->point, make_entry, r, e);
    progress_show(&r->progress, "syncing", 0, -1, NULL);
    if (n == 0)
        n = finish(r, e);
    progress_clear(&r->progress);
    if (n == 0) {
        r->ret->home = xstrdup(r->path);
        look_later(r);
    }
    return n;
}

static void restoring_fini(struct restoring *r)
{
    for (size_t i = 0; i < r->n_dirs; i++)
        free(r->dirs[i].path);
    free(r->dirs);
    free(r->path);
    free(r->room);
    buf_fini(&r->home_json);
    if (r->dirfd >= 0)
        close(r->dirfd);
}

int restore_point(struct store *s, const struct point *p, const char *to, struct restored *ret, struct err *e)
{
    struct restoring r = {.dirfd = -1, .store = s, .point = p, .ret = ret};
    *ret = (struct restored){0};
    int n = make_home(&r, to, e);
    if (n == 0)
        n = restore(&r, e);
    restoring_fini(&r);
    return n;
}

int restore_stream(int fd, const char *to, struct point *ret_point, struct restored *ret, struct err *e)
{
    struct restoring r = {.dirfd = -1, .point = ret_point, .ret = ret};
    AUTO_FREE char *point = NULL;
    *ret = (struct restored){0};
    *ret_point = (struct point){0};
    int n = make_home(&r, to, e);
    if (n == 0 && mkdirat(r.dirfd, SPOOL, 0700) < 0)
        n = err_sys(e, -errno, "cannot make %s/" SPOOL, r.path);
    AUTO_FD int spool = n < 0 ? -1 : openat(r.dirfd, SPOOL, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (n == 0)
        n = store_from_stream(fd, spool, "the stream", &r.store, &point, e);
    if (n == 0)
        n = point_read(r.store, point, ret_point, e);
    if (n == 0)
        n = restore(&r, e);
    store_close(r.store);
    restoring_fini(&r);
    return n;
}

void restored_fini(struct restored *r)
{
    free(r->home);
    *r = (struct restored){0};
}
