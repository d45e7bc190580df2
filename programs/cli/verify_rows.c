/* Compares the ledger with MongoDB: a file that was ingested has as many documents under its prefix (docs/files.md) as the ledger
 * says rows were loaded. Of several files with one content and dataset, the last replaced the others' rows. So a file that has such
 * a successor, or is under way again, is not looked at.
 *
 * Where a key replaces rows, a document's _id is a hash of dataset and key, so it is not known which file a document is from. But
 * the loader notes how many rows replaced none (rows_added; fewer, where a command had to be sent again). So many documents were
 * created; if fewer are there, some were removed. For files from before that was noted, only an empty collection proves a loss.
 *
 * When the loader stored a group, each file has a prefix, but the counts are the group's: they are compared together.
 *
 * An app with a driver of its own may store anything anywhere. Its rows are looked for by prefix, and an empty collection is told,
 * too. What cannot be compared is told with the reason, once for each dataset. */
#include "verify_rows.h"
#include "verify_streams.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

struct rows {
    struct verify_rows *v;
    struct conf *conf;
    struct counts *counts;
    struct map seen;     /* prefixes that were looked at */
    struct map told;     /* what cannot be compared -> struct untold * */
    struct map replaced; /* "tenant/dataset" -> struct replaced *, where a key replaces rows */
    struct map groups;   /* run_id -> struct group * */
};

/* Files that the loader stored in one run, each under its own prefix; the rows are counted for the run. */
struct group {
    const struct conf_tenant *tenant;
    const struct conf_dataset *dataset;
    char file_id[ID_SIZE]; /* one of them */
    int64_t files, of, loaded, has;
};

struct untold {
    char *tenant, *where, *why;
    int64_t files;
};

struct replaced {
    const struct conf_tenant *tenant;
    const struct conf_dataset *dataset;
    char file_id[ID_SIZE];               /* the youngest file */
    int64_t files, rows, added, unknown; /* unknown: how many files did not note what they added */
};

enum { FILE_ID, TENANT, DATASET, NAME, APP, PREFIX, LOADED, ADDED, GROUP_N, RUN_ID, RUN_FILES, RUN_LOADED, RUN_ADDED };
/* Of a tenant that was moved away the home where it is now tells. */
static const char sql[] =
    "SELECT f.file_id, f.tenant, f.dataset, f.name, r.app, f.prefix, f.rows_loaded, f.rows_added, f.group_n, f.run_id, r.n_files, "
    "r.rows_loaded, r.rows_added FROM files f LEFT JOIN runs r ON r.run_id=f.run_id WHERE f.state='ingested' AND f.expired=0 AND "
    "f.prefix<>'' AND (?1 IS NULL OR f.file_id=?1) AND f.tenant NOT IN(SELECT id FROM tenants WHERE suspended&4) AND NOT "
    "EXISTS(SELECT 1 FROM files g WHERE g.tenant=f.tenant AND "
    "g.dataset=f.dataset AND g.hash=f.hash AND g.state='ingested' AND g.file_id>f.file_id) AND NOT EXISTS(SELECT 1 FROM files g "
    "WHERE g.state IN('received','queued','running','waiting') AND g.tenant=f.tenant AND g.dataset=f.dataset AND g.hash=f.hash)";

static const char *text(sqlite3_stmt *s, int i)
{
    const char *t = (const char *)sqlite3_column_text(s, i);
    return t ? t : "";
}

static int64_t number(sqlite3_stmt *s, int i)
{
    return sqlite3_column_type(s, i) == SQLITE_NULL ? -1 : sqlite3_column_int64(s, i);
}

/* Of a run with several files the counts are the run's. The rows lie under one prefix, or (loader) each file's under its own. */
static bool is_of_run(sqlite3_stmt *s)
{
    return number(s, RUN_FILES) > 1;
}

static bool has_own_prefix(sqlite3_stmt *s)
{
    return number(s, GROUP_N) <= 1;
}

/* ---- what the ledger says ---- */

/* Whether a later look finds the row unchanged: nothing has replaced it meanwhile. */
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

