#include "fair_queue.h"
#include "base/map.h"
#include "base/mem.h"

#include <string.h>

enum { MAX_AHEAD_MS = 10000 }; /* of the whole machine */

struct app_queue {
    char *name;
    int64_t priority, memory_bytes;
    double cpus;
    bool parked, held;
    struct file_list files;
    struct app_queue *next;
};

struct tenant_queue {
    char *id;
    int64_t weight, concurrency;
    bool blocked;
    double cpus;
    int64_t memory_bytes;
    size_t n_running, n_queued;
    double served;
    uint64_t last_pick; /* tells equals apart: who waited longer goes first */
    struct app_queue *apps;
};

struct fair_queue {
    double cpus, free_cpus;
    bool lend;
    int64_t memory_bytes, free_memory;
    struct map tenants;
    size_t n_queued, n_running;
    uint64_t n_picks;
};

struct fair_queue *fair_queue_new(double cpus, int64_t memory_bytes)
{
    struct fair_queue *s = xcalloc(1, sizeof *s);
    s->cpus = s->free_cpus = cpus;
    s->memory_bytes = s->free_memory = memory_bytes;
    return s;
}

void fair_queue_set_capacity(struct fair_queue *s, double cpus, int64_t memory_bytes)
{
    s->free_cpus += cpus - s->cpus;
    s->free_memory += memory_bytes - s->memory_bytes;
    s->cpus = cpus;
    s->memory_bytes = memory_bytes;
}

void fair_queue_lend_cores(struct fair_queue *s, bool lend)
{
    s->lend = lend;
}

void fair_queue_free(struct fair_queue *s)
{
    size_t i = 0;
    if (!s)
        return;
    for (struct tenant_queue *t; (t = map_next(&s->tenants, &i));) {
        for (struct app_queue *a = t->apps; a;) {
            struct app_queue *next = a->next;
            free(a->name);
            free(a);
            a = next;
        }
        free(t->id);
        free(t);
    }
    map_fini(&s->tenants);
    free(s);
}

static struct tenant_queue *get_tenant(struct fair_queue *s, const char *id)
{
    struct tenant_queue *t = map_get(&s->tenants, id);
    if (!t) {
        t = xcalloc(1, sizeof *t);
        t->id = xstrdup(id);
        t->weight = 1;
        t->concurrency = INT64_MAX;
        map_put(&s->tenants, id, t);
    }
    return t;
}

static struct app_queue *get_app(struct fair_queue *s, const char *tenant, const char *name)
{
    struct tenant_queue *t = get_tenant(s, tenant);
    for (struct app_queue *a = t->apps; a; a = a->next)
        if (!strcmp(a->name, name))
            return a;
    struct app_queue *a = xcalloc(1, sizeof *a);
    a->name = xstrdup(name);
    a->next = t->apps;
    t->apps = a;
    return a;
}

void fair_queue_set_tenant(struct fair_queue *s, const char *tenant, int64_t weight, int64_t concurrency)
{
    struct tenant_queue *t = get_tenant(s, tenant);
    t->weight = weight;
    t->concurrency = concurrency;
}

void fair_queue_block_tenant(struct fair_queue *s, const char *tenant, bool blocked)
{
    get_tenant(s, tenant)->blocked = blocked;
}

void fair_queue_set_app(struct fair_queue *s, const char *tenant, const char *app, int64_t priority, double cpus,
                        int64_t memory_bytes)
{
    struct app_queue *a = get_app(s, tenant, app);
    a->priority = priority;
    a->cpus = cpus;
    a->memory_bytes = memory_bytes;
}

void fair_queue_park_app(struct fair_queue *s, const char *tenant, const char *app, bool parked)
{
    get_app(s, tenant, app)->parked = parked;
}

static double share(const struct fair_queue *s, double cpus, int64_t memory_bytes)
{
    double c = s->cpus > 0 ? cpus / s->cpus : 0;
    double m = s->memory_bytes > 0 ? (double)memory_bytes / (double)s->memory_bytes : 0;
    return c > m ? c : m;
}

static bool is_busy(const struct tenant_queue *t)
{
    return t->n_queued || t->n_running;
}

