#include "machine_parts.h"

#include "base/mem.h"
#include "base/space.h"

#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>

/* Figures that move with every look are rounded: what is told of them changes only where it matters. */
enum { HUNDREDTHS = 100, TEN_THOUSANDTHS = 10000 };

static void add_rounded(struct buf *b, const char *key, double v, int parts)
{
    json_f64(b, key, round(v * parts) / parts);
}

/* ---- tenants ---- */

static const struct tenant_sum *sum_of(const struct tenant_sums *s, const char *tenant)
{
    for (size_t i = 0; i < s->n; i++)
        if (!strcmp(s->v[i].tenant, tenant))
            return &s->v[i];
    return NULL;
}

/* Of the month's bill, what is spent; the whole of it is GET /v1/tenants/TENANT/bills/MONTH. */
static void add_bill(struct buf *b, const struct tenant_stats *s)
{
    json_begin(b, "month", '{');
    json_i64(b, "files", s->files);
    json_i64(b, "bytes", s->bytes);
    json_i64(b, "rows", s->rows);
    json_i64(b, "messages", s->messages);
    json_i64(b, "messages_refused", s->messages_refused);
    json_f64(b, "run_s", s->run_s);
    json_f64(b, "cpu_s", s->cpu_s);
    json_f64(b, "instance_s", s->instance_s);
    json_end(b, '}');
}

static void add_tenant(struct buf *b, const struct machine_seen *s, const struct conf_tenant *t, double capacity_s, int64_t weights)
{
    const struct tenant_sum *sum = sum_of(&s->sums, t->id);
    double cpu_s = sum ? sum->ended_cpu_s : NAN;
    int64_t memory = 0, running = 0;
    for (size_t i = 0; i < s->runs.n; i++) {
        const struct run_use *r = &s->runs.v[i];
        if (strcmp(r->tenant, t->id) != 0)
            continue;
        running++;
        cpu_s += isnan(r->window_cpu_s) ? 0 : r->window_cpu_s;
        memory += r->use.memory_bytes > 0 ? r->use.memory_bytes : 0;
    }
    json_begin(b, NULL, '{');
    json_str(b, "tenant_id", t->id);
    json_i64(b, "running", running);
    add_rounded(b, "cpu_s", cpu_s, HUNDREDTHS);
    add_rounded(b, "cpu_share", cpu_s / capacity_s, TEN_THOUSANDTHS);
    json_i64(b, "memory_bytes", memory);
    json_i64(b, "weight", t->weight);
    json_f64(b, "weight_share", weights > 0 ? (double)t->weight / (double)weights : NAN);
    json_i64_or_null(b, "refused_hour", sum ? sum->refused_hour : -1);
    json_i64_or_null(b, "refused_day", sum ? sum->refused_day : -1);
    if (sum)
        add_bill(b, &sum->bill);
    else
        json_null(b, "month");
    json_end(b, '}');
}

/* As batchmgr has it (reload.c). */
static double capacity_cpus(const struct conf *c)
{
    return c && c->platform.capacity.cpus > 0 ? c->platform.capacity.cpus : get_nprocs();
}

static void add_tenants(struct buf *b, const struct machine_seen *s, const struct conf *c)
{
    double capacity_s = capacity_cpus(c) * RUNS_USE_WINDOW_MS / 1000;
    int64_t weights = 0;
    for (size_t i = 0; c && i < c->n_tenants; i++)
        weights += c->tenants[i].weight;
    json_begin(b, "tenants", '[');
    for (size_t i = 0; c && i < c->n_tenants; i++)
        add_tenant(b, s, &c->tenants[i], capacity_s, weights);
    json_end(b, ']');
}

/* ---- runs ---- */

/* -1: none, or not known. A run's loading has limits of its own. */
static int64_t max_wall_s(const struct conf *c, const struct run_use *r)
{
    const struct conf_tenant *t = c ? conf_tenant(c, r->tenant) : NULL;
    const struct conf_batch *app = t && r->step && strcmp(r->step, "app") == 0 ? conf_app(t, r->app) : NULL;
    const struct conf_profile *p = app ? conf_profile(c, app->profile) : NULL;
    return p ? p->wall_s : -1;
}

static void add_run(struct buf *b, const struct machine_seen *s, const struct conf *c, const struct run_use *r)
{
    bool began = r->started_wall_ms > 0;
    json_begin(b, NULL, '{');
    json_str(b, "run_id", r->run_id);
    json_str(b, "tenant_id", r->tenant);
    json_str(b, "app", r->app);
    json_str(b, "step", r->step ? r->step : "instance");
    json_time(b, "started_at", r->started_wall_ms);
    json_i64_or_null(b, "max_age_s", max_wall_s(c, r));
    add_rounded(b, "cpu_s", r->use.cpu_s, HUNDREDTHS);
    int64_t ms =
        began && s->at_wall_ms - r->started_wall_ms < RUNS_USE_WINDOW_MS ? s->at_wall_ms - r->started_wall_ms : RUNS_USE_WINDOW_MS;
    add_rounded(b, "cpus", r->window_cpu_s * 1000 / (double)(ms > 0 ? ms : 1), HUNDREDTHS);
    json_f64(b, "max_cpus", r->use.max_cpus);
    json_i64_or_null(b, "memory_bytes", r->use.memory_bytes);
    json_i64_or_null(b, "max_memory_bytes", r->use.max_memory_bytes);
    json_i64_or_null(b, "pids", r->use.pids);
    json_i64_or_null(b, "max_pids", r->use.max_pids);
    json_end(b, '}');
}

