#include "doctor.h"

#include "base/beneath.h"
#include "base/fd.h"
#include "base/mem.h"
#include "host/app_version.h"
#include "base/spawn.h"
#include "host/isolation.h"
#include "host/path_closed.h"
#include "host/uid_block.h"
#include "host/userns.h"
#include "run/script.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

static int64_t uid_of(struct doctor *d, const char *tenant)
{
    sqlite3_stmt *s = NULL;
    int64_t uid = -1;
    if (d->db && sqlite3_prepare_v2(d->db, "SELECT uid FROM tenants WHERE id=?1", -1, &s, NULL) == SQLITE_OK) {
        sqlite3_bind_text(s, 1, tenant, -1, SQLITE_STATIC);
        if (sqlite3_step(s) == SQLITE_ROW)
            uid = sqlite3_column_int64(s, 0);
    }
    sqlite3_finalize(s);
    return uid;
}

/* Tries it with the tenant's uid, in a child. 0 or -errno. */
static int reaches(int64_t uid, const char *path, int mode)
{
    pid_t pid = fork();
    if (pid == 0) {
        if (geteuid() == 0 && uid >= 0 &&
            (setgroups(0, NULL) < 0 || setresgid((gid_t)uid, (gid_t)uid, (gid_t)uid) < 0 ||
             setresuid((uid_t)uid, (uid_t)uid, (uid_t)uid) < 0))
            _exit(EPERM);
        _exit(access(path, mode) < 0 ? errno : 0);
    }
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        return -EAGAIN;
    return -WEXITSTATUS(status);
}

/* Whether the tenant can reach the path. False: that was reported. */
static bool reach(struct doctor *d, const char *tenant, int64_t uid, const char *what, const char *path, int mode)
{
    AUTO_FREE char *subject = xasprintf("%s: %s", tenant, what);
    int r = reaches(uid, path, mode);
    if (r == 0) {
        doctor_say(d, "reach", subject, "ok", path, NULL);
        return true;
    }
    AUTO_FREE char *closed = path_closed(path);
    struct stat st;
    bool is_file = stat(path, &st) == 0 && S_ISREG(st.st_mode);
    AUTO_FREE char *reason = xasprintf("%s: %s (as uid %lld)", path, err_text(r), (long long)(uid >= 0 ? uid : (int64_t)geteuid()));
    AUTO_FREE char *remedy = r == -ENOENT ? xstrdup("copy it there")
                                          : xasprintf("`chmod o+x %s`%s", closed ? closed : path,
                                                      is_file ? ", and the executable itself must have r and x for others" : "");
    doctor_say(d, "reach", subject, "failed", reason, remedy);
    return false;
}

static void executable(struct doctor *d, const char *tenant, int64_t uid, const char *name, const char *path)
{
    if (!reach(d, tenant, uid, name, path, X_OK) || !script_has_crlf(path))
        return;
    AUTO_FREE char *subject = xasprintf("%s: %s", tenant, name), *remedy = xasprintf("`sed -i 's/\\r$//' %s`", path);
    doctor_say(d, "reach", subject, "failed",
               "its first line ends with CRLF: no interpreter has a name that ends with a carriage return", remedy);
}