static void cannot_tell(struct rows *r, const char *tenant, const char *dataset, const char *why)
{
    AUTO_FREE char *key = xasprintf("%s/%s: %s", tenant, dataset, why);
    struct untold *u = map_get(&r->told, key);
    if (!u) {
        map_put(&r->told, key, u = xcalloc(1, sizeof *u));
        *u = (struct untold){.tenant = xstrdup(tenant), .where = xasprintf("%s/%s", tenant, dataset), .why = xstrdup(why)};
    }
    u->files++;
}

static void note_replaced(struct rows *r, sqlite3_stmt *s, const struct conf_tenant *t, const struct conf_dataset *d,
                          int64_t loaded)
{
    const char *file_id = text(s, FILE_ID), *group = is_of_run(s) ? text(s, RUN_ID) : "";
    int64_t added = number(s, is_of_run(s) ? RUN_ADDED : ADDED);
    AUTO_FREE char *key = xasprintf("%s/%s", t->id, d->name);
    struct replaced *p = map_get(&r->replaced, key);
    if (!p)
        map_put(&r->replaced, key, p = xcalloc(1, sizeof *p));
    p->tenant = t;
    p->dataset = d;
    p->files++;
    if (!*group || !map_get(&r->seen, group)) { /* compared for all files of the group together */
        p->rows += loaded;
        p->added += added > 0 ? added : 0;
        p->unknown += added < 0;
    }
    if (*group)
        map_put(&r->seen, group, r);
    if (strcmp(file_id, p->file_id) > 0)
        snprintf(p->file_id, sizeof p->file_id, "%s", file_id);
}

static void say_missing(struct rows *r, const char *tenant, const char *file_id, const char *text)
{
    r->v->say(r->v->arg, "rows missing", tenant, file_id, text);
    r->v->missing++;
}

static void count_by_prefix(struct rows *r, sqlite3_stmt *s, const struct conf_tenant *t, const struct conf_dataset *d,
                            int64_t loaded)
{
    const char *file_id = text(s, FILE_ID);
    const struct conf_batch *app = conf_app(t, text(s, APP));
    const struct counted *c = counts_of(r->counts, t, d->collection);
    bool ours = app && (!strcmp(app->exec, BUILTIN_LOAD) || app->output != RUN_OUTPUT_none);
    int64_t has = counted_rows(c, text(s, PREFIX));
    if (c->total < 0 || has >= loaded)
        return;
    if (!has && !ours && c->total) {
        AUTO_FREE char *why = xasprintf("app %s %s", text(s, APP), app ? "stores by itself" : "is not configured any more");
        cannot_tell(r, t->id, d->name, why);
        return;
    }
    if (!still_so(r, file_id))
        return;
    AUTO_FREE char *what = xasprintf("%s/%s/%s: the ledger says %lld rows, MongoDB has %lld of them in %s.%s", t->id, d->name,
                                     text(s, NAME), (long long)loaded, (long long)has, t->database, d->collection);
    say_missing(r, t->id, file_id, what);
}

static void note_group(struct rows *r, sqlite3_stmt *s, const struct conf_tenant *t, const struct conf_dataset *d, int64_t loaded)
{
    const struct counted *c = counts_of(r->counts, t, d->collection);
    struct group *g = map_get(&r->groups, text(s, RUN_ID));
    if (!g) {
        map_put(&r->groups, text(s, RUN_ID), g = xcalloc(1, sizeof *g));
        *g = (struct group){.tenant = t, .dataset = d, .of = number(s, RUN_FILES), .loaded = loaded};
        snprintf(g->file_id, sizeof g->file_id, "%s", text(s, FILE_ID));
    }
    g->files++;
    g->has = c->total < 0 || g->has < 0 ? -1 : g->has + counted_rows(c, text(s, PREFIX));
}

static void compare_group(struct rows *r, const struct group *g)
{
    AUTO_FREE char *text = NULL;
    if (g->has < 0)
        return;
    if (g->files != g->of) {
        cannot_tell(r, g->tenant->id, g->dataset->name,
                    "some files of its group were loaded again since, and counts are of the group");
    } else if (g->has < g->loaded && still_so(r, g->file_id)) {
        text = xasprintf("%s/%s: the ledger says %lld rows of a group of %lld files, MongoDB has %lld of them in %s.%s",
                         g->tenant->id, g->dataset->name, (long long)g->loaded, (long long)g->files, (long long)g->has,
                         g->tenant->database, g->dataset->collection);
        say_missing(r, g->tenant->id, g->file_id, text);
    }
}

