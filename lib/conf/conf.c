#include "conf.h"
#include "check.h"
#include "keys.h"
#include "own.h"

#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"
#include "host/uid_block.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

/* An error in one file is no reason not to read the others, when all errors are to be told. */
int conf_collect(const struct conf *c, int r, struct err *e)
{
    if (r >= 0 || !c->all)
        return r;
    if (strcmp(e->msg, CFG_TOLD) != 0)
        buf_addf(c->all, "%s\n", e->msg);
    *e = (struct err){0};
    return 0;
}

#define X(name) #name,
const char *conf_isolation_name(enum conf_isolation v)
{
    static const char *const names[] = {CONF_ISOLATIONS(X)};
    return names[v];
}

const char *conf_delivery_name(enum conf_delivery v)
{
    static const char *const names[] = {CONF_DELIVERIES(X)};
    return names[v];
}
#undef X

static int load_tenant(struct conf *c, const char *dir, const char *name, struct err *e)
{
    size_t n = strlen(name);
    if (name[0] == '.' || n < 6 || strcmp(name + n - 5, ".conf"))
        return 0;
    c->tenants = xgrow(c->tenants, c->n_tenants, sizeof *c->tenants);
    struct conf_tenant *t = &c->tenants[c->n_tenants++];
    *t = (struct conf_tenant){.id = xstrndup(name, n - 5), .file = xasprintf("%s/%s", dir, name)};
    int r = 0;
    if (!conf_valid_id(t->id))
        r = err_set(e, ERR_CONFIG, "%s: the file's name is the tenant's id and must match [a-z][a-z0-9_-]{0,31}", t->file);
    if (r == 0)
        r = cfg_load_all(t->file, conf_tenant_keys, t, c->all, e);
    t->broken = r < 0;
    return conf_collect(c, r, e);
}

static int by_id(const void *a, const void *b)
{
    return strcmp(((const struct conf_tenant *)a)->id, ((const struct conf_tenant *)b)->id);
}

static int check_database(const struct conf *c, size_t i, struct err *e)
{
    for (size_t k = 0; k < i; k++)
        if (!c->tenants[k].broken && !strcmp(c->tenants[i].database, c->tenants[k].database) &&
            !strcmp(c->tenants[i].mongo_url, c->tenants[k].mongo_url))
            return err_set(e, ERR_CONFIG, "%s: key 'database': \"%s\" is already the database of tenant %s", c->tenants[i].file,
                           c->tenants[i].database, c->tenants[k].id);
    return 0;
}

static void add_own(struct conf *c, struct conf_tenant *t, const char *home)
{
    AUTO_FREE char *rel = conf_own_path(t->id), *path = xasprintf("%s/%s", home, rel);
    bool other = c->own_tenant && !strcmp(c->own_tenant, t->id);
    conf_own_add(c, t, other ? c->own_file : path);
}

static char *file_of(const struct conf *c, const char *home, const char *name)
{
    return c->dir ? xasprintf("%s/%s", c->dir, name) : xasprintf("%s/conf/%s", home, name);
}

/* whole: the other files were read without an error, so tenants can be checked against them. */
static int load_tenants(struct conf *c, const char *home, bool whole, struct err *e)
{
    AUTO_FREE char *dir = file_of(c, home, "tenants");
    DIR *d = opendir(dir);
    if (!d)
        return err_sys(e, -errno, "cannot open %s", dir);
    int r = 0, unread = 0;
    for (struct dirent *ent; r == 0 && (ent = fd_next_name(d, &unread));)
        r = load_tenant(c, dir, ent->d_name, e);
    closedir(d);
    if (r == 0 && unread < 0) /* a tenant that is not seen would be suspended */
        r = err_sys(e, unread, "cannot list %s", dir);
    if (c->n_tenants)
        qsort(c->tenants, c->n_tenants, sizeof *c->tenants, by_id);
    for (size_t i = 0; r == 0 && whole && i < c->n_tenants; i++) {
        if (c->tenants[i].broken)
            continue;
        r = conf_collect(c, conf_check_tenant(c, &c->tenants[i], e), e);
        if (r == 0)
            r = conf_collect(c, check_database(c, i, e), e);
        if (r == 0)
            add_own(c, &c->tenants[i], home);
    }
    return r;
}

