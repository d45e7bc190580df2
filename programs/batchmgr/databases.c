/* Three kinds of MongoDB, which differ in how a tenant is kept to its own database:
 *
 *   embedded   ours (programs/mongo): each tenant's user and secret stand in a file that it reads (conf/mongo_users.h)
 *   mongod     one that `mysimbdp up` started with --auth: an administrator of ours makes each tenant's user there
 *   url        somebody else's: the same, with the user of the URL; or the platform's user for all, where the provider allows it
 *              (allow_shared_credentials)
 *
 * A tenant with a `mongo_url` of its own brings its server and its user. */
#include "databases.h"
#include "database_health.h"
#include "database_identity.h"
#include "database_shards.h"
#include "database_users.h"
#include "fair_queue.h"
#include "state.h"
#include "tenants.h"

#include "moving.h"

#include "base/address.h"
#include "db/tenants.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "conf/mongo_users.h"

#include <mongoc/mongoc.h>
#include <string.h>

#define KINDS(X) X(embedded) X(mongod) X(url)

enum kind {
#define X(name) KIND_##name,
    KINDS(X)
#undef X
};

struct databases {
    struct batchmgr *m;
    void (*on_change)(struct batchmgr *m);
    struct health **servers;
    size_t n_servers;
    struct identities *identities;
    struct shards *shards;
    char *url; /* the platform's */
    enum kind kind;
    char *told; /* what state/databases.json says; NULL: not written yet */
};

