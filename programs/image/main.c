/* simbdp-image: makes of an app's OCI layout the directory that its runs have as their root. batchmgr and streammgr start it, and
 * read its answer, so that their loops never wait for it.
 *
 *   state/images/<tenant>/<digest>            an image, whole: it gets this name when everything is there
 *   state/images/<tenant>/.unpack-<id>        one that is being unpacked or removed
 *     layout, run                             its verified copy; the run that unpacks it
 *   state/images/<tenant>/.unused-<digest>    since when no app names it
 *   state/images/<tenant>/.lock               held by who does any of it
 *
 * A tenant has images of its own: knowing a digest must not be enough to get another tenant's image.
 *
 * The layers are hostile. umoci unpacks them as a run of its own: a uid that owns nothing else, a view of the copied layout and one
 * directory, no network, limits on time, memory, bytes and files.
 *
 * Failure story: when the program that asked for it dies, this one is killed with it, and the run ends. What is left has a name
 * that nothing uses; the next simbdp-image for the tenant removes it, once the lock says that the run is over, too. A full disk is
 * an error like any other. */
#include "layout.h"

#include "base/clk.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "conf/conf.h"
#include "host/home.h"
#include "host/uid_block.h"
#include "run/alone.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

enum {
    WALL_S = 600,
    MEMORY_BYTES = 512 << 20,
    TMP_BYTES = 16 << 20,
    GRACE_S = 60, /* a run that was decided on has opened its image long before that */
    MAX_UNUSED =
        4, /* beyond that many none is kept for GRACE_S: a tenant that ships an image every second must not fill the disk */
};

#define IMAGES "state/images"
#define UNPACK ".unpack-"
#define UNUSED ".unused-"

static const char usage[] =
    "usage: simbdp-image --home HOME TENANT IMAGE   unpack what `image` of an app names; an answer as JSON\n"
    "       simbdp-image --home HOME --sweep        remove what no app names and no run has\n"
    "       simbdp-image --unpack UMOCI LAYOUT:TAG  become umoci; for its own runs\n"
    "batchmgr and streammgr start it. Exit: 0 it answered, 1 not, 2 usage.\n";

struct image {
    const struct home *home;
    const struct conf *conf;
    const struct conf_tenant *tenant;
    int dir, layout; /* the tenant's images; where this one comes from */
    char digest[LAYOUT_DIGEST_SIZE];
    char id[ID_SIZE]; /* of the unpacking */
};

static char *image_path(const struct image *m, const char *rest)
{
    assert(m->tenant);
    return xasprintf("%s/" IMAGES "/%s/%s", m->home->path, m->tenant->id, rest);
}

/* ---- what is not used ---- */