/* Done last, so that a configuration with an error changes nothing on this host. */
static int resolve_uids(const char *home, const char *file, struct conf *c, struct err *e)
{
    struct uid_block block = {c->platform.uid_base, UID_PROGRAMS};
    if (block.base >= 0 && block.base < UID_FIRST)
        return err_set(e, ERR_CONFIG, "%s: key 'platform.uid_base': %lld must be -1 or at least %d", file, (long long)block.base,
                       UID_FIRST);
    int r = block.base < 0 ? uid_block_of_home(home, &block, e) : 0;
    if (r == 0) {
        c->platform.uid_base = block.base;
        c->platform.n_uids = block.n;
    }
    return r;
}

static int load(struct conf *c, const char *home, struct err *e)
{
    AUTO_FREE char *platform = file_of(c, home, "mysimbdp.conf");
    AUTO_FREE char *profiles = file_of(c, home, "profiles.conf");
    bool whole = true;
    int r = cfg_load_all(platform, conf_platform_keys, c, c->all, e);
    if (r == 0)
        r = conf_check_platform(platform, c, e);
    whole &= r == 0;
    r = conf_collect(c, r, e);
    if (r == 0)
        r = cfg_load_all(profiles, conf_profiles_keys, c, c->all, e);
    if (r == 0 && whole)
        r = conf_check_profiles(profiles, c, e);
    whole &= r == 0;
    r = conf_collect(c, r, e);
    if (r == 0)
        r = load_tenants(c, home, whole, e);
    if (r == 0 && c->all && c->all->n)
        return err_set(e, ERR_CONFIG, "%s", CFG_TOLD);
    return r < 0 ? r : resolve_uids(home, platform, c, e);
}

static int load_new(struct conf *c, const char *home, struct conf **ret, struct err *e)
{
    int r = load(c, home, e);
    c->all = NULL;
    c->own_tenant = c->own_file = c->dir = NULL;
    if (r < 0)
        conf_free(c);
    else
        *ret = c;
    return r;
}

int conf_load_all(const char *home, struct buf *all, struct conf **ret, struct err *e)
{
    struct conf *c = xcalloc(1, sizeof *c);
    c->all = all;
    return load_new(c, home, ret, e);
}

int conf_load(const char *home, struct conf **ret, struct err *e)
{
    return conf_load_all(home, NULL, ret, e);
}

int conf_load_with(const char *home, const char *tenant, const char *own_file, struct conf **ret, struct err *e)
{
    struct conf *c = xcalloc(1, sizeof *c);
    c->own_tenant = tenant;
    c->own_file = own_file;
    return load_new(c, home, ret, e);
}

int conf_load_dir(const char *home, const char *dir, struct buf *all, struct conf **ret, struct err *e)
{
    struct conf *c = xcalloc(1, sizeof *c);
    c->all = all;
    c->dir = dir;
    return load_new(c, home, ret, e);
}

void conf_free(struct conf *c)
{
    if (!c)
        return;
    cfg_free(conf_platform_keys, c);
    cfg_free(conf_profiles_keys, c);
    for (size_t i = 0; i < c->n_tenants; i++) {
        cfg_free(conf_tenant_keys, &c->tenants[i]);
        free(c->tenants[i].id);
        free(c->tenants[i].file);
        free(c->tenants[i].own_error);
    }
    free(c->tenants);
    free(c);
}

const struct conf_tenant *conf_tenant(const struct conf *c, const char *id)
{
    struct conf_tenant key = {.id = (char *)id};
    return c->n_tenants ? bsearch(&key, c->tenants, c->n_tenants, sizeof key, by_id) : NULL;
}

const struct conf_profile *conf_profile(const struct conf *c, const char *name)
{
    const struct conf_profile *p = c->profiles.v;
    for (size_t i = 0; i < c->profiles.n; i++)
        if (!strcmp(p[i].name, name))
            return &p[i];
    return NULL;
}

const struct conf_dataset *conf_dataset(const struct conf_tenant *t, const char *name)
{
    const struct conf_dataset *d = t->datasets.v;
    for (size_t i = 0; i < t->datasets.n; i++)
        if (!strcmp(d[i].name, name))
            return &d[i];
    return NULL;
}

