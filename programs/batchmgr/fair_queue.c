#include "fair_queue.h"
#include "base/map.h"
#include "base/mem.h"

#include <string.h>

enum { MAX_AHEAD_MS = 10000 }; /* of the whole pool */

struct app_queue {
    char *name;
    int64_t priority;
    struct demand one; /* of one run */
    bool parked, held;
    struct file_list files;
    struct app_queue *next;
};

/* What a tenant has of a pool. */
struct use {
    double cpus;
    int64_t memory_bytes;
    size_t n_running, n_queued;
    double served;
    uint64_t last_pick; /* tells equals apart: who waited longer goes first */
};

struct tenant_queue {
    char *id;
    int64_t weight, concurrency;
    bool blocked;
    size_t n_running, n_queued;
    struct use *use; /* for each pool */
    struct app_queue *apps;
};

struct pool {
    char *name;
    double cpus, free_cpus, most; /* most: what part of it a tenant may have */
    bool lend;
    int64_t memory_bytes, free_memory;
    size_t n_running;
};

struct fair_queue {
    struct pool *pools;
    int n_pools, next_pool;
    struct map tenants;
    size_t n_queued, n_running;
    uint64_t n_picks;
};

int fair_queue_pool(struct fair_queue *s, const char *name)
{
    size_t i = 0;
    for (int n = 0; n < s->n_pools; n++)
        if (!strcmp(s->pools[n].name, name))
            return n;
    int n = s->n_pools++;
    s->pools = xrealloc(s->pools, (size_t)s->n_pools * sizeof *s->pools);
    s->pools[n] = (struct pool){.name = xstrdup(name), .most = 1};
    for (struct tenant_queue *t; (t = map_next(&s->tenants, &i));) {
        t->use = xrealloc(t->use, (size_t)s->n_pools * sizeof *t->use);
        t->use[n] = (struct use){0};
    }
    return n;
}

struct fair_queue *fair_queue_new(double cpus, int64_t memory_bytes)
{
    struct fair_queue *s = xcalloc(1, sizeof *s);
    fair_queue_set_capacity(s, fair_queue_pool(s, ""), cpus, memory_bytes);
    return s;
}

void fair_queue_set_capacity(struct fair_queue *s, int pool, double cpus, int64_t memory_bytes)
{
    struct pool *p = &s->pools[pool];
    p->free_cpus += cpus - p->cpus;
    p->free_memory += memory_bytes - p->memory_bytes;
    p->cpus = cpus;
    p->memory_bytes = memory_bytes;
}

void fair_queue_set_most(struct fair_queue *s, int pool, double part)
{
    s->pools[pool].most = part;
}

void fair_queue_lend_cores(struct fair_queue *s, int pool, bool lend)
{
    s->pools[pool].lend = lend;
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
        free(t->use);
        free(t);
    }
    map_fini(&s->tenants);
    for (int n = 0; n < s->n_pools; n++)
        free(s->pools[n].name);
    free(s->pools);
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
        t->use = xcalloc((size_t)s->n_pools, sizeof *t->use);
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

void fair_queue_set_app(struct fair_queue *s, const char *tenant, const char *app, int64_t priority, const struct demand *one)
{
    struct tenant_queue *t = get_tenant(s, tenant);
    struct app_queue *a = get_app(s, tenant, app);
    t->use[a->one.pool].n_queued -= a->files.n;
    t->use[one->pool].n_queued += a->files.n;
    a->priority = priority;
    a->one = *one;
}

void fair_queue_park_app(struct fair_queue *s, const char *tenant, const char *app, bool parked)
{
    get_app(s, tenant, app)->parked = parked;
}

static double share(const struct pool *p, double cpus, int64_t memory_bytes)
{
    double c = p->cpus > 0 ? cpus / p->cpus : 0;
    double m = p->memory_bytes > 0 ? (double)memory_bytes / (double)p->memory_bytes : 0;
    return c > m ? c : m;
}

static bool is_busy(const struct tenant_queue *t, int pool)
{
    return t->use[pool].n_queued || t->use[pool].n_running;
}

