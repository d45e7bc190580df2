#include "home_writes.h"

#include "base/beneath.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "conf/mongo_users.h"
#include "conf/own.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_embedded(const struct home *h, const struct conf *c)
{
    AUTO_BUF struct buf b = {0};
    const char *env = getenv("MONGO_URL");
    if (*c->platform.mongo_url || (env && *env) || fd_read_file(h->dirfd, "state/mongo.json", &b, 65536, NULL) < 0)
        return false;
    AUTO_BSON bson_t *doc = json_parse(b.p, b.n, NULL);
    return doc && !strcmp(json_get_str(doc, "kind", ""), "embedded");
}

void home_writes_users(const struct home *h, const struct conf *c)
{
    struct err e = {0};
    if (is_embedded(h, c) && mongo_users_write(h, c, &e) < 0)
        log_error("users", NULL, NULL, "the users of MongoDB stay as they were: %s", e.msg);
}

void home_writes_apps(const struct home *h, const char *tenant, int64_t gid)
{
    AUTO_FREE char *path = xasprintf("apps/%s", tenant);
    struct stat st;
    mkdirat(h->dirfd, path, 0755);
    if (fstatat(h->dirfd, path, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode) || !(st.st_mode & 0007))
        return;
    int r = beneath_own_dir(h->dirfd, path, -1, gid, st.st_mode & 07770);
    if (r < 0)
        log_warn("modes", tenant, NULL, "%s stays readable for every account: %s", path, err_text(r));
}

/* What uploads of apps left that were killed: state/appstore/<tenant>.<app>. */
static int forget_uploads(const struct home *h, const char *tenant, struct err *e)
{
    size_t n = strlen(tenant);
    int r = 0;
    DIR *d = fd_open_dir(h->dirfd, "state/appstore");
    for (struct dirent *ent; d && r == 0 && (ent = readdir(d));)
        if (!strncmp(ent->d_name, tenant, n) && ent->d_name[n] == '.')
            r = fd_remove_tree(dirfd(d), ent->d_name);
    if (d)
        closedir(d);
    return r < 0 ? err_sys(e, r, "cannot remove state/appstore/%s.*", tenant) : 0;
}

int home_writes_forget(const struct home *h, const char *tenant, bool conf, struct err *e)
{
    static const char *const places[] = {"apps", "keys", "state/images"};
    AUTO_FREE char *mark = home_purge_mark(tenant), *file = xasprintf("conf/tenants/%s.conf", tenant);
    if (!conf_valid_id(tenant) || faccessat(h->dirfd, mark, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
        return err_set(e, ERR_REFUSED, "nobody asked for tenant %s to be removed (there is no %s)", tenant, mark);
    for (size_t i = 0; !conf && i < sizeof places / sizeof *places; i++) {
        AUTO_FREE char *path = xasprintf("%s/%s", places[i], tenant);
        int r = fd_remove_tree(h->dirfd, path);
        if (r < 0)
            return err_sys(e, r, "cannot remove %s", path);
    }
    if (!conf)
        return forget_uploads(h, tenant, e);
    AUTO_FREE char *own = conf_own_path(tenant);
    if (unlinkat(h->dirfd, own, 0) < 0 && errno != ENOENT)
        return err_sys(e, -errno, "cannot remove %s", own);
    if (unlinkat(h->dirfd, file, 0) < 0 && errno != ENOENT)
        return err_sys(e, -errno, "cannot remove %s", file);
    fd_sync_dir(h->dirfd, "conf/tenants");
    unlinkat(h->dirfd, mark, 0);
    return 0;
}