/* Service of the least served busy tenant but `t`; -1 when there is none. */
static double least_served(const struct fair_queue *s, const struct tenant_queue *t)
{
    size_t i = 0;
    double least = -1;
    for (const struct tenant_queue *other; (other = map_next(&s->tenants, &i));)
        if (other != t && is_busy(other) && (least < 0 || other->served < least))
            least = other->served;
    return least;
}

/* A tenant that becomes busy starts level with the least served busy one. */
static void level(struct fair_queue *s, struct tenant_queue *joining)
{
    double least = least_served(s, joining);
    if (least > joining->served)
        joining->served = least;
}

void fair_queue_add(struct fair_queue *s, const char *app, struct file *f)
{
    struct tenant_queue *t = get_tenant(s, f->tenant);
    struct app_queue *a = get_app(s, f->tenant, app);
    if (!is_busy(t))
        level(s, t);
    file_list_add(&a->files, f);
    t->n_queued++;
    s->n_queued++;
}

static void unlink_file(struct fair_queue *s, struct tenant_queue *t, struct file *f)
{
    file_list_remove(f);
    t->n_queued--;
    s->n_queued--;
}

bool fair_queue_remove(struct fair_queue *s, struct file *f)
{
    struct tenant_queue *t = get_tenant(s, f->tenant);
    for (struct app_queue *a = t->apps; a; a = a->next)
        if (f->list == &a->files) {
            unlink_file(s, t, f);
            return true;
        }
    return false;
}

void fair_queue_drain(struct fair_queue *s, void (*fn)(void *arg, struct file *f), void *arg)
{
    size_t i = 0;
    for (struct tenant_queue *t; (t = map_next(&s->tenants, &i));)
        fair_queue_drain_tenant(s, t->id, fn, arg);
}

void fair_queue_drain_tenant(struct fair_queue *s, const char *tenant, void (*fn)(void *arg, struct file *f), void *arg)
{
    struct tenant_queue *t = get_tenant(s, tenant);
    for (struct app_queue *a = t->apps; a; a = a->next)
        for (struct file *f; (f = a->files.first);) {
            unlink_file(s, t, f);
            fn(arg, f);
        }
}

static struct app_queue *best_app(const struct tenant_queue *t)
{
    struct app_queue *best = NULL;
    for (struct app_queue *a = t->apps; a; a = a->next)
        if (a->files.first && !a->parked && !a->held &&
            (!best || a->priority > best->priority ||
             (a->priority == best->priority && strcmp(a->files.first->file_id, best->files.first->file_id) < 0)))
            best = a;
    return best;
}

static bool may_run(const struct tenant_queue *t)
{
    return t->n_queued && !t->blocked && (int64_t)t->n_running < t->concurrency;
}

static bool goes_before(const struct fair_queue *s, const struct tenant_queue *a, const struct tenant_queue *b)
{
    double x = share(s, a->cpus, a->memory_bytes) / (double)a->weight;
    double y = share(s, b->cpus, b->memory_bytes) / (double)b->weight;
    if (x < y - 1e-9 || x > y + 1e-9)
        return x < y;
    if (a->served != b->served)
        return a->served < b->served;
    if (a->last_pick != b->last_pick)
        return a->last_pick < b->last_pick;
    return strcmp(a->id, b->id) < 0;
}

static bool fits(const struct fair_queue *s, const struct tenant_queue *t, const struct app_queue *a)
{
    /* A request above the whole capacity runs alone: better late than never. */
    if (s->n_running == 0)
        return true;
    double cpus = s->free_cpus + (s->lend && !t->n_running ? s->cpus : 0);
    return a->cpus <= cpus + 1e-9 && a->memory_bytes <= s->free_memory;
}

struct file *fair_queue_pick(struct fair_queue *s, const char **ret_app, double *ret_cpus, int64_t *ret_memory_bytes)
{
    struct tenant_queue *next = NULL;
    size_t i = 0;
    if (!s->n_queued)
        return NULL;
    for (struct tenant_queue *t; (t = map_next(&s->tenants, &i));)
        if (may_run(t) && best_app(t) && (!next || goes_before(s, t, next)))
            next = t;
    struct app_queue *a = next ? best_app(next) : NULL;
    if (!a || !fits(s, next, a))
        return NULL;
    struct file *f = a->files.first;
    unlink_file(s, next, f);
    next->last_pick = ++s->n_picks;
    fair_queue_charge(s, next->id, a->cpus, a->memory_bytes);
    *ret_app = a->name;
    *ret_cpus = a->cpus;
    *ret_memory_bytes = a->memory_bytes;
    return f;
}