/* Service of the least served busy tenant but `t`; -1 when there is none. */
static double least_served(const struct fair_queue *s, const struct tenant_queue *t, int pool)
{
    size_t i = 0;
    double least = -1;
    for (const struct tenant_queue *other; (other = map_next(&s->tenants, &i));)
        if (other != t && is_busy(other, pool) && (least < 0 || other->use[pool].served < least))
            least = other->use[pool].served;
    return least;
}

/* A tenant that becomes busy starts level with the least served busy one. */
static void level(struct fair_queue *s, struct tenant_queue *joining, int pool)
{
    double least = least_served(s, joining, pool);
    if (least > joining->use[pool].served)
        joining->use[pool].served = least;
}

static void count_queued(struct fair_queue *s, struct tenant_queue *t, const struct app_queue *a, bool more)
{
    size_t *const counts[] = {&s->n_queued, &t->n_queued, &t->use[a->one.pool].n_queued};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        *counts[i] += more ? 1 : (size_t)-1;
}

void fair_queue_add(struct fair_queue *s, const char *app, struct file *f)
{
    struct tenant_queue *t = get_tenant(s, f->tenant);
    struct app_queue *a = get_app(s, f->tenant, app);
    if (!is_busy(t, a->one.pool))
        level(s, t, a->one.pool);
    file_list_add(&a->files, f);
    count_queued(s, t, a, true);
}

static void unlink_file(struct fair_queue *s, struct tenant_queue *t, const struct app_queue *a, struct file *f)
{
    file_list_remove(f);
    count_queued(s, t, a, false);
}

bool fair_queue_remove(struct fair_queue *s, struct file *f)
{
    struct tenant_queue *t = get_tenant(s, f->tenant);
    for (struct app_queue *a = t->apps; a; a = a->next)
        if (f->list == &a->files) {
            unlink_file(s, t, a, f);
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
            unlink_file(s, t, a, f);
            fn(arg, f);
        }
}

static struct app_queue *best_app(const struct tenant_queue *t, int pool)
{
    struct app_queue *best = NULL;
    for (struct app_queue *a = t->apps; a; a = a->next)
        if (a->one.pool == pool && a->files.first && !a->parked && !a->held &&
            (!best || a->priority > best->priority ||
             (a->priority == best->priority && strcmp(a->files.first->file_id, best->files.first->file_id) < 0)))
            best = a;
    return best;
}

static bool may_run(const struct tenant_queue *t)
{
    return t->n_queued && !t->blocked && (int64_t)t->n_running < t->concurrency;
}

static bool goes_before(const struct pool *p, const struct tenant_queue *a, const struct use *of_a, const struct tenant_queue *b,
                        const struct use *of_b)
{
    double x = share(p, of_a->cpus, of_a->memory_bytes) / (double)a->weight;
    double y = share(p, of_b->cpus, of_b->memory_bytes) / (double)b->weight;
    if (x < y - 1e-9 || x > y + 1e-9)
        return x < y;
    if (of_a->served != of_b->served)
        return of_a->served < of_b->served;
    if (of_a->last_pick != of_b->last_pick)
        return of_a->last_pick < of_b->last_pick;
    return strcmp(a->id, b->id) < 0;
}

static bool fits(const struct fair_queue *s, const struct tenant_queue *t, const struct demand *one)
{
    const struct pool *p = &s->pools[one->pool];
    /* A request above the whole capacity runs alone: better late than never. */
    if (p->n_running == 0)
        return true;
    double cpus = p->free_cpus + (p->lend && !t->use[one->pool].n_running ? p->cpus : 0);
    return one->cpus <= cpus + 1e-9 && one->memory_bytes <= p->free_memory;
}

/* Who has all that a tenant may have of a pool holds nobody up. */
static bool may_have(const struct fair_queue *s, const struct tenant_queue *t, const struct demand *one)
{
    const struct pool *p = &s->pools[one->pool];
    const struct use *u = &t->use[one->pool];
    return p->most >= 1 || !u->n_running || share(p, u->cpus + one->cpus, u->memory_bytes + one->memory_bytes) <= p->most + 1e-9;
}

