/* Uploaded versions of an app, from the store's own files. */
#include "parts.h"

#include "appstore/activation.h"
#include "appstore/manifest.h"
#include "base/mem.h"

#include <errno.h>

/* The app, which the configuration has; NULL after a refusal. */
static const char *app_of(struct asking *a)
{
    const struct conf_tenant *t = tenant_of_conf(a);
    const char *app = NULL;
    if (!t || param_text(a, "app", 64, &app) < 0)
        return NULL;
    if (!app || (!conf_app(t, app) && !conf_stream_app(t, app)))
        return refuse_not_found(a), NULL;
    return app;
}

/* A version that says it is being built, while nobody is at it, was given up. */
static void show(struct asking *a, const char *app, struct manifest *m, const char *active)
{
    if (m->state == MANIFEST_building && !appstore_is_building(a->home, a->tenant, app)) {
        m->state = MANIFEST_failed;
        xstr_set(&m->reason, "the platform was interrupted; upload it again");
    }
    manifest_tell(m, active, &a->out->body);
}

int ask_versions(struct asking *a)
{
    const char *app = app_of(a);
    struct app_active active;
    struct manifest *v;
    struct err e = {0};
    size_t n;
    if (!app)
        return ERR_REFUSED;
    int r = app_version_read(a->home, a->tenant, app, &active, &e);
    if (r == 0)
        r = manifest_list(a->home, a->tenant, app, &v, &n, &e);
    if (r < 0)
        return refuse_for_error(a, &e);
    struct buf *b = &a->out->body;
    json_begin(b, NULL, '{');
    json_str(b, "app", app);
    json_str(b, "active", *active.version ? active.version : NULL);
    json_time(b, "since", active.since_ms);
    json_begin(b, "versions", '[');
    for (size_t i = 0; i < n; i++)
        show(a, app, &v[i], active.version);
    json_end(b, ']');
    json_end(b, '}');
    manifest_list_free(v, n);
    return 0;
}

int ask_version(struct asking *a)
{
    const char *app = app_of(a), *version = NULL;
    AUTO_MANIFEST struct manifest m = {0};
    char active[APP_VERSION_SIZE];
    struct err e = {0};
    if (!app || param_text(a, "version", 64, &version) < 0)
        return ERR_REFUSED;
    int r = version ? manifest_read(a->home, a->tenant, app, version, &m, &e) : -ENOENT;
    if (r < 0)
        return r == -ENOENT ? refuse_not_found(a) : refuse_for_error(a, &e);
    app_version_active(a->home, a->tenant, app, active);
    show(a, app, &m, active);
    return 0;
}
