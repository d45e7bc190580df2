#include "ledger_figures.h"

#include "base/clk.h"
#include "base/cond.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/prom.h"
#include "query/ledger_view.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LOCK_MS = 1000, REST = 9 /* times as long as it took */ };

struct text {
    struct buf plain, open;
    size_t n_left_out;
    int64_t at_ms; /* 0: there is none yet */
};

struct ledger_figures {
    const struct home *home;
    pthread_t thread;
    bool started, failed; /* failed: the last reading; thread's own */
    /* Under the lock. */
    pthread_mutex_t lock;
    pthread_cond_t asked, made;
    bool wanted, stop;
    uint64_t n_made;
    int64_t not_before_ms;
    struct text text;
};

/* Seconds that files and runs take. The SQL below is made of them. */
static const struct prom_bound bounds[] = {
    {"0.1", 0.1}, {"0.5", 0.5}, {"1.0", 1},     {"2.5", 2.5},   {"5.0", 5},       {"10.0", 10},
    {"30.0", 30}, {"60.0", 60}, {"300.0", 300}, {"900.0", 900}, {"3600.0", 3600},
};
enum { N_BOUNDS = sizeof bounds / sizeof *bounds };

/* Which app a file went to its run says, but where it was named with the file. */
#define FILES_WITH_APP "files AS f LEFT JOIN runs AS r ON r.run_id = f.run_id"
#define APP_OF_FILE    "coalesce(nullif(f.app, ''), r.app, '')"

/* Live files have no verdict yet, and so no time. */
static const char files_sql[] =
    "SELECT f.tenant AS tenant, " APP_OF_FILE " AS app, f.state AS kind, f.ended_at AS at, f.file_id AS id, CASE WHEN f.ended_at>0 "
    "AND f.state IN ('ingested','rejected','duplicate','quarantined') THEN (f.ended_at - CASE WHEN f.started_at>0 THEN "
    "f.started_at ELSE f.received_at END) / 1000.0 END AS t FROM " FILES_WITH_APP;
static const char runs_sql[] = "SELECT tenant, coalesce(app,'') AS app, outcome AS kind, ended_at AS at, run_id AS id, wall_s AS t "
                               "FROM runs WHERE state='ended' AND outcome IS NOT NULL";
static const char instances_sql[] =
    "SELECT tenant, app, outcome AS kind, ended_at AS at, run_id AS id, wall_s AS t FROM streams.instances WHERE state='ended' AND "
    "outcome IS NOT NULL";

/* Rows of a group of files are counted for its run. */
static const char sums_sql[] =
    "SELECT tenant, app, sum(b), sum(l), sum(r), sum(p), sum(c) FROM (SELECT f.tenant AS tenant, " APP_OF_FILE " AS app, f.size AS "
    "b, max(f.rows_loaded,0) AS l, max(f.rows_rejected,0) AS r, max(f.rows_repaired,0) AS p, 0 AS c FROM " FILES_WITH_APP
    " WHERE f.state='ingested' UNION ALL SELECT tenant, coalesce(app,''), 0, CASE WHEN outcome='ok' THEN max(rows_loaded,0) ELSE 0 "
    "END, CASE WHEN outcome='ok' THEN max(rows_rejected,0) ELSE 0 END, CASE WHEN outcome='ok' THEN max(rows_repaired,0) ELSE 0 "
    "END, "
    "cpu_s FROM runs WHERE state='ended') GROUP BY 1, 2";
static const char instance_sums_sql[] =
    "SELECT tenant, app, sum(coalesce(ended_at, ?1) - started_at) / 1000.0, sum(cpu_s) FROM streams.instances GROUP BY 1, 2";

