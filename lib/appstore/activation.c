#include "activation.h"
#include "manifest.h"

#include "base/beneath.h"
#include "base/clk.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"
#include "host/version_use.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

enum { LOCK_TRIES = 100, LOCK_WAIT_MS = 10 };

/* ---- apps ---- */

int appstore_app_of(const struct conf_tenant *t, const char *app, struct appstore_app *ret, struct err *e)
{
    const struct conf_batch *b = conf_app(t, app);
    const struct conf_stream_app *s = b ? NULL : conf_stream_app(t, app);
    if (!b && !s)
        return err_refuse(e, "no_app", 0, "tenant %s has no app %s", t->id, app);
    *ret = b ? (struct appstore_app){b->app, b->exec, b->checker, b->image, b->profile}
             : (struct appstore_app){s->app, s->exec, s->checker, s->image, s->profile};
    if (!*ret->exec || ret->exec[0] == '/' || !strncmp(ret->exec, "builtin:", 8))
        return err_refuse(e, "no_app", 0, "app %s executes %s%s, which is the provider's: nothing of it can be uploaded", app,
                          *ret->exec ? ret->exec : "nothing", *ret->exec ? "" : " here");
    return 0;
}

int appstore_check_exec(const struct appstore_app *a, int dirfd, struct err *e)
{
    struct stat st;
    AUTO_FD int fd = beneath_open(dirfd, a->exec, O_PATH, 0);
    if (fd < 0)
        return err_refuse(e, "no_exec", 0, "it has no file %s, which app %s executes", a->exec, a->name);
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || !(st.st_mode & 0111))
        return err_refuse(e, "no_exec", 0, "its %s, which app %s executes, is no executable file", a->exec, a->name);
    return 0;
}

/* ---- locks ---- */