/* An app's image, and whether there is something to unpack it. */
static void image(struct doctor *d, const struct conf_tenant *t, const char *name, const char *value)
{
    const char *tag;
    AUTO_FREE char *path = home_image(&d->h, t->id, value, &tag), *umoci = spawn_find("umoci");
    AUTO_FREE char *subject = xasprintf("%s: image of %s", t->id, name);
    AUTO_FD int fd = beneath_root(path, O_PATH | O_DIRECTORY);
    if (fd < 0)
        doctor_say(d, "reach", subject, "failed", path,
                   "put a directory or an OCI layout there; no part of the path may be a link");
    else if (!umoci && faccessat(fd, "oci-layout", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        doctor_say(d, "reach", subject, "failed", "umoci is not there, which unpacks it", "apt-get install umoci");
    else
        doctor_say(d, "reach", subject, "ok", path, NULL);
}

/* An app's executable and what else it needs. */
static void app(struct doctor *d, const struct conf_tenant *t, int64_t uid, const char *name, const char *exec, const char *root,
                const struct cfg_list *secrets)
{
    const struct conf_secret *s = secrets->v;
    AUTO_FREE char *path = app_version_active_exec(&d->h, t->id, name, exec);
    if (*root)
        image(d, t, name, root);
    if (*exec && strncmp(exec, "builtin:", 8) && (!*root || exec[0] != '/')) /* else it is in the image */
        executable(d, t->id, uid, name, path);
    for (size_t k = 0; k < secrets->n; k++) {
        AUTO_FREE char *file = home_secret(&d->h, t->id, s[k].file);
        AUTO_FREE char *what = xasprintf("%s: secret %s", t->id, s[k].name);
        if (access(file, R_OK) < 0)
            doctor_say(d, "reach", what, "failed", file, "put the file there, readable for the platform");
    }
}

static void tenant(struct doctor *d, const struct conf_tenant *t)
{
    const struct conf_batch *b = t->batch.v;
    int64_t uid = uid_of(d, t->id);
    AUTO_FREE char *subject = xasprintf("%s: uid %lld", t->id, (long long)uid);
    const struct passwd *pw = uid >= 0 ? getpwuid((uid_t)(d->has_map ? d->map.subuid + uid - 1 : uid)) : NULL;
    if (geteuid() == 0 && uid < 0)
        doctor_say(d, "users", t->id, "unknown", "it gets its uid when the platform first starts", NULL);
    else if (geteuid() == 0 && pw) {
        AUTO_FREE char *reason = xasprintf("is also user %s of this host", pw->pw_name);
        doctor_say(d, "users", subject, "failed", reason, "choose another platform.uid_base for a new home");
    } else if (geteuid() == 0)
        doctor_say(d, "users", subject, "ok", "its own", NULL);
    if (geteuid() == 0 && uid < 0)
        uid = uid_tenant_begin(d->conf->platform.uid_base); /* no tenant has one yet: any serves for the trial */
    if (!reach(d, t->id, uid, "home", d->h.path, X_OK) && d->warns)
        return; /* then nothing else of the tenant is checked */
    const struct conf_stream_app *a = t->stream_apps.v;
    for (size_t i = 0; i < t->batch.n; i++) {
        AUTO_FREE char *checker = app_version_active_exec(&d->h, t->id, b[i].app, b[i].checker);
        app(d, t, uid, b[i].app, b[i].exec, b[i].image, &b[i].secrets);
        if (*b[i].checker && (!*b[i].image || b[i].checker[0] != '/'))
            executable(d, t->id, uid, "checker", checker);
    }
    for (size_t i = 0; i < t->stream_apps.n; i++) {
        AUTO_FREE char *checker = app_version_active_exec(&d->h, t->id, a[i].app, a[i].checker);
        app(d, t, uid, a[i].app, a[i].exec, a[i].image, &a[i].secrets);
        if (*a[i].checker)
            executable(d, t->id, uid, "checker", checker);
    }
}

/* The block of uids (lib/host/uid_block.h). One that another home has was refused by conf_load. */
static void block(struct doctor *d)
{
    const long long base = d->conf->platform.uid_base, n = d->conf->platform.n_uids;
    AUTO_FREE char *range = xasprintf("%lld to %lld for inspectors and tenants, from %lld on for the platform's programs", base,
                                      base + n - 1, base + UID_PROGRAMS);
    if (geteuid() == 0)
        doctor_say(d, "users", "uids of this home", "ok", range, NULL);
}

/* What a user other than root has: subordinate ids, none of them, or no user namespaces at all. */
static void user_namespace(struct doctor *d)
{
    struct userns_host host;
    AUTO_FREE char *ids =
        xasprintf("%lld subordinate uids from %lld on, %lld gids from %lld on, in a user namespace", (long long)d->map.n_subuids,
                  (long long)d->map.subuid, (long long)d->map.n_subgids, (long long)d->map.subgid);
    if (d->has_map)
        doctor_say(d, "users", "isolation of tenants", "ok", ids, NULL);
    if (geteuid() == 0)
        return;
    userns_look(&host);
    const bool several = d->conf->n_tenants > 1;
    AUTO_FREE char *reason =
        xasprintf("not root, and %s%s", host.why, several ? ": all tenants share your uid" : "; but there is no second tenant");
    doctor_say(d, "users", "isolation of tenants", several ? "absent" : "ok", reason, host.remedy);
}

void doctor_tenants(struct doctor *d)
{
    block(d);
    user_namespace(d);
    for (size_t i = 0; i < d->conf->n_tenants; i++)
        tenant(d, &d->conf->tenants[i]);
}
