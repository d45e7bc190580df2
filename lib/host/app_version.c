#include "app_version.h"

#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { MAX_ACTIVE_BYTES = 8192 };

static bool take(const char *text, char ret[APP_VERSION_SIZE])
{
    if (!app_version_valid(text))
        return false;
    memcpy(ret, text, APP_VERSION_SIZE);
    return true;
}

static int take_earlier(const bson_t *doc, struct app_active *ret)
{
    bson_iter_t it;
    if (!json_get_iter(doc, "earlier", &it))
        return 0;
    while (ret->n_earlier < APP_VERSION_EARLIER_MAX && bson_iter_next(&it))
        if (!BSON_ITER_HOLDS_UTF8(&it) || !take(bson_iter_utf8(&it, NULL), ret->earlier[ret->n_earlier++]))
            return ERR_FORMAT;
    return 0;
}

int app_version_read(const struct home *h, const char *tenant, const char *app, struct app_active *ret, struct err *e)
{
    AUTO_FREE char *path = app_version_path(tenant, app, "active.json");
    AUTO_BUF struct buf text = {0};
    *ret = (struct app_active){0};
    int r = fd_read_file(h->dirfd, path, &text, MAX_ACTIVE_BYTES, e);
    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return r;
    AUTO_BSON bson_t *doc = json_parse(text.p ? text.p : "", text.n, NULL);
    const char *version = doc ? json_get_str(doc, "version", "?") : "?";
    const char *before = doc ? json_get_str(doc, "before", "") : "";
    if ((*version && !take(version, ret->version)) || (*before && !take(before, ret->before)) || take_earlier(doc, ret) < 0)
        return err_set(e, ERR_FORMAT, "%s is damaged; activate a version again", path);
    ret->since_ms = json_get_i64(doc, "since_ms", 0);
    return 0;
}

void app_version_active(const struct home *h, const char *tenant, const char *app, char ret[APP_VERSION_SIZE])
{
    struct app_active a;
    int r = app_version_read(h, tenant, app, &a, NULL);
    snprintf(ret, APP_VERSION_SIZE, "%s", r < 0 ? APP_VERSION_UNKNOWN : a.version);
}

char *app_version_exec(const struct home *h, const char *tenant, const char *app, const char *version, const char *exec)
{
    if (!*version || exec[0] == '/')
        return home_exec(h, tenant, exec);
    AUTO_FREE char *dir = app_version_path(tenant, app, version), *in = xasprintf("%s/%s", dir, exec);
    if (fd_exists(h->dirfd, dir) && !fd_exists(h->dirfd, in))
        return home_exec(h, tenant, exec);
    return xasprintf("%s/%s", h->path, in);
}

char *app_version_active_exec(const struct home *h, const char *tenant, const char *app, const char *exec)
{
    char version[APP_VERSION_SIZE];
    app_version_active(h, tenant, app, version);
    return app_version_exec(h, tenant, app, version, exec);
}
