/* A run's CPU time of a window is what it has now without what it had when the window began. Times at which it was looked at are
 * kept, MARKS a run, MARK_MS apart; where none is from then, its CPU time counts as spread evenly until the first that is. */
#include "runs_use.h"

#include "base/map.h"
#include "base/mem.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MARKS = 7, MARK_MS = RUNS_USE_WINDOW_MS / (MARKS - 1) };

struct mark {
    int64_t at_wall_ms;
    double cpu_s;
};

struct seen {
    struct mark marks[MARKS]; /* oldest first */
    int n;
};

struct runs_seen {
    struct map runs; /* name of the cgroup -> struct seen */
};

/* started_at of a run that is started only now is 0. */
static const char live_sql[] =
    "SELECT run_id, tenant, coalesce(app,''), step, started_at FROM runs WHERE state<>'ended' "
    "UNION ALL SELECT run_id, tenant, app, NULL, started_at FROM streams.instances WHERE state<>'ended' LIMIT ?1";

static void forget(struct map *runs)
{
    size_t i = 0;
    for (void *v; (v = map_next(runs, &i));)
        free(v);
    map_fini(runs);
}

struct runs_seen *runs_seen_new(void)
{
    return xcalloc(1, sizeof(struct runs_seen));
}

void runs_seen_free(struct runs_seen *s)
{
    if (!s)
        return;
    forget(&s->runs);
    free(s);
}

void runs_use_fini(struct runs_use *r)
{
    for (size_t i = 0; i < r->n; i++) {
        free(r->v[i].tenant);
        free(r->v[i].app);
        free(r->v[i].step);
    }
    free(r->v);
    *r = (struct runs_use){0};
}

static double cpu_at(const struct seen *s, const struct run_use *r, int64_t at_wall_ms)
{
    struct mark before = {r->started_wall_ms, 0};
    for (int i = 0; i < s->n; i++) {
        const struct mark *m = &s->marks[i];
        if (m->at_wall_ms >= at_wall_ms && m->at_wall_ms > before.at_wall_ms)
            return before.cpu_s + (m->cpu_s - before.cpu_s) * (double)(at_wall_ms - before.at_wall_ms) /
                                      (double)(m->at_wall_ms - before.at_wall_ms);
        before = *m;
    }
    return before.cpu_s;
}

static double window_cpu(struct seen *s, const struct run_use *r, int64_t now_wall_ms)
{
    if (isnan(r->use.cpu_s) || r->started_wall_ms <= 0)
        return NAN;
    if (!s->n || now_wall_ms - s->marks[s->n - 1].at_wall_ms >= MARK_MS) {
        if (s->n == MARKS)
            memmove(s->marks, s->marks + 1, (size_t)--s->n * sizeof *s->marks);
        s->marks[s->n++] = (struct mark){now_wall_ms, r->use.cpu_s};
    }
    int64_t since = now_wall_ms - RUNS_USE_WINDOW_MS;
    double d = r->use.cpu_s - (since <= r->started_wall_ms ? 0 : cpu_at(s, r, since));
    return d > 0 ? d : 0;
}

static char *column(sqlite3_stmt *st, int i)
{
    const char *text = (const char *)sqlite3_column_text(st, i);
    return text ? xstrdup(text) : NULL;
}

static void read_one(struct runs_seen *s, struct map *next, const struct cgroup_host *cg, sqlite3_stmt *st, int64_t now_wall_ms,
                     struct run_use *r)
{
    *r = (struct run_use){.tenant = column(st, 1),
                          .app = column(st, 2),
                          .step = column(st, 3),
                          .started_wall_ms = sqlite3_column_int64(st, 4),
                          .use = {NAN, -1, -1, NAN, -1, -1}};
    const char *id = (const char *)sqlite3_column_text(st, 0);
    snprintf(r->run_id, sizeof r->run_id, "%s", id ? id : "");
    AUTO_FREE char *name = xasprintf("%s%s", r->run_id, r->step && !strcmp(r->step, "load") ? "-load" : "");
    if (!home_valid_id(r->run_id) || !cgroup_use_of(cg, name, &r->use)) {
        r->window_cpu_s = NAN;
        return;
    }
    struct seen *seen = map_remove(&s->runs, name);
    if (!seen)
        seen = xcalloc(1, sizeof *seen);
    r->window_cpu_s = window_cpu(seen, r, now_wall_ms);
    map_put(next, name, seen);
}

int runs_use_read(struct runs_seen *s, const struct home *h, sqlite3 *db, int64_t now_wall_ms, struct runs_use *ret)
{
    struct cgroup_host cg;
    struct map next = {0};
    sqlite3_stmt *st = NULL;
    *ret = (struct runs_use){0};
    cgroup_find(&cg, h->tag);
    int r = sqlite3_prepare_v2(db, live_sql, -1, &st, NULL);
    sqlite3_bind_int64(st, 1, RUNS_USE_MAX + 1);
    while (r == SQLITE_OK && (r = sqlite3_step(st)) == SQLITE_ROW) {
        r = SQLITE_OK;
        ret->cut = ret->n == RUNS_USE_MAX;
        if (ret->cut)
            continue;
        ret->v = xgrow(ret->v, ret->n, sizeof *ret->v);
        read_one(s, &next, &cg, st, now_wall_ms, &ret->v[ret->n++]);
    }
    sqlite3_finalize(st);
    forget(&s->runs);
    s->runs = next;
    return r == SQLITE_DONE ? 0 : -EIO;
}