/* What a query's rows are written to: their column as a sample of a family. */
struct column {
    struct prom_family family;
    int at;
};
static const struct column sums[] = {
    {{"mysimbdp_ingested_bytes_total", PROM_COUNTER, "Bytes of files that were ingested."}, 2},
    {{"mysimbdp_loaded_rows_total", PROM_COUNTER, "Rows that were loaded of files."}, 3},
    {{"mysimbdp_rejected_rows_total", PROM_COUNTER, "Rows of ingested files that were refused."}, 4},
    {{"mysimbdp_repaired_rows_total", PROM_COUNTER, "Rows that were repaired before they were loaded."}, 5},
    {{"mysimbdp_run_cpu_seconds_total", PROM_COUNTER, "CPU time of runs that ended."}, 6},
};
static const struct column instance_sums[] = {
    {{"mysimbdp_instance_seconds_total", PROM_COUNTER, "Time that instances of stream apps ran."}, 2},
    {{"mysimbdp_instance_cpu_seconds_total", PROM_COUNTER, "CPU time of instances that ended."}, 3},
};

/* What is counted by kind, and how long it took. */
struct durations {
    const char *sql, *label; /* of the kind */
    const char *id;          /* of an exemplar */
    struct prom_family count, seconds;
};
static const struct durations durations[] = {
    {files_sql,
     "state",
     "file_id",
     {"mysimbdp_files", PROM_GAUGE, "Files that the ledger knows, by the state they are in."},
     {"mysimbdp_file_ingestion_seconds", PROM_HISTOGRAM,
      "From the start of a file's run (where it had none, from its receipt) to its verdict."}},
    {runs_sql,
     "outcome",
     "run_id",
     {NULL, PROM_GAUGE, NULL},
     {"mysimbdp_run_seconds", PROM_HISTOGRAM, "How long runs of batch apps lasted that ended, by outcome."}},
    {instances_sql,
     "outcome",
     "run_id",
     {NULL, PROM_GAUGE, NULL},
     {"mysimbdp_instance_run_seconds", PROM_HISTOGRAM, "How long instances of stream apps ran that ended, by outcome."}},
};

/* ---- reading ---- */

struct kind {
    char *labels, *id;
    double n, sum, last_s;
    int64_t last_ms;
    uint64_t counts[N_BOUNDS + 1];
};

static const char *text_of(sqlite3_stmt *s, int i)
{
    const char *text = (const char *)sqlite3_column_text(s, i);
    return text ? text : "";
}

static char *labels_of(sqlite3_stmt *s, const char *third)
{
    struct buf labels = {0};
    prom_label(&labels, "tenant", text_of(s, 0));
    if (*text_of(s, 1))
        prom_label(&labels, "app", text_of(s, 1));
    if (third)
        prom_label(&labels, third, text_of(s, 2));
    return labels.p;
}

/* SQLite takes `id` and `t` from the row of max(at). */
static void make_sql(const struct durations *d, struct buf *sql)
{
    buf_addf(sql, "SELECT tenant, app, kind, count(*), count(t), sum(t), max(at), id, t");
    for (size_t i = 0; i < N_BOUNDS; i++)
        buf_addf(sql, ", sum(t<=%s)", bounds[i].text);
    buf_addf(sql, " FROM (%s) GROUP BY 1, 2, 3", d->sql);
}

static struct kind read_kind(sqlite3_stmt *s, const char *label)
{
    enum { COUNT = 3, TIMED, SUM, LAST_AT, ID, LAST, FIRST };
    struct kind k = {.labels = labels_of(s, label),
                     .id = xstrdup(text_of(s, ID)),
                     .n = sqlite3_column_double(s, COUNT),
                     .sum = sqlite3_column_double(s, SUM),
                     .last_ms = sqlite3_column_int64(s, LAST_AT),
                     .last_s = sqlite3_column_type(s, LAST) == SQLITE_NULL ? NAN : sqlite3_column_double(s, LAST)};
    int64_t below = 0, timed = sqlite3_column_int64(s, TIMED);
    for (int i = 0; i < N_BOUNDS; i++) {
        int64_t n = sqlite3_column_int64(s, FIRST + i);
        k.counts[i] = (uint64_t)(n - below);
        below = n;
    }
    k.counts[N_BOUNDS] = (uint64_t)(timed - below);
    return k;
}

/* Both formats are of the same rows. */
struct parts {
    struct prom plain, open;
};