static void look_at_groups(struct rows *r)
{
    size_t i = 0;
    for (struct group *g; (g = map_next(&r->groups, &i)); free(g))
        compare_group(r, g);
    map_fini(&r->groups);
}

static void look_at(struct rows *r, sqlite3_stmt *s)
{
    const char *tenant = text(s, TENANT), *prefix = text(s, PREFIX);
    int64_t loaded = number(s, is_of_run(s) ? RUN_LOADED : LOADED);
    const struct conf_tenant *t = conf_tenant(r->conf, tenant);
    const struct conf_dataset *d = t ? conf_dataset(t, text(s, DATASET)) : NULL;
    if (!loaded || map_get(&r->seen, prefix))
        return;
    map_put(&r->seen, prefix, r);
    if (!d)
        cannot_tell(r, tenant, text(s, DATASET), "it is not configured any more");
    else if (loaded < 0)
        cannot_tell(r, tenant, text(s, DATASET), "its app did not say how many rows it stored");
    else if (d->on_key_conflict == KEY_replace)
        note_replaced(r, s, t, d, loaded);
    else if (is_of_run(s) && has_own_prefix(s))
        note_group(r, s, t, d, loaded);
    else
        count_by_prefix(r, s, t, d, loaded);
}

static void compare_replaced(struct rows *r, const struct replaced *p)
{
    const struct counted *c = counts_of(r->counts, p->tenant, p->dataset->collection);
    AUTO_FREE char *text = NULL;
    if (c->total < 0)
        return;
    if ((!c->total || c->total < p->added) && still_so(r, p->file_id)) {
        text =
            xasprintf("%s/%s: its %lld files have %lld rows, which made %lld documents or more (a key replaces rows); MongoDB has "
                      "%lld in %s.%s; load them again, the oldest first",
                      p->tenant->id, p->dataset->name, (long long)p->files, (long long)p->rows,
                      (long long)(p->added ? p->added : 1), (long long)c->total, p->tenant->database, p->dataset->collection);
        say_missing(r, p->tenant->id, p->file_id, text);
    } else if (c->total && p->unknown) {
        text =
            xasprintf("%s/%s: a key replaces rows, and of %lld of %lld files it was not noted how many they made; %lld documents "
                      "are in %s.%s",
                      p->tenant->id, p->dataset->name, (long long)p->unknown, (long long)p->files, (long long)c->total,
                      p->tenant->database, p->dataset->collection);
        r->v->note(r->v->arg, p->tenant->id, text);
    }
}

static void look_at_replaced(struct rows *r)
{
    size_t i = 0;
    for (struct replaced *p; (p = map_next(&r->replaced, &i)); free(p))
        compare_replaced(r, p);
    map_fini(&r->replaced);
}

static void say_untold(struct rows *r)
{
    size_t i = 0;
    for (struct untold *u; (u = map_next(&r->told, &i)); free(u)) {
        AUTO_FREE char *text = xasprintf("%s: %s (%lld files)", u->where, u->why, (long long)u->files);
        r->v->note(r->v->arg, u->tenant, text);
        free(u->tenant);
        free(u->where);
        free(u->why);
    }
    map_fini(&r->told);
}

static int look(struct rows *r, struct err *e)
{
    sqlite3_stmt *s = NULL;
    AUTO_BSON bson_t *streams = streams_counted(r->v->home);
    if (sqlite3_prepare_v2(r->v->db, sql, -1, &s, NULL) != SQLITE_OK)
        return err_set(e, -EIO, "cannot read the ledger: %s", sqlite3_errmsg(r->v->db));
    while (sqlite3_step(s) == SQLITE_ROW)
        look_at(r, s);
    sqlite3_finalize(s);
    look_at_groups(r);
    look_at_replaced(r);
    if (streams)
        verify_streams(r->v, r->conf, r->counts, streams);
    say_untold(r);
    return 0;
}

int verify_rows(struct verify_rows *v, struct err *e)
{
    struct rows r = {.v = v};
    int n = counts_new(v->home, &r.counts, e);
    if (n == 0 && r.counts)
        n = conf_load(v->home->path, &r.conf, e);
    if (n == 0 && r.counts)
        n = look(&r, e);
    counts_free(r.counts);
    map_fini(&r.seen);
    conf_free(r.conf);
    return n;
}
