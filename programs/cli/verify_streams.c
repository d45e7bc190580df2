#include "verify_streams.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/spawn.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MAX_OUTPUT_BYTES = 64 << 20, MAX_RESTORED = 65536 };

/* What has to be in a collection. */
struct stored {
    const struct conf_tenant *tenant;
    const struct conf_dataset *dataset;
    struct buf apps; /* the apps' names */
    int64_t rows;
};

static bson_t *read_store(const struct home *h, struct err *e)
{
    AUTO_FREE char *program = home_program(h, "broker");
    char *argv[] = {program, "--list", "queues", "", "", "", "--home", h->path, NULL};
    AUTO_BUF struct buf out = {0}, doc = {0};
    int r = spawn_output(argv, environ, &out, MAX_OUTPUT_BYTES, NULL, e);
    if (r < 0)
        return NULL;
    buf_addf(&doc, "{\"queues\":");
    buf_add(&doc, out.n ? out.p : "[]", out.n ? out.n : 2);
    buf_adds(&doc, "}");
    return json_parse(doc.p, doc.n, e);
}

bson_t *streams_counted(const struct home *h)
{
    struct err e = {0};
    bson_t *doc = NULL;
    if (cli_request_now(h, "broker.sock", "{\"op\":\"queues\"}", &doc, &e) < 0)
        doc = read_store(h, &e);
    if (!doc)
        fprintf(stderr, "mysimbdp verify: the rows of streams are not compared: the broker does not say what it counted: %s\n",
                e.msg);
    return doc;
}

/* Why the app's rows cannot be compared; NULL: they can. */
static const char *obstacle(const struct conf_stream_app *a, const struct conf_dataset *d)
{
    bool loads = a && !strcmp(a->exec, BUILTIN_LOAD), output = a && *a->exec && a->output != RUN_OUTPUT_none;
    return !a                                     ? "it is not configured any more"
           : !*a->exec                            ? "its consumers are not the platform's"
           : !loads && !output                    ? "it stores by itself"
           : !d                                   ? "its dataset is not configured any more"
           : a->delivery == DELIVERY_at_most_once ? "delivery = \"at_most_once\" acknowledges before it stores"
           : d->on_key_conflict == KEY_keep       ? "on_key_conflict = \"keep\" acknowledges rows that it does not store"
                                                  : NULL;
}

static void add(struct map *all, const struct conf_tenant *t, const struct conf_dataset *d, const char *app, int64_t rows)
{
    assert(t && d); /* else there was an obstacle */
    AUTO_FREE char *key = xasprintf("%s/%s", t->id, d->collection);
    struct stored *s = map_get(all, key);
    if (!s)
        map_put(all, key, s = xcalloc(1, sizeof *s));
    s->tenant = t;
    s->dataset = d;
    s->rows += rows;
    buf_addf(&s->apps, "%s%s/%s", s->apps.n ? ", " : "", t->id, app);
}

static void look_at_app(struct verify_rows *v, const struct conf *conf, const bson_t *queue, struct map *all)
{
    const char *tenant = json_get_str(queue, "tenant_id", ""), *app = json_get_str(queue, "app", NULL);
    const struct conf_tenant *t = conf_tenant(conf, tenant);
    const struct conf_stream_app *a = t && app ? conf_stream_app(t, app) : NULL;
    const struct conf_dataset *d = a ? conf_dataset(t, a->dataset) : NULL;
    int64_t rows = json_get_i64(queue, "rows", 0);
    if (!app || !json_get_i64(queue, "acked", 0))
        return;
    const char *why = obstacle(a, d);
    if (!why) {
        add(all, t, d, app, rows);
        return;
    }
    AUTO_FREE char *text = xasprintf("stream app %s/%s: %s", tenant, app, why);
    v->note(v->arg, tenant, text);
}

