/* All of a stream is read and checked before anything of the home is changed: its pieces by their names, which are hashes of them,
 * its list by place_of. It is kept in state/moves until it is laid. */
#include "move.h"

#include "base/buf.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"
#include "conf/conf.h"
#include "host/move_record.h"
#include "host/uid_block.h"
#include "pieces/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { MAX_MANIFEST = 65536 };

struct receiving {
    const struct home *h;
    struct store *store;
    struct point point;
    char *dir, *tenant, *manifest; /* dir: state/moves/in.PID */
    unsigned char *room;
    size_t n_entries;
};

/* The first entry says whose it is. */
static int take_manifest(struct receiving *r, const struct entry *v, struct err *e)
{
    size_t n = 0;
    if (v->type != 'f' || v->n_pieces != 1 || v->size > MAX_MANIFEST)
        return err_set(e, ERR_FORMAT, "it is no tenant's stream: `mysimbdp tenant export` makes one");
    int got = store_get(r->store, v->pieces[0], r->room, &n, e);
    if (got < 0)
        return got;
    AUTO_BSON bson_t *doc = json_parse((const char *)r->room, n, NULL);
    const int64_t version = doc ? json_get_i64(doc, "v", 0) : 0;
    const char *tenant = doc ? json_get_str(doc, "tenant", "") : "";
    AUTO_FREE char *path = xasprintf(MOVES_DIR "/%s.out/tenant.json", tenant);
    if (version > TENANT_STREAM_VERSION)
        return err_set(e, ERR_VERSION, "it was written by a newer mysimbdp; upgrade this home first");
    if (version < 1 || !conf_valid_id(tenant) || strcmp(v->path, path) != 0 || !home_valid_id(json_get_str(doc, "move", "")))
        return err_set(e, ERR_FORMAT, "it is no tenant's stream: `mysimbdp tenant export` makes one");
    r->tenant = xstrdup(tenant);
    r->manifest = xstrndup((const char *)r->room, n);
    return 0;
}

static int check_entry(void *arg, const struct entry *v, struct err *e)
{
    struct receiving *r = arg;
    const char *name;
    int n = 0;
    if (!r->tenant && v->type == 'd')
        return 0; /* those above the first file */
    if (!r->tenant)
        return take_manifest(r, v, e);
    if (place_of(r->tenant, v, &name) == PLACE_none)
        return err_set(e, ERR_FORMAT, "it has %.200s, which is nothing of tenant %s", v->path, r->tenant);
    for (size_t i = 0; n == 0 && i < v->n_pieces; i++) {
        size_t size;
        n = store_get(r->store, v->pieces[i], r->room, &size, e);
    }
    return n;
}

/* ---- what is not laid ---- */