static void sample(struct parts *p, const char *labels, double value)
{
    prom_sample(&p->plain, labels, value);
    prom_sample(&p->open, labels, value);
}

static void family(struct parts *p, const struct prom_family *f)
{
    prom_family(&p->plain, f);
    prom_family(&p->open, f);
}

static void write_kinds(struct parts *p, const struct durations *d, const struct kind *v, size_t n)
{
    family(p, &d->count);
    for (size_t i = 0; d->count.name && i < n; i++)
        sample(p, v[i].labels, v[i].n);
    family(p, &d->seconds);
    for (size_t i = 0; i < n; i++) {
        const struct prom_exemplar x = {d->id, v[i].id, v[i].last_s, v[i].last_ms};
        prom_histogram(&p->plain, v[i].labels, bounds, N_BOUNDS, v[i].counts, v[i].sum, NULL);
        prom_histogram(&p->open, v[i].labels, bounds, N_BOUNDS, v[i].counts, v[i].sum, isnan(v[i].last_s) ? NULL : &x);
    }
}

static int add_durations(sqlite3 *db, const struct durations *d, struct parts *p)
{
    AUTO_BUF struct buf sql = {0};
    sqlite3_stmt *s = NULL;
    struct kind *v = NULL;
    size_t n = 0;
    make_sql(d, &sql);
    int r = sqlite3_prepare_v2(db, sql.p, -1, &s, NULL);
    while (r == SQLITE_OK && (r = sqlite3_step(s)) == SQLITE_ROW) {
        v = xgrow(v, n, sizeof *v);
        v[n++] = read_kind(s, d->label);
        r = SQLITE_OK;
    }
    sqlite3_finalize(s);
    if (r == SQLITE_DONE)
        write_kinds(p, d, v, n);
    for (size_t i = 0; i < n; i++) {
        free(v[i].labels);
        free(v[i].id);
    }
    free(v);
    return r == SQLITE_DONE ? 0 : -EIO;
}

/* The columns are families, and each has a sample for each row. */
static int add_sums(sqlite3 *db, const char *query, const struct column *columns, size_t n_columns, struct parts *p)
{
    enum { MAX_COLUMNS = 8 };
    struct sum {
        char *labels;
        double v[MAX_COLUMNS];
    } *rows = NULL;
    size_t n = 0;
    sqlite3_stmt *s = NULL;
    int r = sqlite3_prepare_v2(db, query, -1, &s, NULL);
    if (r == SQLITE_OK && sqlite3_bind_parameter_count(s))
        r = sqlite3_bind_int64(s, 1, clk_wall_ms());
    while (r == SQLITE_OK && (r = sqlite3_step(s)) == SQLITE_ROW) {
        rows = xgrow(rows, n, sizeof *rows);
        rows[n].labels = labels_of(s, NULL);
        for (size_t k = 0; k < n_columns; k++)
            rows[n].v[k] = sqlite3_column_double(s, columns[k].at);
        n++;
        r = SQLITE_OK;
    }
    sqlite3_finalize(s);
    for (size_t k = 0; k < n_columns; k++) {
        family(p, &columns[k].family);
        for (size_t i = 0; i < n; i++)
            sample(p, rows[i].labels, rows[i].v[k]);
    }
    for (size_t i = 0; i < n; i++)
        free(rows[i].labels);
    free(rows);
    return r == SQLITE_DONE ? 0 : -EIO;
}

static int read_all(sqlite3 *db, struct parts *p)
{
    int r = add_sums(db, sums_sql, sums, sizeof sums / sizeof *sums, p);
    if (r == 0)
        r = add_sums(db, instance_sums_sql, instance_sums, sizeof instance_sums / sizeof *instance_sums, p);
    for (size_t i = 0; r == 0 && i < sizeof durations / sizeof *durations; i++)
        r = add_durations(db, &durations[i], p);
    return r;
}

/* ---- the thread ---- */

