/* The ledger against MongoDB: a file that was ingested has as many documents under its prefix (docs/architecture.md, simbdp-load)
 * as the ledger says rows were loaded. Of several files of one content and dataset the last one replaced the others' rows, and what
 * has such a successor, or is under way again, is not looked at; nor is what cannot be told by prefix: datasets where a key
 * replaces rows, apps that write with a driver of their own (they are looked at when their collection is empty), files whose
 * dataset is not configured. */
#include "verify_rows.h"

#include "common/conf/conf.h"
#include "common/fd.h"
#include "common/mem.h"
#include "common/spawn.h"

#include <stdio.h>
#include <string.h>

enum { MAX_DATABASES_BYTES = 16 << 20, MAX_COUNTS_BYTES = 1 << 30 };

/* A collection's documents by prefix. */
struct counted {
    struct map rows; /* hex of the prefix -> int64_t * */
    int64_t total;   /* -1: not to be had */
};

struct rows {
    struct verify_rows *v;
    struct conf *conf;
    bson_t *databases;
    struct map collections; /* "tenant/collection" -> struct counted * */
    struct map seen;        /* prefixes that were looked at */
};

static const char sql[] =
    "SELECT f.file_id, f.tenant, f.dataset, f.name, (SELECT app FROM runs r WHERE r.run_id=f.run_id), f.prefix, CASE WHEN "
    "f.group_n>1 THEN "
    "(SELECT rows_loaded FROM runs r WHERE r.run_id=f.run_id) ELSE f.rows_loaded END FROM files f WHERE f.state='ingested' AND "
    "f.expired=0 AND f.prefix<>'' AND (?1 IS NULL OR f.file_id=?1) AND NOT EXISTS(SELECT 1 FROM files g WHERE g.tenant=f.tenant "
    "AND "
    "g.dataset=f.dataset AND g.hash=f.hash AND g.state='ingested' AND g.file_id>f.file_id) AND NOT EXISTS(SELECT 1 FROM files g "
    "WHERE "
    "g.state IN('received','queued','running','waiting') AND g.tenant=f.tenant AND g.dataset=f.dataset AND g.hash=f.hash)";

static const char *text(sqlite3_stmt *s, int i)
{
    const char *t = (const char *)sqlite3_column_text(s, i);
    return t ? t : "";
}

/* ---- what MongoDB has ---- */

static void read_counts(struct counted *c, const char *p, const char **ret_why, struct buf *why)
{
    *ret_why = "it does not answer";
    for (const char *eol; (eol = strchr(p, '\n')); p = eol + 1) {
        AUTO_BSON bson_t *doc = json_parse(p, (size_t)(eol - p), NULL);
        const char *prefix = doc ? json_get_str(doc, "prefix", NULL) : NULL;
        if (prefix) {
            int64_t *n = xmalloc(sizeof *n);
            *n = json_get_i64(doc, "rows", 0);
            map_put(&c->rows, prefix, n);
        } else if (doc && json_get_bool(doc, "ok", false)) {
            c->total = json_get_i64(doc, "total", 0);
        } else if (doc) {
            buf_adds(why, json_get_str(doc, "error", "it does not answer"));
            *ret_why = why->p;
        }
    }
}

/* The driver stays out of the command line: simbdp-load counts. */
static struct counted *count(struct rows *r, const struct conf_tenant *t, const char *collection)
{
    AUTO_FREE char *key = xasprintf("%s/%s", t->id, collection);
    struct counted *c = map_get(&r->collections, key);
    AUTO_BUF struct buf out = {0}, error = {0};
    bson_iter_t it;
    bson_t one;
    if (c)
        return c;
    map_put(&r->collections, key, c = xcalloc(1, sizeof *c));
    c->total = -1;
    const char *why = "its URL is not known: it never ran";
    if (bson_iter_init_find(&it, r->databases, t->id) && json_iter_doc(&it, &one) && json_get_str(&one, "url", NULL)) {
        AUTO_FREE char *program = home_program(r->v->home, "simbdp-load");
        AUTO_FREE char *url = xasprintf("MONGO_URL=%s", json_get_str(&one, "url", ""));
        char *argv[] = {program, "--count", t->database, (char *)collection, NULL};
        char *envp[] = {url, "MONGOC_DISABLE_SHM=1", NULL};
        buf_add(&out, "", 0);
        spawn_output(argv, envp, &out, MAX_COUNTS_BYTES, NULL, NULL);
        buf_add(&out, "", 1);
        read_counts(c, out.p, &why, &error);
    }
    if (c->total < 0) {
        r->v->not_compared++;
        fprintf(stderr, "mysimbdp verify: the rows of %s/%s are not compared with the ledger: MongoDB: %s\n", t->id, collection,
                why);
    }
    return c;
}