const struct conf_batch *conf_app(const struct conf_tenant *t, const char *app)
{
    const struct conf_batch *b = t->batch.v;
    for (size_t i = 0; i < t->batch.n; i++)
        if (!strcmp(b[i].app, app))
            return &b[i];
    return NULL;
}

const char *conf_runbook_url(const struct conf *c, const char *alert)
{
    const struct conf_alert *v = c->platform.alerts.v;
    for (size_t i = 0; i < c->platform.alerts.n; i++)
        if (!strcmp(v[i].name, alert) && *v[i].runbook_url)
            return v[i].runbook_url;
    return !strcmp(alert, CONF_ALERT_SILENCE) ? "file:///usr/share/doc/mysimbdp/runbook.md#" CONF_ALERT_SILENCE : NULL;
}

const struct conf_stream_app *conf_stream_app(const struct conf_tenant *t, const char *app)
{
    const struct conf_stream_app *a = t->stream_apps.v;
    for (size_t i = 0; i < t->stream_apps.n; i++)
        if (!strcmp(a[i].app, app))
            return &a[i];
    return NULL;
}

const struct conf_stream *conf_stream(const struct conf_tenant *t, const char *name)
{
    const struct conf_stream *s = t->streams.v;
    for (size_t i = 0; i < t->streams.n; i++)
        if (!strcmp(s[i].name, name))
            return &s[i];
    return NULL;
}

const struct conf_batch *conf_route(const struct conf_tenant *t, const char *app, const char *dataset, const char *file)
{
    const struct conf_batch *b = t->batch.v;
    for (size_t i = 0; i < t->batch.n; i++) {
        if (app && strcmp(b[i].app, app))
            continue;
        bool takes = b[i].datasets.n == 0;
        for (size_t k = 0; k < b[i].datasets.n; k++)
            takes |= !strcmp(b[i].datasets.v[k], dataset);
        if (takes && (app || fnmatch(b[i].pattern, file, 0) == 0))
            return &b[i];
    }
    return NULL;
}

static int64_t tighter(int64_t a, int64_t b)
{
    return a < 0 ? b : b < 0 ? a : a < b ? a : b;
}

struct conf_limits conf_effective_limits(const struct conf_tenant *t, const struct conf_dataset *d)
{
    struct conf_limits l = t->limits;
    /* Limits on files and bytes in staging and a day are not combined: each level counts for itself. */
#define TIGHTER(field) l.field = tighter(l.field, d->limits.field)
    TIGHTER(max_file_bytes);
    TIGHTER(max_decompressed_bytes);
    TIGHTER(max_expansion);
    TIGHTER(max_inspect_s);
    TIGHTER(max_rows);
    TIGHTER(max_row_bytes);
    TIGHTER(max_columns);
    TIGHTER(max_rejects);
#undef TIGHTER
    double pct = d->limits.max_reject_pct;
    if (pct >= 0 && (l.max_reject_pct < 0 || pct < l.max_reject_pct))
        l.max_reject_pct = pct;
    l.formats = (struct strs){0};
    return l;
}

static bool has(const struct strs *l, const char *word)
{
    for (size_t i = 0; i < l->n; i++)
        if (!strcmp(l->v[i], word))
            return true;
    return false;
}

static bool listed(const struct strs *l, const char *format)
{
    return !l->n || has(l, format);
}

const char *conf_format_refusal(const struct conf *c, const struct conf_tenant *t, const struct conf_dataset *d, const char *format)
{
    if (strcmp(format, "csv") && strcmp(format, "json"))
        return "format";
    if (!listed(&c->platform.valid_formats, format))
        return "valid_formats";
    if (!listed(&t->limits.formats, format) || !listed(&d->limits.formats, format))
        return "formats";
    return strcmp(d->format, format) ? "format" : NULL;
}

bool conf_mount_is_writable(const char *mount)
{
    size_t n = strlen(mount), k = strlen(CONF_WRITABLE);
    return n > k && !strcmp(mount + n - k, CONF_WRITABLE);
}

bool conf_allows(const struct conf_tenant *t, const char *what)
{
    return has(&t->allow, what);
}

bool conf_network_has(const struct conf_profile *p, const char *word)
{
    return has(&p->network, word);
}