/* How many documents no file of the ledger stored. */
static int64_t not_of_files(const struct verify_rows *v, const struct conf_tenant *t, const struct counted *c)
{
    static const char sql[] = "SELECT prefix FROM files WHERE tenant=?1 AND prefix<>'' UNION SELECT value FROM files, "
                              "json_each('[\"'||replace(old_prefixes,' ','\",\"')||'\"]') WHERE tenant=?1 AND old_prefixes<>''";
    sqlite3_stmt *s = NULL;
    int64_t n = c->total;
    if (sqlite3_prepare_v2(v->db, sql, -1, &s, NULL) != SQLITE_OK)
        return INT64_MAX;
    sqlite3_bind_text(s, 1, t->id, -1, SQLITE_STATIC);
    while (sqlite3_step(s) == SQLITE_ROW) {
        const char *prefix = (const char *)sqlite3_column_text(s, 0);
        n -= prefix ? counted_rows(c, prefix) : 0;
    }
    sqlite3_finalize(s);
    return n;
}

static void look_at(struct verify_rows *v, struct counts *counts, const struct stored *s)
{
    const struct counted *c = s->rows ? counts_of(counts, s->tenant, s->dataset->collection) : NULL;
    if (!c || c->total < 0)
        return;
    int64_t has = not_of_files(v, s->tenant, c);
    if (has >= s->rows)
        return;
    AUTO_FREE char *text = xasprintf("stream app %s: %lld rows were acknowledged, MongoDB has %lld documents in %s.%s that no file "
                                     "stored; publish the messages again (unless they were stored elsewhere, under an earlier "
                                     "configuration)",
                                     s->apps.p, (long long)s->rows, (long long)has, s->tenant->database, s->dataset->collection);
    v->say(v->arg, "rows missing", s->tenant->id, NULL, text);
}

/* ---- what came after a backup's point ---- */

/* Of a home that was made by `mysimbdp restore`: documents that it does not know. */
static void look_later(struct verify_rows *v, struct counts *counts, const struct conf_tenant *t, const struct conf_dataset *d,
                       const struct stored *s, const char *at)
{
    const struct counted *c = d->on_key_conflict == KEY_replace ? NULL : counts_of(counts, t, d->collection);
    const int64_t later = c && c->total > 0 ? not_of_files(v, t, c) - (s ? s->rows : 0) : 0;
    if (later <= 0)
        return;
    AUTO_FREE char *text =
        xasprintf("%lld documents in %s.%s are of no file and no acknowledged message that this home knows: they came "
                  "after the backup it was restored from (%s), or the tenant stored them by itself",
                  (long long)later, t->database, d->collection, at);
    v->note(v->arg, t->id, text);
}

static void look_later_all(struct verify_rows *v, const struct conf *conf, struct counts *counts, const struct map *all)
{
    char at[CLK_RFC3339_SIZE];
    struct map seen = {0};
    AUTO_BUF struct buf b = {0};
    AUTO_BSON bson_t *doc =
        fd_read_file(v->home->dirfd, HOME_RESTORED, &b, MAX_RESTORED, NULL) < 0 ? NULL : json_parse(b.p ? b.p : "", b.n, NULL);
    clk_rfc3339(doc ? json_get_i64(doc, "at", 0) : 0, at);
    for (size_t i = 0; doc && i < conf->n_tenants; i++) {
        const struct conf_tenant *t = &conf->tenants[i];
        const struct conf_dataset *d = t->datasets.v;
        for (size_t k = 0; k < t->datasets.n; k++) {
            AUTO_FREE char *key = xasprintf("%s/%s", t->id, d[k].collection);
            if (!map_get(&seen, key))
                look_later(v, counts, t, &d[k], map_get(all, key), at);
            map_put(&seen, key, v);
        }
    }
    map_fini(&seen);
}

void verify_streams(struct verify_rows *v, const struct conf *conf, struct counts *counts, const bson_t *counted)
{
    struct map all = {0};
    bson_iter_t it;
    bson_t queue;
    size_t i = 0;
    if (json_get_iter(counted, "queues", &it))
        while (json_next_doc(&it, &queue))
            look_at_app(v, conf, &queue, &all);
    look_later_all(v, conf, counts, &all);
    for (struct stored *s; (s = map_next(&all, &i)); free(s)) {
        look_at(v, counts, s);
        buf_fini(&s->apps);
    }
    map_fini(&all);
}