static int put_aside(void *arg, const struct entry *v, struct err *e)
{
    struct receiving *r = arg;
    const char *name = NULL;
    if (place_of(r->tenant, v, &name) != PLACE_aside)
        return 0;
    AUTO_FREE char *path = xasprintf(MOVES_DIR "/%s.%s", r->tenant, name);
    if (v->type == 'd')
        return mkdirat(r->h->dirfd, path, 0700) < 0 && errno != EEXIST ? err_sys(e, -errno, "cannot make %s", path) : 0;
    AUTO_FD int fd = openat(r->h->dirfd, path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    int n = fd < 0 ? err_sys(e, -errno, "cannot write %s/%s", r->h->path, path) : 0;
    for (size_t i = 0; n == 0 && i < v->n_pieces; i++) {
        size_t size;
        n = store_get(r->store, v->pieces[i], r->room, &size, e);
        if (n == 0 && (n = fd_write_all(fd, r->room, size)) < 0)
            err_sys(e, n, "cannot write %s/%s", r->h->path, path);
    }
    if (n == 0 && fsync(fd) < 0)
        n = err_sys(e, -errno, "cannot write %s/%s", r->h->path, path);
    return n;
}

/* The program that reads it is to be able to. */
static int give(const struct receiving *r, const char *name, enum uid_role role, struct err *e)
{
    AUTO_FREE char *path = xasprintf(MOVES_DIR "/%s.%s", r->tenant, name);
    struct uid_block block;
    AUTO_FD int fd = openat(r->h->dirfd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? -ENOENT : err_sys(e, -errno, "cannot open %s/%s", r->h->path, path);
    int n = home_is_roots(r->h) ? uid_block_of_home(r->h->path, &block, e) : 0;
    const int64_t uid = n == 0 && home_is_roots(r->h) ? uid_of_program(r->h, block.base, role) : -1;
    return n == 0 && uid >= 0 && fchown(fd, (uid_t)uid, (gid_t)-1) < 0 ? err_sys(e, -errno, "cannot give %s away", path) : n;
}

static int give_all(const struct receiving *r, struct err *e)
{
    int n = give(r, "rows.db", UID_BATCHMGR, e);
    if (n == -ENOENT)
        return err_set(e, ERR_FORMAT, "it has no rows");
    if (n == 0) /* the broker's keeper reads the streams */
        n = give(r, "book.db", UID_STREAMMGR, e);
    return n == -ENOENT ? 0 : n;
}

/* The pieces are there, and all is to be written once more. */
static int check_room(const struct receiving *r, struct err *e)
{
    struct statvfs v;
    if (fstatvfs(r->h->dirfd, &v) < 0)
        return 0;
    const int64_t free = (int64_t)v.f_bavail * (int64_t)v.f_frsize;
    return free > r->point.bytes ? 0
                                 : err_set(e, -ENOSPC, "%s has %.1f MB free, and %.1f MB are to be written; free some", r->h->path,
                                           (double)free / 1e6, (double)r->point.bytes / 1e6);
}

static void remove_old(const struct receiving *r)
{
    static const char *const names[] = {"in", "mongo", "rows.db", "conf", "kept", "streams", "book.db"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        AUTO_FREE char *path = xasprintf(MOVES_DIR "/%s.%s", r->tenant, names[i]);
        fd_remove_tree(r->h->dirfd, path);
    }
}

static int take(struct receiving *r, int fd, struct err *e)
{
    AUTO_FREE char *point = NULL;
    AUTO_FD int spool = openat(r->h->dirfd, r->dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int n = spool < 0 ? err_sys(e, -errno, "cannot make %s/%s", r->h->path, r->dir)
                      : store_from_stream(fd, spool, "the stream", &r->store, &point, e);
    if (n == 0)
        n = point_read(r->store, point, &r->point, e);
    if (n == 0)
        n = point_each(r->store, &r->point, check_entry, r, e);
    if (n == 0 && !r->tenant)
        n = err_set(e, ERR_FORMAT, "it is no tenant's stream");
    if (n == 0)
        n = check_room(r, e);
    if (n < 0)
        return n;
    remove_old(r);
    AUTO_FREE char *in = xasprintf(MOVES_DIR "/%s.in", r->tenant);
    n = point_each(r->store, &r->point, put_aside, r, e);
    if (n == 0)
        n = give_all(r, e);
    AUTO_FREE char *marker = store_marker(r->h->path);
    if (n == 0)
        n = fd_write_file(spool, "backup.json", marker, strlen(marker), 0600, e);
    if (n == 0 && renameat(r->h->dirfd, r->dir, r->h->dirfd, in) < 0)
        n = err_sys(e, -errno, "cannot keep %s/%s", r->h->path, in);
    crash_at(CRASH_move_spooled);
    return n;
}

int receive_tenant(const struct home *h, int fd, char **ret, struct err *e)
{
    struct receiving r = {.h = h, .dir = xasprintf(MOVES_DIR "/in.%d", (int)getpid()), .room = xmalloc(STORE_PIECE)};
    int n = fd_mkdirs(h->dirfd, MOVES_DIR, 0711);
    if (n == 0) {
        fd_remove_tree(h->dirfd, r.dir);
        n = fd_mkdirs(h->dirfd, r.dir, 0700);
    }
    if (n < 0)
        err_sys(e, n, "cannot make %s/%s", h->path, r.dir);
    if (n == 0)
        n = take(&r, fd, e);
    store_close(r.store);
    if (n < 0)
        fd_remove_tree(h->dirfd, r.dir);
    *ret = r.manifest;
    point_fini(&r.point);
    free(r.tenant);
    free(r.dir);
    free(r.room);
    return n;
}
