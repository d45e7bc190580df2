#include "push.h"
#include "build.h"
#include "tree_copy.h"

#include "base/beneath.h"
#include "base/clk.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "host/version_use.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

enum { BLOCK_BYTES = 1 << 20, HEAD_BYTES = 512, MAX_DEAD = 20 /* manifests of versions that are not ready */ };

#define STORE "state/appstore"
#define NEW   APPSTORE_NEW

/* What an upload is, by how it begins. */
enum kind { KIND_unknown, KIND_executable, KIND_archive };

struct work {
    const struct push *p;
    struct appstore_app app;
    struct manifest *m;
    struct isolation_host isolation;
    char id[ID_SIZE];
    char *path;            /* of `dir` */
    int dir, versions, at; /* state/appstore/<id>; the app's versions; the version that is being made */
    enum kind kind;
    struct tree_copy count;
};

/* ---- the upload ---- */

static enum kind kind_of(const unsigned char *p, size_t n)
{
    static const struct {
        const char *magic;
        size_t n, at;
        enum kind kind;
    } known[] = {{"\177ELF", 4, 0, KIND_executable},       {"#!", 2, 0, KIND_executable},      {"\x1f\x8b", 2, 0, KIND_archive},
                 {"\x28\xb5\x2f\xfd", 4, 0, KIND_archive}, {"PK\x03\x04", 4, 0, KIND_archive}, {"ustar", 5, 257, KIND_archive}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (n >= known[i].at + known[i].n && !memcmp(p + known[i].at, known[i].magic, known[i].n))
            return known[i].kind;
    return KIND_unknown;
}

static int too_large(const struct work *w, struct err *e)
{
    return err_refuse(e, "max_app_bytes", 0, "the upload has more than max_app_bytes = %lld",
                      (long long)w->p->tenant->max_app_bytes);
}

/* Copies, hashes and counts it. */
static int copy_upload(struct work *w, int from, int to, struct err *e)
{
    AUTO_FREE unsigned char *block = xmalloc(BLOCK_BYTES);
    crypto_hash_sha256_state h;
    unsigned char hash[crypto_hash_sha256_BYTES];
    size_t n_head = 0;
    unsigned char head[HEAD_BYTES];
    crypto_hash_sha256_init(&h);
    for (;;) {
        ssize_t n = read(from, block, BLOCK_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(e, -errno, "cannot read the upload");
        if (n == 0)
            break;
        size_t more = (size_t)n < sizeof head - n_head ? (size_t)n : sizeof head - n_head;
        memcpy(head + n_head, block, more);
        n_head += more;
        w->m->uploaded_bytes += n;
        if (w->m->uploaded_bytes > w->p->tenant->max_app_bytes)
            return too_large(w, e);
        crypto_hash_sha256_update(&h, block, (size_t)n);
        int r = fd_write_all(to, block, (size_t)n);
        if (r < 0)
            return err_sys(e, r, "cannot write a copy of the upload");
    }
    crypto_hash_sha256_final(&h, hash);
    sodium_bin2hex(w->m->sha256, sizeof w->m->sha256, hash, sizeof hash);
    memcpy(w->m->version, w->m->sha256, APP_VERSION_SIZE - 1);
    w->kind = kind_of(head, n_head);
    return 0;
}

static int take_upload(struct work *w, struct err *e)
{
    const struct push *p = w->p;
    struct stat st;
    AUTO_FD int from = strcmp(p->path, "-") ? open(p->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC) : dup(STDIN_FILENO);
    if (from < 0 || fstat(from, &st) < 0)
        return err_sys(e, -errno, "cannot open the upload");
    if (!S_ISREG(st.st_mode))
        return err_refuse(e, "archive", 0, "the upload is no regular file");
    if (st.st_size > p->tenant->max_app_bytes)
        return too_large(w, e);
    AUTO_FD int to = openat(w->dir, "upload", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    int r = to < 0 ? err_sys(e, -errno, "cannot copy the upload") : copy_upload(w, from, to, e);
    if (r == 0 && p->version && strcmp(p->version, w->m->version) != 0)
        return err_refuse(e, "digest", 0, "the upload is version %s, not %s", w->m->version, p->version);
    return r;
}

/* ---- places ---- */

static int check_space(const struct work *w, struct err *e)
{
    struct statvfs fs;
    if (fstatvfs(w->versions, &fs) < 0)
        return err_sys(e, -errno, "cannot look at the disk");
    return (int64_t)fs.f_bavail * (int64_t)fs.f_frsize < w->p->conf->platform.min_free_bytes
               ? err_refuse(e, "disk_low", 60, "the disk has less than min_free_bytes")
               : 0;
}

/* One whose removal was killed. A run may have begun with it since: then it is left to the next upload. */
static void sweep_version(const struct work *w, const char *version)
{
    AUTO_FD int seized = version_use_seize(w->p->home, w->p->tenant->id, w->app.name, version);
    if (seized >= 0)
        fd_remove_tree(w->versions, version);
}

/* A manifest that was being written; that of the active version is not written below our lock. */
static bool is_half_manifest(const char *name)
{
    char version[APP_VERSION_SIZE];
    snprintf(version, sizeof version, "%s", name);
    return app_version_valid(version) && !strcmp(name + sizeof version - 1, ".json.tmp");
}

/* What uploads left that were killed: nobody else is at it, as we hold the lock. What belongs to a version that was removed, and
 * the oldest manifests of those that never were ready, go, too. */
static void sweep(const struct work *w)
{
    struct manifest *v;
    size_t n, dead = 0;
    DIR *d = fd_open_dir(w->versions, ".");
    for (struct dirent *ent; d && (ent = readdir(d));) {
        AUTO_FREE char *manifest = xasprintf("%s.json", ent->d_name);
        if (!strncmp(ent->d_name, NEW, strlen(NEW)))
            fd_remove_tree(w->versions, ent->d_name);
        else if (is_half_manifest(ent->d_name))
            unlinkat(w->versions, ent->d_name, 0);
        else if (app_version_valid(ent->d_name) && !fd_exists(w->versions, manifest))
            sweep_version(w, ent->d_name);
    }
    if (d)
        closedir(d);
    if (manifest_list(w->p->home, w->p->tenant->id, w->app.name, &v, &n, NULL) < 0)
        return;
    for (size_t i = 0; i < n; i++) {
        AUTO_FREE char *manifest = xasprintf("%s.json", v[i].version);
        if (v[i].state != MANIFEST_ready && ++dead > MAX_DEAD)
            unlinkat(w->versions, manifest, 0);
    }
    manifest_list_free(v, n);
}

/* What is left of it when it was killed; its last runs may be ending still, and each upload has a directory of its own. */
static void sweep_work(int dirfd, const char *keep)
{
    DIR *d = fd_open_dir(dirfd, ".");
    for (struct dirent *ent; d && (ent = readdir(d));)
        if (home_valid_id(ent->d_name) && strcmp(ent->d_name, keep) != 0)
            fd_remove_tree(dirfd, ent->d_name);
    if (d)
        closedir(d);
}

static int make_work(struct work *w, struct err *e)
{
    const struct home *h = w->p->home;
    AUTO_FREE char *all = xasprintf(STORE "/%s.%s", w->p->tenant->id, w->app.name), *dir = xasprintf("%s/%s", all, w->id);
    int r = fd_mkdirs(h->dirfd, dir, 0711);
    if (r < 0)
        return err_sys(e, r, "cannot make %s", dir);
    AUTO_FD int fd = beneath_open(h->dirfd, all, O_RDONLY | O_DIRECTORY, 0);
    if (fd >= 0)
        sweep_work(fd, w->id);
    w->path = home_path(h, dir);
    w->dir = beneath_open(h->dirfd, dir, O_RDONLY | O_DIRECTORY, 0);
    return w->dir < 0 ? err_sys(e, w->dir, "cannot open %s", dir) : 0;
}

static int open_versions(struct work *w, struct err *e)
{
    const struct push *p = w->p;
    AUTO_FREE char *versions = app_version_dir(p->tenant->id, w->app.name);
    int r = fd_mkdirs(p->home->dirfd, versions, 0755);
    if (r < 0)
        return err_sys(e, r, "cannot make %s", versions);
    w->versions = beneath_open(p->home->dirfd, versions, O_RDONLY | O_DIRECTORY, 0);
    return w->versions < 0 ? err_sys(e, w->versions, "cannot open %s", versions) : check_space(w, e);
}

/* ---- the version ---- */

static int put_executable(struct work *w, struct err *e)
{
    AUTO_FREE char *parents = xstrdup(w->app.exec);
    char *slash = strrchr(parents, '/');
    AUTO_FD int from = openat(w->dir, "upload", O_RDONLY | O_CLOEXEC);
    if (from < 0)
        return err_sys(e, -errno, "cannot open the upload");
    if (slash)
        *slash = 0;
    int r = slash ? fd_mkdirs(w->at, parents, 0755) : 0;
    return r < 0 ? err_sys(e, r, "cannot make %s", parents) : tree_copy_file(&w->count, from, w->at, w->app.exec, e);
}

/* The one directory in which all of the archive lies, as `tar czf x.tar.gz app/` makes it; -1: it is not so. */
static int only_dir(int root, const char *exec)
{
    char name[NAME_MAX + 1] = "";
    int n = 0;
    DIR *d = fd_open_dir(root, ".");
    for (struct dirent *ent; d && (ent = readdir(d));)
        if (strcmp(ent->d_name, ".") != 0 && strcmp(ent->d_name, "..") != 0 && ++n == 1)
            memcpy(name, ent->d_name, strlen(ent->d_name) + 1);
    if (d)
        closedir(d);
    AUTO_FD int at_top = beneath_open(root, exec, O_PATH, 0);
    return n == 1 && at_top < 0 ? beneath_open(root, name, O_RDONLY | O_DIRECTORY, 0) : -1;
}

static int put_archive(struct work *w, const struct build *b, struct err *e)
{
    AUTO_FD int root = build_unpack(b, e);
    if (root < 0)
        return root;
    AUTO_FD int in = only_dir(root, w->app.exec);
    int r = tree_copy(&w->count, in >= 0 ? in : root, w->at, e);
    if (r == 0 && fd_exists(w->at, APP_VERSION_PYTHON))
        r = err_refuse(e, "archive", 0, "it has a " APP_VERSION_PYTHON ", which the platform makes from requirements.txt");
    return r;
}

static int put_python(struct work *w, const struct build *b, struct err *e)
{
    AUTO_FREE char *dir = app_version_dir(w->p->tenant->id, w->app.name),
                   *path = xasprintf("%s/%s/" NEW "%s", w->p->home->path, dir, w->id);
    if (!fd_exists(w->at, "requirements.txt"))
        return 0;
    AUTO_FD int from = build_python(b, path, e);
    if (from < 0)
        return from;
    if (mkdirat(w->at, APP_VERSION_PYTHON, 0755) < 0)
        return err_sys(e, -errno, "cannot make " APP_VERSION_PYTHON);
    AUTO_FD int to = beneath_open(w->at, APP_VERSION_PYTHON, O_RDONLY | O_DIRECTORY, 0);
    w->m->python = true;
    return to < 0 ? err_sys(e, to, "cannot open " APP_VERSION_PYTHON) : tree_copy(&w->count, from, to, e);
}

/* One that is there already was made of the same bytes, and may be in use still though its manifest is lost: each path in it leads
 * to the same content before and after the exchange. */
static int put_in_place(struct work *w, const char *name, struct err *e)
{
    crash_at(CRASH_app_copied);
    unsigned flags = fd_exists(w->versions, w->m->version) ? RENAME_EXCHANGE : 0;
    if (syncfs(w->at) < 0 || renameat2(w->versions, name, w->versions, w->m->version, flags) < 0 || fsync(w->versions) < 0)
        return err_sys(e, -errno, "cannot keep the version");
    crash_at(CRASH_app_rename);
    if (flags)
        fd_remove_tree(w->versions, name);
    return 0;
}

static int make_version(struct work *w, struct err *e)
{
    const struct push *p = w->p;
    struct build b = {p->home, p->conf, p->tenant, conf_profile(p->conf, w->app.profile), &w->isolation, w->id, w->path, w->dir};
    AUTO_FREE char *name = xasprintf(NEW "%s", w->id);
    if (w->kind == KIND_unknown)
        return err_refuse(e, "archive", 0,
                          "it is neither an executable (ELF, or a script that begins with #!) nor a tar.gz, tar.zst, "
                          "tar or zip");
    if (mkdirat(w->versions, name, 0755) < 0 || (w->at = beneath_open(w->versions, name, O_RDONLY | O_DIRECTORY, 0)) < 0)
        return err_sys(e, -errno, "cannot make a directory for it");
    w->count = (struct tree_copy){.max_bytes = p->tenant->max_app_bytes, .max_files = p->tenant->max_app_files};
    if (w->kind == KIND_archive)
        isolation_probe(&w->isolation, p->home);
    int r = w->kind == KIND_archive ? put_archive(w, &b, e) : put_executable(w, e);
    if (r == 0)
        r = appstore_check_exec(&w->app, w->at, e);
    if (r == 0)
        r = put_python(w, &b, e);
    w->m->bytes = w->count.bytes;
    w->m->files = w->count.files;
    return r == 0 ? put_in_place(w, name, e) : r;
}

/* ---- all of it ---- */

static int check_count(const struct work *w, struct err *e)
{
    const struct conf_tenant *t = w->p->tenant;
    struct manifest *v;
    size_t n;
    int64_t ready = 0;
    int r = manifest_list(w->p->home, t->id, w->app.name, &v, &n, e);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++)
        ready += v[i].state == MANIFEST_ready;
    manifest_list_free(v, n);
    return ready >= t->max_app_versions
               ? err_refuse(e, "max_app_versions", 0, "app %s has %lld versions, as many as the agreement allows; delete one first",
                            w->app.name, (long long)ready)
               : 0;
}

static int build(struct work *w, bool *ret_again, struct err *e)
{
    const struct push *p = w->p;
    AUTO_MANIFEST struct manifest old = {0};
    int r = make_work(w, e);
    if (r == 0)
        r = take_upload(w, e);
    if (r < 0)
        return r;
    if (manifest_read(p->home, p->tenant->id, w->app.name, w->m->version, &old, NULL) == 0 && old.state == MANIFEST_ready &&
        fd_exists(w->versions, old.version)) {
        *ret_again = true;
        manifest_fini(w->m);
        *w->m = old;
        old = (struct manifest){0};
        return 0;
    }
    r = check_count(w, e);
    if (r < 0)
        return r;
    r = manifest_write(p->home, p->tenant->id, w->app.name, w->m, e);
    if (r < 0)
        return r;
    r = make_version(w, e);
    w->m->state = r == 0                                                  ? MANIFEST_ready
                  : r == ERR_REFUSED && strcmp(err_reason(e), "disk_low") ? MANIFEST_refused
                                                                          : MANIFEST_failed;
    w->m->reason = r == 0 ? NULL : xstrdup(e->msg);
    int written = manifest_write(p->home, p->tenant->id, w->app.name, w->m, r == 0 ? e : NULL);
    return r == 0 ? written : r;
}

int push(const struct push *p, struct manifest *ret, bool *ret_again, struct err *e)
{
    struct work w = {.p = p, .m = ret, .dir = -1, .versions = -1, .at = -1};
    *ret = (struct manifest){.state = MANIFEST_building, .by = xstrdup(p->by), .created_ms = clk_wall_ms()};
    *ret_again = false;
    home_new_id(w.id);
    int r = appstore_app_of(p->tenant, p->app, &w.app, e);
    if (r == 0)
        r = open_versions(&w, e);
    AUTO_FD int lock = r == 0 ? appstore_lock_build(p->home, p->tenant->id, p->app, e) : r;
    if (lock >= 0) {
        sweep(&w);
        r = build(&w, ret_again, e);
        if (r < 0)
            sweep(&w);
    }
    if (w.path)
        fd_remove_tree(p->home->dirfd, w.path + strlen(p->home->path) + 1);
    free(w.path);
    int *const fds[] = {&w.dir, &w.versions, &w.at};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        fd_cleanup(fds[i]);
    return lock < 0 ? lock : r;
}