static bool make(struct ledger_figures *f, struct text *ret)
{
    struct err e = {0};
    struct parts p;
    sqlite3 *db = NULL;
    int r = ledger_view_open(f->home, LOCK_MS, &db, &e);
    prom_init(&p.plain, &ret->plain, false, PROM_PART_BYTES);
    prom_init(&p.open, &ret->open, true, PROM_PART_BYTES);
    if (r == 0 && (r = read_all(db, &p)) < 0)
        err_set(&e, r, "%s", sqlite3_errmsg(db));
    sqlite3_close(db);
    if (r < 0 && r != -ENOENT && !f->failed)
        log_warn("figures", NULL, NULL, "cannot add up what is in the ledger: %s; the last figures of it stay", e.msg);
    f->failed = r < 0;
    ret->n_left_out = p.plain.n_left_out > p.open.n_left_out ? p.plain.n_left_out : p.open.n_left_out;
    ret->at_ms = clk_now_ms();
    return r == 0;
}

static void text_fini(struct text *t)
{
    buf_fini(&t->plain);
    buf_fini(&t->open);
}

static void *work(void *arg)
{
    struct ledger_figures *f = arg;
    pthread_mutex_lock(&f->lock);
    while (!f->stop) {
        if (!f->wanted) {
            pthread_cond_wait(&f->asked, &f->lock);
            continue;
        }
        f->wanted = false;
        pthread_mutex_unlock(&f->lock);
        struct text text = {0};
        int64_t began_ms = clk_now_ms();
        bool ok = make(f, &text);
        int64_t now_ms = clk_now_ms();
        pthread_mutex_lock(&f->lock);
        struct text old = ok ? f->text : text;
        if (ok)
            f->text = text;
        f->not_before_ms = now_ms + REST * (now_ms - began_ms);
        f->n_made++;
        pthread_cond_broadcast(&f->made);
        text_fini(&old);
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

struct ledger_figures *ledger_figures_new(const struct home *h)
{
    struct ledger_figures *f = xcalloc(1, sizeof *f);
    f->home = h;
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->asked, NULL);
    cond_init_monotonic(&f->made);
    f->started = pthread_create(&f->thread, NULL, work, f) == 0;
    if (!f->started)
        log_error("figures", NULL, NULL, "no thread can be made: there are no figures of the ledger");
    return f;
}

void ledger_figures_free(struct ledger_figures *f)
{
    if (!f)
        return;
    pthread_mutex_lock(&f->lock);
    f->stop = true;
    pthread_cond_signal(&f->asked);
    pthread_mutex_unlock(&f->lock);
    if (f->started)
        pthread_join(f->thread, NULL);
    pthread_cond_destroy(&f->asked);
    pthread_cond_destroy(&f->made);
    pthread_mutex_destroy(&f->lock);
    text_fini(&f->text);
    free(f);
}

/* With the lock. */
static void wait_for_new(struct ledger_figures *f, int wait_ms)
{
    struct timespec until;
    uint64_t before = f->n_made;
    int r = 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += wait_ms % 1000 * 1000000L;
    until.tv_sec += wait_ms / 1000 + until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    while (f->n_made == before && r == 0)
        r = pthread_cond_timedwait(&f->made, &f->lock, &until);
}

size_t ledger_figures_write(struct ledger_figures *f, bool open_metrics, int wait_ms, struct buf *out)
{
    static const struct prom_family age = {"mysimbdp_ledger_figures_age_seconds", PROM_GAUGE,
                                           "Since the ledger was added up; it is seldom done while it takes long."};
    struct prom p;
    pthread_mutex_lock(&f->lock);
    if (f->started && clk_now_ms() >= f->not_before_ms) {
        f->wanted = true;
        pthread_cond_signal(&f->asked);
        wait_for_new(f, wait_ms);
    }
    const struct buf *text = open_metrics ? &f->text.open : &f->text.plain;
    if (text->n)
        buf_add(out, text->p, text->n);
    size_t left_out = f->text.n_left_out;
    prom_init(&p, out, open_metrics, PROM_PART_BYTES);
    prom_family(&p, &age);
    if (f->text.at_ms)
        prom_sample(&p, NULL, (double)(clk_now_ms() - f->text.at_ms) / 1000);
    pthread_mutex_unlock(&f->lock);
    return left_out;
}