static struct file *pick_of(struct fair_queue *s, int pool, const char **ret_app, struct demand *ret)
{
    struct tenant_queue *next = NULL;
    size_t i = 0;
    for (struct tenant_queue *t; (t = map_next(&s->tenants, &i));) {
        const struct app_queue *a = may_run(t) ? best_app(t, pool) : NULL;
        if (a && may_have(s, t, &a->one) && (!next || goes_before(&s->pools[pool], t, &t->use[pool], next, &next->use[pool])))
            next = t;
    }
    struct app_queue *a = next ? best_app(next, pool) : NULL;
    if (!a || !fits(s, next, &a->one))
        return NULL;
    struct file *f = a->files.first;
    unlink_file(s, next, a, f);
    next->use[pool].last_pick = ++s->n_picks;
    fair_queue_charge(s, next->id, &a->one);
    *ret_app = a->name;
    *ret = a->one;
    return f;
}

struct file *fair_queue_pick(struct fair_queue *s, const char **ret_app, struct demand *ret)
{
    struct file *f = NULL;
    for (int n = 0; s->n_queued && !f && n < s->n_pools; n++) {
        f = pick_of(s, s->next_pool, ret_app, ret);
        s->next_pool = (s->next_pool + 1) % s->n_pools;
    }
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
        unlink_file(s, t, a, other);
        *to = other;
        other->lead = f;
        to = &other->mate;
        n++;
    }
    return n;
}

void fair_queue_charge(struct fair_queue *s, const char *tenant, const struct demand *d)
{
    struct tenant_queue *t = get_tenant(s, tenant);
    struct use *u = &t->use[d->pool];
    struct pool *p = &s->pools[d->pool];
    if (!is_busy(t, d->pool))
        level(s, t, d->pool);
    u->cpus += d->cpus;
    u->memory_bytes += d->memory_bytes;
    u->n_running++;
    t->n_running++;
    p->n_running++;
    s->n_running++;
    p->free_cpus -= d->cpus;
    p->free_memory -= d->memory_bytes;
}

static void uncharge(struct fair_queue *s, struct tenant_queue *t, const struct demand *d)
{
    struct use *u = &t->use[d->pool];
    struct pool *p = &s->pools[d->pool];
    u->cpus -= d->cpus;
    u->memory_bytes -= d->memory_bytes;
    u->n_running--;
    t->n_running--;
    p->n_running--;
    s->n_running--;
    p->free_cpus += d->cpus;
    p->free_memory += d->memory_bytes;
    if (!u->n_running)
        u->cpus = 0;
    if (!p->n_running)
        p->free_cpus = p->cpus;
}

void fair_queue_hold(struct fair_queue *s, const char *app, struct file *f, const struct demand *d)
{
    struct tenant_queue *t = get_tenant(s, f->tenant);
    struct app_queue *a = get_app(s, f->tenant, app);
    uncharge(s, t, d);
    file_list_add_first(&a->files, f);
    count_queued(s, t, a, true);
    a->held = true;
}

void fair_queue_unhold(struct fair_queue *s)
{
    size_t i = 0;
    for (struct tenant_queue *t; (t = map_next(&s->tenants, &i));)
        for (struct app_queue *a = t->apps; a; a = a->next)
            a->held = false;
}

void fair_queue_release(struct fair_queue *s, const char *tenant, const struct demand *d, int64_t duration_ms)
{
    struct tenant_queue *t = get_tenant(s, tenant);
    struct use *u = &t->use[d->pool];
    uncharge(s, t, d);
    /* At least a millisecond, so that runs too short to measure count too. */
    u->served +=
        share(&s->pools[d->pool], d->cpus, d->memory_bytes) * (double)(duration_ms < 1 ? 1 : duration_ms) / (double)t->weight;
    /* One very long run must not keep its tenant behind the others for as long again. */
    double least = least_served(s, t, d->pool);
    if (least >= 0 && u->served > least + MAX_AHEAD_MS)
        u->served = least + MAX_AHEAD_MS;
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
    bool any = false, fit = false, may = false;
    for (int n = 0; n < s->n_pools; n++) {
        const struct app_queue *a = best_app(t, n);
        any |= a != NULL;
        fit |= a && fits(s, t, &a->one);
        may |= a && may_have(s, t, &a->one);
    }
    if (!any)
        return "its apps are parked, or wait for their images";
    if (!may_run(t))
        return "concurrency";
    if (!may)
        return "its shards";
    return fit ? NULL : "capacity";
}