/* ---- disks ---- */

enum { N_PLACES = 8 };

/* The first is the home itself; intake pauses for those that batchmgr looks at (programs/batchmgr/disk.c). */
static const struct {
    const char *path;
    bool pauses;
} places[N_PLACES] = {{".", false},    {"staging", true}, {"work", true},  {"runs", true},
                      {"state", true}, {"logs", true},    {"done", false}, {"quarantine", false}};

static const char *name_of(int place)
{
    return place ? places[place].path : "home";
}

static void add_disk(struct buf *b, const struct home *h, const struct conf *c, const dev_t devices[N_PLACES], int first)
{
    struct statvfs v;
    AUTO_FREE char *path = home_path(h, places[first].path);
    bool pauses = false;
    if (statvfs(path, &v) < 0)
        return;
    const int64_t block = (int64_t)v.f_frsize;
    struct space free = {(int64_t)v.f_bavail * block, v.f_files ? (int64_t)v.f_favail : -1};
    json_begin(b, NULL, '{');
    json_str(b, "place", name_of(first));
    json_begin(b, "places", '[');
    for (int i = first; i < N_PLACES; i++)
        if (devices[i] == devices[first]) {
            json_str(b, NULL, name_of(i));
            pauses |= places[i].pauses;
        }
    json_end(b, ']');
    json_i64(b, "size_bytes", (int64_t)v.f_blocks * block);
    json_i64(b, "used_bytes", (int64_t)(v.f_blocks - v.f_bfree) * block);
    json_i64(b, "free_bytes", free.free_bytes);
    json_i64_or_null(b, "free_inodes", free.free_inodes);
    json_i64_or_null(b, "pauses_below_bytes", pauses && c ? c->platform.min_free_bytes : -1);
    json_i64_or_null(b, "pauses_below_inodes", pauses && c ? c->platform.min_free_inodes : -1);
    json_bool(b, "low", pauses && c && space_is_low(&free, c->platform.min_free_bytes, c->platform.min_free_inodes));
    json_end(b, '}');
}

/* One for each file system that is among the places. */
static void add_disks(struct buf *b, const struct home *h, const struct conf *c)
{
    dev_t devices[N_PLACES] = {0};
    json_begin(b, "disks", '[');
    for (int i = 0; i < N_PLACES; i++) {
        struct stat st;
        devices[i] = fstatat(h->dirfd, places[i].path, &st, 0) < 0 ? 0 : st.st_dev;
    }
    for (int i = 0; i < N_PLACES; i++) {
        bool seen = !devices[i];
        for (int k = 0; k < i && !seen; k++)
            seen = devices[k] == devices[i];
        if (!seen)
            add_disk(b, h, c, devices, i);
    }
    json_end(b, ']');
}

/* ---- programs ---- */

static void add_process(struct buf *b, const char *key, const struct process_use *u)
{
    if (!u->n) {
        json_null(b, key);
        return;
    }
    json_begin(b, key, '{');
    json_i64(b, "processes", u->n);
    add_rounded(b, "cpu_s", u->cpu_s, HUNDREDTHS);
    add_rounded(b, "cpus", u->cpu_share, HUNDREDTHS);
    json_i64(b, "memory_bytes", u->memory_bytes);
    json_i64_or_null(b, "descriptors", u->descriptors);
    json_i64_or_null(b, "max_descriptors", u->max_descriptors);
    json_end(b, '}');
}

static void add_program(struct buf *b, const struct program_use *p)
{
    json_begin(b, NULL, '{');
    json_str(b, "program", p->name);
    json_bool(b, "runs", p->runs);
    json_time(b, "started_at", p->started_wall_ms);
    json_i64(b, "restarts", p->restarts);
    json_time(b, "ended_at", p->ended_wall_ms);
    json_str(b, "ended", p->ended);
    add_process(b, "use", &p->own);
    add_process(b, "helpers", &p->helpers);
    json_end(b, '}');
}

void machine_json(const struct home *h, const struct machine_seen *s, const struct conf *c, struct buf *out)
{
    json_begin(out, NULL, '{');
    json_time(out, "at", s->at_wall_ms);
    json_time(out, "sums_at", s->sums.at_wall_ms);
    json_i64(out, "window_s", RUNS_USE_WINDOW_MS / 1000);
    json_f64(out, "cpus", capacity_cpus(c));
    add_tenants(out, s, c);
    json_begin(out, "runs", '[');
    for (size_t i = 0; i < s->runs.n; i++)
        add_run(out, s, c, &s->runs.v[i]);
    json_end(out, ']');
    json_bool(out, "more_runs", s->runs.cut);
    add_disks(out, h, c);
    json_begin(out, "programs", '[');
    for (size_t i = 0; i < s->programs.n; i++)
        add_program(out, &s->programs.v[i]);
    json_end(out, ']');
    json_end(out, '}');
}