static enum kind kind_of(const char *name)
{
#define X(kind)                                                                                                                    \
    if (!strcmp(name, #kind))                                                                                                      \
        return KIND_##kind;
    KINDS(X)
#undef X
    return KIND_url;
}

static struct health *server_of(struct databases *d, const char *url);

bool databases_serve(const struct tenant *t)
{
    return t->health && health_is_up(t->health, NULL, 0);
}

/* ---- as whom a tenant's runs go there ---- */

/* On a server with users: the platform's URL with the tenant's name, secret and database. NULL: there is no such. */
static char *url_of_user(struct databases *d, const struct conf_tenant *c)
{
    char secret[MONGO_USERS_SECRET_SIZE];
    AUTO_FREE char *user = xasprintf("simbdp_%s", c->id);
    if (mongo_users_secret(&d->m->home, "mongo", c->id, secret, NULL) < 0)
        return NULL;
    return address_mongo_as(d->url, user, secret, c->database);
}

static void choose_url(struct databases *d, struct tenant *t, const struct conf_tenant *c)
{
    AUTO_FREE char *url = NULL;
    if (*c->mongo_url) {
        xstr_set(&t->mongo_url, c->mongo_url);
    } else if (d->kind == KIND_embedded) {
        const char *port = strrchr(d->url, ':');
        if (port && mongo_users_url(&d->m->home, atoi(port + 1), c->id, c->database, &url, NULL) == 0)
            xstr_set(&t->mongo_url, url);
    } else {
        url = health_users_made(t->health) ? url_of_user(d, c) : NULL;
        xstr_set(&t->mongo_url, url ? url : d->url);
    }
}

/* The tenants' users on a server that has users. */
static void order_users(struct databases *d)
{
    const struct conf *conf = d->m->conf;
    struct health_user *v = xcalloc(conf->n_tenants, sizeof *v);
    int n = 0;
    for (size_t i = 0; i < conf->n_tenants; i++) {
        const struct conf_tenant *c = &conf->tenants[i];
        char own[MONGO_USERS_SECRET_SIZE];
        /* On a MongoDB that two homes share, only who has the tenant says what its password is. */
        if (*c->mongo_url || moving_is_held(d->m, c->id) || mongo_users_secret(&d->m->home, "mongo", c->id, own, NULL) < 0)
            continue;
        v[n++] = (struct health_user){xasprintf("simbdp_%s", c->id), xstrdup(own), xstrdup(c->database)};
    }
    char secret[MONGO_USERS_SECRET_SIZE];
    if (d->kind == KIND_mongod && mongo_users_secret(&d->m->home, "mongo", "*", secret, NULL) == 0)
        health_set_admin(server_of(d, d->url), "simbdp", secret);
    health_set_users(server_of(d, d->url), v, n, conf->platform.allow_shared_credentials);
}

/* ---- whether it may be used ---- */

/* A database that is not on a server of the home's own: is it the one that the tenant had? */
static void look_at_identity(struct databases *d, struct tenant *t, const struct conf_tenant *c, bool up)
{
    bool ours = !c || (!*c->mongo_url && d->kind != KIND_url);
    if (ours || t->purging || t->moves & (TENANT_HELD | TENANT_MOVED)) /* held: it is another home's to mark, or will be */
        identities_drop(d->identities, t->id, t->purging);
    else if (up && identities_want(d->identities,
                                   &(struct identity_of){t->id, health_url(t->health), t->mongo_url, c->database, t->alone}))
        health_check(t->health);
    free(t->database_why);
    t->database_why = up ? identities_why_not(d->identities, t->id) : NULL;
}

/* Collections are sharded where the database is the one that it should be, and loads wait for the answer. */
static void look_at_shards(struct databases *d, struct tenant *t, bool up)
{
    const bool may = up && !t->database_why && !t->purging && !(t->moves & (TENANT_HELD | TENANT_MOVED));
    shards_let(d->shards, t->id, may);
    if (may && shards_are_pending(d->shards, t->id))
        t->database_why = xstrdup("the collections of its datasets that have `shard` are being sharded");
}

void databases_let_tenant(struct databases *d, struct tenant *t)
{
    fair_queue_block_tenant(d->m->fair_queue, t->id, !tenant_accepts(t) || !databases_serve(t) || t->database_why);
}

static void refresh(struct databases *d, struct tenant *t)
{
    const struct conf_tenant *c = tenant_conf(d->m, t);
    bool up = databases_serve(t);
    if (c && up)
        choose_url(d, t, c);
    look_at_identity(d, t, c, up);
    look_at_shards(d, t, up);
    databases_let_tenant(d, t);
}

/* Whether it is not known yet if it may be used. */
static bool is_looked_for(struct databases *d, const struct tenant *t)
{
    if (!t->health)
        return false;
    if (!databases_serve(t))
        return !health_is_known(t->health);
    return identities_are_looking(d->identities, t->id) || shards_are_pending(d->shards, t->id);
}

static void add_not_sharded(void *arg, const char *collection, const char *why)
{
    struct buf *b = arg;
    json_begin(b, NULL, '{');
    json_str(b, "collection", collection);
    json_str(b, "why", why);
    json_end(b, '}');
}

/* What streammgr needs to know, and `doctor` tells: state/databases.json. */
static void tell(struct databases *d)
{
    AUTO_BUF struct buf b = {0};
    struct err e = {0};
    size_t i = 0;
    json_begin(&b, NULL, '{');
    for (struct tenant *t; (t = map_next(&d->m->tenants, &i));) {
        json_begin(&b, t->id, '{');
        json_bool(&b, "up", !t->database_why && databases_serve(t));
        json_str(&b, "url", t->mongo_url);
        json_str(&b, "why", t->database_why);
        json_bool(&b, "looking", is_looked_for(d, t));
        json_begin(&b, "not_sharded", '[');
        shards_each_not(d->shards, t->id, add_not_sharded, &b);
        json_end(&b, ']');
        json_end(&b, '}');
    }
    json_end(&b, '}');
    buf_adds(&b, "\n");
    if (d->told && !strcmp(d->told, b.p))
        return;
    if (fd_write_file(d->m->home.dirfd, "state/databases.json", b.p, b.n, 0600, &e) < 0) {
        log_warn("databases", NULL, NULL, "%s", e.msg);
        return;
    }
    xstr_set(&d->told, b.p);
}

static void look_at_all(struct databases *d)
{
    size_t i = 0;
    for (struct tenant *t; (t = map_next(&d->m->tenants, &i));)
        refresh(d, t);
    tell(d);
    d->on_change(d->m);
}

static void on_health(void *arg, struct health *h)
{
    (void)h;
    look_at_all(arg);
}

static void on_shards(void *arg)
{
    look_at_all(arg);
}

bool databases_is_up(struct databases *d, char *ret_why, int why_size)
{
    return d->url && health_is_up(server_of(d, d->url), ret_why, why_size);
}

int databases_accept(struct databases *d, const char *tenant, struct err *e)
{
    struct tenant *t = map_get(&d->m->tenants, tenant);
    if (!t)
        return err_set(e, ERR_REFUSED, "no tenant \"%s\"; `mysimbdp tenant list` shows them", tenant);
    if (!identities_accept(d->identities, tenant))
        return err_set(e, ERR_REFUSED, "nothing is wrong with the database of %s, as far as is known", tenant);
    look_at_all(d);
    health_check(t->health);
    return 0;
}

void databases_moved(struct databases *d, struct tenant *t)
{
    if (d->url && d->kind != KIND_embedded)
        order_users(d);
    refresh(d, t);
    tell(d);
}

void databases_forget(struct databases *d, const char *tenant)
{
    identities_drop(d->identities, tenant, true);
}

/* ---- servers ---- */

static struct health *server_of(struct databases *d, const char *url)
{
    for (size_t i = 0; i < d->n_servers; i++)
        if (!strcmp(health_url(d->servers[i]), url))
            return d->servers[i];
    d->servers = xrealloc(d->servers, (d->n_servers + 1) * sizeof *d->servers);
    struct health *h = d->servers[d->n_servers++] = health_new(d->m->base, url, on_health, d);
    health_look_at_identities(h, d->identities);
    return h;
}

int databases_find(struct databases *d, const struct conf *c, struct err *e)
{
    const char *env = getenv("MONGO_URL");
    const char *url = *c->platform.mongo_url ? c->platform.mongo_url : env && *env ? env : NULL;
    bson_error_t be;
    if (url) {
        mongoc_uri_t *uri = mongoc_uri_new_with_error(url, &be);
        if (!uri)
            return err_set(e, ERR_CONFIG, "%s: %s", *c->platform.mongo_url ? "key 'mongo_url'" : "MONGO_URL", be.message);
        mongoc_uri_destroy(uri);
        d->kind = KIND_url;
        xstr_set(&d->url, url);
        return 0;
    }
    AUTO_BUF struct buf b = {0};
    if (fd_read_file(d->m->home.dirfd, "state/mongo.json", &b, 65536, NULL) < 0)
        return err_set(e, -ENOENT, "no MongoDB is known: run `mysimbdp up`, which starts one, or set MONGO_URL");
    AUTO_BSON bson_t *doc = json_parse(b.p, b.n, e);
    if (!doc) {
        err_context(e, "state/mongo.json");
        return ERR_FORMAT;
    }
    d->kind = kind_of(json_get_str(doc, "kind", "url"));
    xstr_set(&d->url, json_get_str(doc, "url", ""));
    return 0;
}

void databases_add_tenant(struct databases *d, struct tenant *t, const struct conf_tenant *c)
{
    t->health = server_of(d, *c->mongo_url ? c->mongo_url : d->url);
}

/* What datasets have `shard`. */
static void order_shards(struct databases *d)
{
    const struct conf *conf = d->m->conf;
    struct shard_wish *v = NULL;
    size_t n = 0;
    for (size_t i = 0; i < conf->n_tenants; i++) {
        const struct conf_tenant *c = &conf->tenants[i];
        const struct conf_dataset *set = c->datasets.v;
        for (size_t k = 0; k < c->datasets.n; k++) {
            AUTO_BUF struct buf spec = {0};
            if (!set[k].shard.key.n)
                continue;
            conf_output_spec_json(&set[k], -1, &spec);
            v = xgrow(v, n, sizeof *v);
            v[n++] =
                (struct shard_wish){c->id, *c->mongo_url ? c->mongo_url : d->url, c->database, set[k].collection, xstrdup(spec.p)};
        }
    }
    shards_want(d->shards, v, n);
    for (size_t i = 0; i < n; i++)
        free((char *)v[i].spec);
    free(v);
}

void databases_begin(struct databases *d)
{
    struct health *ours = server_of(d, d->url);
    if (d->kind != KIND_embedded)
        order_users(d);
    if (d->kind != KIND_url)
        health_probe_writes(ours, d->m->home.dirfd);
    order_shards(d);
    look_at_all(d);
}

struct databases *databases_new(struct batchmgr *m, void (*on_change)(struct batchmgr *m))
{
    struct databases *d = xcalloc(1, sizeof *d);
    *d = (struct databases){.m = m, .on_change = on_change, .identities = identities_new(&m->home)};
    d->shards = shards_new(m->base, on_shards, d);
    return d;
}

void databases_free(struct databases *d)
{
    if (!d)
        return;
    for (size_t i = 0; i < d->n_servers; i++)
        health_free(d->servers[i]);
    free(d->servers);
    shards_free(d->shards);
    identities_free(d->identities);
    free(d->url);
    free(d->told);
    free(d);
}