/* `wait`: for a short time. */
static int lock(const struct home *h, const char *tenant, const char *app, const char *name, bool wait, struct err *e)
{
    AUTO_FREE char *path = app_version_path(tenant, app, name);
    AUTO_FD int fd = openat(h->dirfd, path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(e, -errno, "cannot open %s", path);
    for (int i = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return err_sys(e, -errno, "cannot lock %s", path);
        if (!wait || i == LOCK_TRIES)
            return err_refuse(e, "busy", 1, "a version of app %s is being %s", app, wait ? "activated" : "uploaded");
        poll(NULL, 0, LOCK_WAIT_MS);
    }
    return fd_take(&fd);
}

int appstore_lock_build(const struct home *h, const char *tenant, const char *app, struct err *e)
{
    return lock(h, tenant, app, ".build.lock", false, e);
}

bool appstore_is_building(const struct home *h, const char *tenant, const char *app)
{
    AUTO_FREE char *path = app_version_path(tenant, app, ".build.lock");
    AUTO_FD int fd = openat(h->dirfd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

/* ---- changes ---- */

static int write_active(const struct home *h, const char *tenant, const char *app, const struct app_active *a, struct err *e)
{
    AUTO_FREE char *path = app_version_path(tenant, app, "active.json");
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_str(&b, "version", a->version);
    json_i64(&b, "since_ms", a->since_ms);
    json_str(&b, "before", a->before);
    json_begin(&b, "earlier", '[');
    for (int i = 0; i < a->n_earlier; i++)
        json_str(&b, NULL, a->earlier[i]);
    json_end(&b, ']');
    json_end(&b, '}');
    crash_at(CRASH_app_activate);
    return fd_write_file(h->dirfd, path, b.p, b.n, 0644, e);
}

/* That the version can be executed. */
static int check_ready(const struct home *h, const struct conf_tenant *t, const char *app, const char *version, struct err *e)
{
    AUTO_MANIFEST struct manifest m = {0};
    struct appstore_app a;
    int r = appstore_app_of(t, app, &a, e);
    if (r == 0)
        r = manifest_read(h, t->id, app, version, &m, e);
    if (r == -ENOENT)
        return err_refuse(e, "not_found", 0, "app %s has no version %s", app, version);
    if (r < 0)
        return r;
    if (m.state != MANIFEST_ready)
        return err_refuse(e, "state", 0, "version %s is %s%s%s", version, manifest_state_text(m.state), m.reason ? ": " : "",
                          m.reason ? m.reason : "");
    AUTO_FREE char *path = app_version_path(t->id, app, version);
    AUTO_FD int dir = openat(h->dirfd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0)
        return err_sys(e, -errno, "version %s cannot be opened; upload it again", version);
    r = appstore_check_exec(&a, dir, e);
    if (r < 0)
        err_context(e, "version %s", version);
    return r;
}

/* A version stands once in the list. */
static void push_earlier(struct app_active *a, const char *version)
{
    int n = 0;
    struct app_active old = *a;
    if (!*version)
        return;
    memcpy(a->earlier[n++], version, APP_VERSION_SIZE);
    for (int i = 0; i < old.n_earlier && n < APP_VERSION_EARLIER_MAX; i++)
        if (strcmp(old.earlier[i], version) != 0)
            memcpy(a->earlier[n++], old.earlier[i], APP_VERSION_SIZE);
    a->n_earlier = n;
}

static void drop_earlier(struct app_active *a, const char *version)
{
    int n = 0;
    for (int i = 0; i < a->n_earlier; i++)
        if (strcmp(a->earlier[i], version) != 0)
            memmove(a->earlier[n++], a->earlier[i], APP_VERSION_SIZE);
    a->n_earlier = n;
}

static void set_version(struct app_active *a, const char *version)
{
    memcpy(a->before, a->version, APP_VERSION_SIZE);
    memcpy(a->version, version, APP_VERSION_SIZE);
    a->since_ms = clk_wall_ms();
}

int appstore_activate(const struct home *h, const struct conf_tenant *t, const char *app, const char *version,
                      struct app_active *ret, struct err *e)
{
    int r = check_ready(h, t, app, version, e);
    if (r < 0)
        return r;
    AUTO_FD int held = lock(h, t->id, app, ".lock", true, e);
    r = held < 0 ? held : app_version_read(h, t->id, app, ret, NULL);
    if (held < 0)
        return r;
    if (r == ERR_FORMAT) /* this mends it */
        *ret = (struct app_active){0};
    else if (r < 0)
        return err_sys(e, r, "cannot read which version is active");
    if (!strcmp(ret->version, version))
        return 0;
    drop_earlier(ret, version);
    push_earlier(ret, ret->version);
    set_version(ret, version);
    return write_active(h, t->id, app, ret, e);
}

int appstore_rollback(const struct home *h, const struct conf_tenant *t, const char *app, struct app_active *ret, struct err *e)
{
    struct appstore_app a;
    char to[APP_VERSION_SIZE];
    int r = appstore_app_of(t, app, &a, e);
    if (r < 0)
        return r;
    *ret = (struct app_active){0};
    AUTO_FD int held = lock(h, t->id, app, ".lock", true, e);
    r = held == -ENOENT ? 0 : held < 0 ? held : app_version_read(h, t->id, app, ret, e);
    if (r == 0 && !ret->n_earlier)
        r = err_refuse(e, "state", 0, "app %s has no earlier version to go back to", app);
    if (r < 0)
        return r;
    memcpy(to, ret->earlier[0], APP_VERSION_SIZE);
    r = check_ready(h, t, app, to, e);
    if (r < 0)
        return r;
    drop_earlier(ret, to);
    set_version(ret, to);
    return write_active(h, t->id, app, ret, e);
}

static int refuse_used(const struct home *h, const char *tenant, const char *app, const char *version, struct err *e)
{
    char ids[VERSION_USE_MAX][ID_SIZE];
    AUTO_BUF struct buf list = {0};
    size_t n = version_use_runs(h, tenant, app, version, ids);
    for (size_t i = 0; i < n && i < VERSION_USE_MAX; i++)
        buf_addf(&list, "%s%s", i ? ", " : "", ids[i]);
    if (n > VERSION_USE_MAX)
        buf_addf(&list, " and %zu more", n - VERSION_USE_MAX);
    return err_refuse(e, "in_use", 0,
                      "version %s is executed by %s%s; delete it again when they have ended (an instance can be stopped)", version,
                      n > 1 ? "the runs "
                      : n   ? "the run "
                            : "a run that just ends or begins",
                      list.n ? list.p : "");
}

int appstore_seize(const struct home *h, const char *tenant, const char *app, const char *version, struct err *e)
{
    int fd = version_use_seize(h, tenant, app, version);
    return fd == -EBUSY ? refuse_used(h, tenant, app, version, e)
           : fd < 0     ? err_sys(e, fd, "cannot look whether version %s is in use", version)
                        : fd;
}

/* First its manifest goes: what has none is nothing, and is swept by the next upload. Then its name, so that nothing that is not
 * whole ever has it; durably, since a power cut must not bring back what was said to be gone. */
static int remove_files(const struct home *h, const char *tenant, const char *app, const char *version, struct err *e)
{
    AUTO_FREE char *name = xasprintf("%s.json", version), *manifest = app_version_path(tenant, app, name),
                   *versions = app_version_dir(tenant, app), *dir = app_version_path(tenant, app, version),
                   *gone = xasprintf(APPSTORE_NEW "gone-%s", version), *aside = app_version_path(tenant, app, gone);
    if (unlinkat(h->dirfd, manifest, 0) < 0)
        return errno == ENOENT ? err_refuse(e, "not_found", 0, "app %s has no version %s", app, version)
                               : err_sys(e, -errno, "cannot remove %s", manifest);
    crash_at(CRASH_gone_unlinked);
    fd_remove_tree(h->dirfd, aside); /* of one that was killed */
    if (renameat(h->dirfd, dir, h->dirfd, aside) < 0 && errno != ENOENT)
        return err_sys(e, -errno, "cannot remove %s", dir);
    crash_at(CRASH_gone_renamed);
    int r = fd_sync_dir(h->dirfd, versions);
    if (r < 0)
        return err_sys(e, r, "cannot sync %s", versions);
    r = fd_remove_tree(h->dirfd, aside);
    return r < 0 && r != -ENOENT ? err_sys(e, r, "cannot remove %s", aside) : 0;
}

int appstore_remove(const struct home *h, const struct conf_tenant *t, const char *app, const char *version, struct err *e)
{
    struct app_active active;
    AUTO_FREE char *path = app_version_dir(t->id, app);
    if (!app_version_valid(version) || !fd_exists(h->dirfd, path))
        return err_refuse(e, "not_found", 0, "app %s has no version %s", app, version);
    AUTO_FD int build = appstore_lock_build(h, t->id, app, e);
    AUTO_FD int held = build < 0 ? build : lock(h, t->id, app, ".lock", true, e);
    int r = held < 0 ? held : app_version_read(h, t->id, app, &active, e);
    if (r < 0)
        return r;
    if (!strcmp(active.version, version))
        return err_refuse(e, "state", 0, "version %s is active; activate another one first", version);
    AUTO_FD int seized = appstore_seize(h, t->id, app, version, e);
    if (seized < 0)
        return seized;
    int n = active.n_earlier;
    drop_earlier(&active, version);
    if (active.n_earlier != n)
        r = write_active(h, t->id, app, &active, e);
    return r < 0 ? r : remove_files(h, t->id, app, version, e);
}