static int open_tenant(const struct home *h, const char *tenant, int lock_flags, int *ret_lock)
{
    AUTO_FREE char *rel = xasprintf(IMAGES "/%s", tenant);
    AUTO_FD int dir = openat(h->dirfd, rel, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0)
        return -errno;
    /* Not close-on-exec: the runner that unpacks holds the lock as well, since it may outlive this process by a moment. */
    AUTO_FD int lock = openat(dir, ".lock", O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
    if (lock < 0 || flock(lock, lock_flags) < 0)
        return -errno;
    *ret_lock = fd_take(&lock);
    return fd_take(&dir);
}

static bool names(const struct home *h, const char *tenant, const char *image, const char *digest)
{
    const char *tag;
    char found[LAYOUT_DIGEST_SIZE];
    if (!*image)
        return false;
    AUTO_FREE char *path = home_image(h, tenant, image, &tag);
    AUTO_FD int layout = layout_open(path, tag, found, NULL);
    return layout >= 0 && !strcmp(found, digest);
}

static bool is_configured(const struct home *h, const struct conf_tenant *t, const char *digest)
{
    const struct conf_batch *b = t ? t->batch.v : NULL;
    const struct conf_stream_app *a = t ? t->stream_apps.v : NULL;
    bool found = false;
    for (size_t i = 0; t && i < t->batch.n && !found; i++)
        found = names(h, t->id, b[i].image, digest);
    for (size_t i = 0; t && i < t->stream_apps.n && !found; i++)
        found = names(h, t->id, a[i].image, digest);
    return found;
}

static int count_unused(int dir)
{
    int n = 0;
    DIR *d = fd_open_dir(dir, ".");
    for (struct dirent *ent; d && (ent = readdir(d));)
        n += !strncmp(ent->d_name, UNUSED, strlen(UNUSED));
    if (d)
        closedir(d);
    return n;
}

/* Whether the image has been unused for GRACE_S. The first time, only a note is left. */
static bool is_unused(int dir, const char *digest)
{
    struct stat st;
    AUTO_FREE char *mark = xasprintf(UNUSED "%s", digest);
    if (fstatat(dir, mark, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return clk_wall_ms() / 1000 - st.st_mtim.tv_sec >= GRACE_S || count_unused(dir) > MAX_UNUSED;
    int fd = openat(dir, mark, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
    return false;
}

static void drop(int dir, const char *tenant, const char *digest)
{
    AUTO_FREE char *gone = xasprintf(UNPACK "%s", digest), *mark = xasprintf(UNUSED "%s", digest);
    AUTO_FD int image = openat(dir, digest, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (image < 0 || flock(image, LOCK_EX | LOCK_NB) < 0) /* a run uses it */
        return;
    /* Durably, before any of it goes: what has an image's name is whole. */
    if (renameat(dir, digest, dir, gone) < 0 || fsync(dir) < 0 || fd_remove_tree(dir, gone) < 0)
        log_warn("image_removed", tenant, NULL, "cannot remove image %s whole; trying again later", digest);
    else
        log_info("image_removed", tenant, NULL, "image %s: no app names it", digest);
    unlinkat(dir, mark, 0);
}

static void sweep_tenant(const struct home *h, const struct conf_tenant *t, const char *id, int dirfd)
{
    DIR *d = fd_open_dir(dirfd, ".");
    for (struct dirent *ent; d && (ent = readdir(d));) {
        const char *name = ent->d_name;
        AUTO_FREE char *mark = xasprintf(UNUSED "%s", name);
        if (!strncmp(name, UNPACK, strlen(UNPACK))) {
            if (fd_remove_tree(dirfd, name) < 0)
                log_warn("image_rest", id, NULL, "cannot remove what is left of unpacking an image; trying again later");
        } else if (name[0] == '.') {
            continue;
        } else if (is_configured(h, t, name)) {
            unlinkat(dirfd, mark, 0);
        } else if (is_unused(dirfd, name)) {
            drop(dirfd, id, name);
        }
    }
    if (d)
        closedir(d);
}

static void sweep(const struct home *h, const struct conf *c)
{
    DIR *d = fd_open_dir(h->dirfd, IMAGES);
    for (struct dirent *ent; d && (ent = readdir(d));) {
        AUTO_FD int lock = -1;
        AUTO_FD int dir = conf_valid_id(ent->d_name) ? open_tenant(h, ent->d_name, LOCK_EX | LOCK_NB, &lock) : -1;
        if (dir >= 0) /* else whoever holds the lock does this */
            sweep_tenant(h, conf_tenant(c, ent->d_name), ent->d_name, dir);
    }
    if (d)
        closedir(d);
}

/* ---- unpacking ---- */

static void make_spec(const struct image *m, const char *umoci, struct run_spec *ret)
{
    AUTO_FREE char *layout = xasprintf("%s/" IMAGES "/%s/" UNPACK "%s/layout", m->home->path, m->tenant->id, m->id);
    AUTO_FREE char *dir = xasprintf("%s/" IMAGES "/%s/" UNPACK "%s/run", m->home->path, m->tenant->id, m->id);
    AUTO_FREE char *image = xasprintf("%s:" LAYOUT_REF, layout);
    run_alone_spec(ret, m->home, m->id, m->tenant->id, "image", dir, uid_in_block(m->conf->platform.uid_base, UID_IMAGE));
    ret->exec = home_program(m->home, "simbdp-image");
    ret->builtin = ret->full_isolation = ret->own_network = true;
    ret->relay = home_program(m->home, "simbdp-relay");
    ret->relay_uid = uid_in_block(m->conf->platform.uid_base, UID_RELAY);
    ret->tmp_bytes = TMP_BYTES;
    ret->tmp_inodes = 1000;
    ret->scratch_bytes = m->tenant->max_image_bytes;
    ret->scratch_inodes = m->tenant->max_image_files;
    ret->wall_s = WALL_S;
    ret->cg_memory_bytes = MEMORY_BYTES;
    run_alone_add_arg(ret, "--unpack");
    run_alone_add_arg(ret, umoci);
    run_alone_add_arg(ret, image);
    run_pairs_add(&ret->paths, layout, "r");
}

/* The unpacking run's own process: becomes umoci. The umask is for directories that no layer lists. */
static int become_umoci(char *umoci, char *image)
{
    char *argv[] = {umoci, "raw", "unpack", "--rootless", "--image", image, "root", NULL};
    umask(0022);
    execv(umoci, argv);
    fprintf(stderr, "cannot execute %s: %s\n", umoci, strerror(errno));
    return 1;
}

static int judge(const struct image *m, const struct run_result *res, const char *said, struct err *e)
{
    if (res->outcome == RUN_ok)
        return 0;
    if (res->limit == RUN_LIMIT_scratch_bytes)
        return err_set(e, ERR_LIMIT, "unpacked it has more than max_image_bytes = %lld", (long long)m->tenant->max_image_bytes);
    if (res->limit == RUN_LIMIT_scratch_inodes)
        return err_set(e, ERR_LIMIT, "it has more than max_image_files = %lld files and directories, or is too deep",
                       (long long)m->tenant->max_image_files);
    if (res->outcome == RUN_timeout || res->outcome == RUN_oom)
        return err_set(e, ERR_LIMIT, "unpacking it took more than %d %s", res->outcome == RUN_oom ? MEMORY_BYTES >> 20 : WALL_S,
                       res->outcome == RUN_oom ? "MiB of memory" : "s");
    return err_set(e, ERR_REFUSED, "umoci (%s): %s", run_outcome_name(res->outcome), res->error ? res->error : said);
}

static int run_umoci(const struct image *m, int dir, struct err *e)
{
    AUTO_FREE char *umoci = spawn_find("umoci"), *said = NULL;
    struct run_spec spec;
    struct run_result res;
    if (!umoci)
        return err_set(e, -ENOENT, "umoci is not there, which unpacks images: apt-get install umoci");
    make_spec(m, umoci, &spec);
    int r = run_alone(m->home, &spec, dir, 1, &res, &said, e);
    run_spec_free(&spec);
    if (r < 0)
        return r;
    r = judge(m, &res, said, e);
    run_result_free(&res);
    return r;
}

/* Gives the whole tree its name. */
static int publish(const struct image *m, int dir, struct err *e)
{
    AUTO_FD int root = openat(dir, "run/app/root", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (root < 0)
        return err_sys(e, -errno, "umoci made no directory of it");
    crash_at(CRASH_image_unpacked);
    if (syncfs(root) < 0 || renameat(dir, "run/app/root", m->dir, m->digest) < 0)
        return err_sys(e, -errno, "cannot keep it");
    crash_at(CRASH_image_rename);
    return fsync(m->dir) < 0 ? err_sys(e, -errno, "cannot keep it") : 0;
}

static int check_space(const struct image *m, struct err *e)
{
    struct statvfs fs;
    if (fstatvfs(m->dir, &fs) < 0)
        return err_sys(e, -errno, "cannot look at the disk");
    return (int64_t)fs.f_bavail * (int64_t)fs.f_frsize < m->conf->platform.min_free_bytes
               ? err_set(e, -ENOSPC, "the disk has less than min_free_bytes")
               : 0;
}

static int unpack(struct image *m, struct err *e)
{
    home_new_id(m->id);
    AUTO_FREE char *name = xasprintf(UNPACK "%s", m->id), *copy_name = xasprintf("%s/layout", name);
    int64_t began_ms = clk_now_ms();
    int r = check_space(m, e);
    if (r < 0)
        return r;
    if (mkdirat(m->dir, name, 0711) < 0 || mkdirat(m->dir, copy_name, 0755) < 0)
        return err_sys(e, -errno, "cannot make a directory for it");
    AUTO_FD int dir = openat(m->dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO_FD int copy = openat(m->dir, copy_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    r = dir < 0 || copy < 0 ? err_sys(e, -errno, "cannot open %s", name)
                            : layout_copy(m->layout, m->digest, copy, m->tenant->max_image_bytes, e);
    crash_at(CRASH_image_copied);
    if (r == 0)
        r = run_umoci(m, dir, e);
    if (r == 0)
        r = publish(m, dir, e);
    fd_remove_tree(m->dir, name);
    if (r == 0)
        log_info("image_unpacked", m->tenant->id, NULL, "image %s, in %lld ms", m->digest, (long long)(clk_now_ms() - began_ms));
    return r;
}

static int provide(struct image *m, const char *image, struct err *e)
{
    const char *tag;
    AUTO_FREE char *rel = xasprintf(IMAGES "/%s", m->tenant->id), *path = home_image(m->home, m->tenant->id, image, &tag);
    AUTO_FD int lock = -1;
    int r = fd_mkdirs(m->home->dirfd, rel, 0700);
    if (r < 0)
        return err_sys(e, r, "cannot make %s", rel);
    m->dir = open_tenant(m->home, m->tenant->id, LOCK_EX, &lock);
    if (m->dir < 0)
        return err_sys(e, m->dir, "cannot lock %s", rel);
    sweep_tenant(m->home, m->tenant, m->tenant->id, m->dir);
    m->layout = layout_open(path, tag, m->digest, e);
    if (m->layout < 0)
        return m->layout;
    return faccessat(m->dir, m->digest, F_OK, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : unpack(m, e);
}

/* c NULL: e says why there is no configuration. */
static int answer(const struct home *h, const struct conf *c, const char *tenant, const char *image, struct err *e)
{
    struct image m = {.home = h, .conf = c, .tenant = c ? conf_tenant(c, tenant) : NULL, .dir = -1, .layout = -1};
    AUTO_BUF struct buf out = {0};
    int r = m.tenant ? provide(&m, image, e) : c ? err_set(e, ERR_CONFIG, "tenant %s is not configured", tenant) : ERR_CONFIG;
    AUTO_FREE char *root = r < 0 ? NULL : image_path(&m, m.digest);
    json_begin(&out, NULL, '{');
    json_str(&out, "digest", m.digest);
    json_str(&out, "root", root);
    json_str(&out, "why", r < 0 ? e->msg : NULL);
    json_end(&out, '}');
    return puts(out.p) < 0 || fflush(stdout) < 0 ? -EIO : 0;
}

int main(int argc, char **argv)
{
    struct home h = {0};
    struct conf *c = NULL;
    struct err e = {0};
    if (argc == 4 && !strcmp(argv[1], "--unpack"))
        return become_umoci(argv[2], argv[3]);
    log_init("simbdp-image");
    crash_init();
    umask(0022);
    signal(SIGCHLD, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* who asked for it is gone, and the next one asks again */
    const char *home = home_take_arg(&argc, argv);
    bool sweeps = argc == 2 && !strcmp(argv[1], "--sweep");
    if (argc == 2 && !strcmp(argv[1], "--help"))
        return fputs(usage, stdout) < 0;
    if (!sweeps && (argc != 3 || argv[1][0] == '-'))
        return fputs(usage, stderr), 2;
    int r = sodium_init() < 0 ? -EIO : home_open(&h, home, &e);
    if (r == 0)
        r = conf_load(h.path, &c, &e);
    if (!sweeps)
        r = answer(&h, c, argv[1], argv[2], &e);
    else if (r == 0)
        sweep(&h, c);
    if (r < 0)
        log_error("image", sweeps ? NULL : argv[1], NULL, "%s", e.msg);
    conf_free(c);
    home_close(&h);
    return r < 0;
}