/* ---- what the ledger says ---- */

/* A later look at the row finds it as it was: nothing replaced it meanwhile. */
static bool still_so(struct rows *r, const char *file_id)
{
    sqlite3_stmt *s = NULL;
    bool so = false;
    if (sqlite3_prepare_v2(r->v->db, sql, -1, &s, NULL) == SQLITE_OK) {
        sqlite3_bind_text(s, 1, file_id, -1, SQLITE_STATIC);
        so = sqlite3_step(s) == SQLITE_ROW;
    }
    sqlite3_finalize(s);
    return so;
}

static void look_at(struct rows *r, sqlite3_stmt *s)
{
    const char *file_id = text(s, 0), *tenant = text(s, 1), *prefix = text(s, 5);
    int64_t loaded = sqlite3_column_type(s, 6) == SQLITE_NULL ? -1 : sqlite3_column_int64(s, 6);
    const struct conf_tenant *t = conf_tenant(r->conf, tenant);
    const struct conf_dataset *d = t ? conf_dataset(t, text(s, 2)) : NULL;
    const struct conf_batch *app = t ? conf_app(t, text(s, 4)) : NULL;
    if (!d || loaded <= 0 || !strcmp(d->on_key_conflict, "replace") || map_get(&r->seen, prefix))
        return;
    map_put(&r->seen, prefix, r);
    const struct counted *c = count(r, t, d->collection);
    const int64_t *n = map_get(&c->rows, prefix);
    int64_t has = n ? *n : 0;
    bool ours = app && (!strcmp(app->exec, BUILTIN_LOAD) || strcmp(app->output, "none") != 0);
    if (c->total < 0 || has >= loaded || (!has && !ours && c->total) || !still_so(r, file_id))
        return;
    AUTO_FREE char *what = xasprintf("%s/%s/%s: the ledger says %lld rows, MongoDB has %lld of them in %s.%s", tenant, d->name,
                                     text(s, 3), (long long)loaded, (long long)has, t->database, d->collection);
    r->v->say(r->v->arg, "rows missing", tenant, file_id, what);
    r->v->missing++;
}

static void free_collections(struct map *m)
{
    size_t i = 0, k;
    for (struct counted *c; (c = map_next(m, &i)); free(c)) {
        k = 0;
        for (int64_t *n; (n = map_next(&c->rows, &k));)
            free(n);
        map_fini(&c->rows);
    }
    map_fini(m);
}

int verify_rows(struct verify_rows *v, struct err *e)
{
    struct rows r = {.v = v};
    sqlite3_stmt *s = NULL;
    AUTO_BUF struct buf b = {0};
    if (fd_is_gone(v->home->dirfd, "state/databases.json"))
        return 0; /* nothing ever ran */
    int n = conf_load(v->home->path, &r.conf, e);
    if (n == 0)
        n = fd_read_file(v->home->dirfd, "state/databases.json", &b, MAX_DATABASES_BYTES, e);
    if (n == 0 && !(r.databases = json_parse(b.p, b.n, e)))
        n = ERR_FORMAT;
    if (n == 0 && sqlite3_prepare_v2(v->db, sql, -1, &s, NULL) != SQLITE_OK)
        n = err_set(e, -EIO, "cannot read the ledger: %s", sqlite3_errmsg(v->db));
    while (n == 0 && sqlite3_step(s) == SQLITE_ROW)
        look_at(&r, s);
    sqlite3_finalize(s);
    free_collections(&r.collections);
    map_fini(&r.seen);
    if (r.databases)
        bson_destroy(r.databases);
    conf_free(r.conf);
    return n;
}