int64_t fair_queue_take_mates(struct fair_queue *s, const char *app, struct file *f, int64_t max)
{
    struct tenant_queue *t = get_tenant(s, f->tenant);
    struct app_queue *a = get_app(s, f->tenant, app);
    struct file **to = &f->mate;
    int64_t n = 0;
    for (struct file *other = a->files.first, *following; other && n < max; other = following) {
        following = other->next;
        if (strcmp(other->dataset, f->dataset) || !file_may_be_grouped(other))
            continue;
        unlink_file(s, t, other);
        *to = other;
        other->lead = f;
        to = &other->mate;
        n++;
    }
    return n;
}

void fair_queue_charge(struct fair_queue *s, const char *tenant, double cpus, int64_t memory_bytes)
{
    struct tenant_queue *t = get_tenant(s, tenant);
    if (!is_busy(t))
        level(s, t);
    t->cpus += cpus;
    t->memory_bytes += memory_bytes;
    t->n_running++;
    s->n_running++;
    s->free_cpus -= cpus;
    s->free_memory -= memory_bytes;
}

static void uncharge(struct fair_queue *s, struct tenant_queue *t, double cpus, int64_t memory_bytes)
{
    t->cpus -= cpus;
    t->memory_bytes -= memory_bytes;
    t->n_running--;
    s->n_running--;
    s->free_cpus += cpus;
    s->free_memory += memory_bytes;
    if (!t->n_running)
        t->cpus = 0;
    if (!s->n_running)
        s->free_cpus = s->cpus;
}

void fair_queue_hold(struct fair_queue *s, const char *app, struct file *f, double cpus, int64_t memory_bytes)
{
    struct tenant_queue *t = get_tenant(s, f->tenant);
    struct app_queue *a = get_app(s, f->tenant, app);
    uncharge(s, t, cpus, memory_bytes);
    file_list_add_first(&a->files, f);
    t->n_queued++;
    s->n_queued++;
    a->held = true;
}

void fair_queue_unhold(struct fair_queue *s)
{
    size_t i = 0;
    for (struct tenant_queue *t; (t = map_next(&s->tenants, &i));)
        for (struct app_queue *a = t->apps; a; a = a->next)
            a->held = false;
}

void fair_queue_release(struct fair_queue *s, const char *tenant, double cpus, int64_t memory_bytes, int64_t duration_ms)
{
    struct tenant_queue *t = get_tenant(s, tenant);
    uncharge(s, t, cpus, memory_bytes);
    /* At least a millisecond, so that runs too short to measure count too. */
    t->served += share(s, cpus, memory_bytes) * (double)(duration_ms < 1 ? 1 : duration_ms) / (double)t->weight;
    /* One very long run must not keep its tenant behind the others for as long again. */
    double least = least_served(s, t);
    if (least >= 0 && t->served > least + MAX_AHEAD_MS)
        t->served = least + MAX_AHEAD_MS;
}

size_t fair_queue_n_queued(const struct fair_queue *s, const char *tenant)
{
    const struct tenant_queue *t = tenant ? map_get(&s->tenants, tenant) : NULL;
    return tenant ? (t ? t->n_queued : 0) : s->n_queued;
}

size_t fair_queue_n_running(const struct fair_queue *s, const char *tenant)
{
    const struct tenant_queue *t = tenant ? map_get(&s->tenants, tenant) : NULL;
    return tenant ? (t ? t->n_running : 0) : s->n_running;
}

const char *fair_queue_why_waiting(const struct fair_queue *s, const char *tenant)
{
    const struct tenant_queue *t = map_get(&s->tenants, tenant);
    if (!t || !t->n_queued)
        return NULL;
    if (t->blocked)
        return "suspended, or its database does not answer";
    if (!best_app(t))
        return "its apps are parked, or wait for their images";
    if (!may_run(t))
        return "concurrency";
    return fits(s, t, best_app(t)) ? NULL : "capacity";
}
