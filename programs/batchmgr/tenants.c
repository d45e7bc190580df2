#include "tenants.h"
#include "state.h"

#include "base/clk.h"
#include "base/log.h"
#include "base/mem.h"

struct tenant *tenant_get(struct batchmgr *m, const char *id)
{
    struct tenant *t = map_get(&m->tenants, id);
    if (!t) {
        t = xcalloc(1, sizeof *t);
        t->id = xstrdup(id);
        t->uid = t->gid = -1;
        t->last = &t->first;
        t->usage.day = -1;
        map_put(&m->tenants, id, t);
    }
    return t;
}

void tenants_free(struct batchmgr *m)
{
    size_t i = 0;
    for (struct tenant *t; (t = map_next(&m->tenants, &i));) {
        size_t k = 0;
        for (struct usage *u; (u = map_next(&t->datasets, &k));)
            free(u);
        map_fini(&t->datasets);
        free(t->id);
        free(t->moved_to);
        free(t->mongo_url);
        free(t->database_why);
        free(t);
    }
    map_fini(&m->tenants);
}

const struct conf_tenant *tenant_conf(struct batchmgr *m, const struct tenant *t)
{
    return conf_tenant(m->conf, t->id);
}

bool tenant_accepts(const struct tenant *t)
{
    return t->configured && !t->suspended && !t->purging;
}

int64_t tenant_weight(struct batchmgr *m, const struct tenant *t)
{
    const struct conf_tenant *c = tenant_conf(m, t);
    return c ? c->weight : 1;
}

struct usage *tenant_usage(struct tenant *t, const char *dataset)
{
    struct usage *u = map_get(&t->datasets, dataset);
    if (!u) {
        u = xcalloc(1, sizeof *u);
        u->day = -1;
        map_put(&t->datasets, dataset, u);
    }
    return u;
}

bool tenant_count_refusal(struct tenant *t)
{
    int64_t now_ms = clk_now_ms();
    refusals_count(&t->refusals, now_ms);
    if (refusals_must_tell(&t->refusals, now_ms))
        log_warn("slowed", t->id, NULL, "%d of its files were refused; until it delivers others, about %d a second are taken in",
                 REFUSALS_AT_ONCE, REFUSALS_PER_S);
    return refusals_slow_down(&t->refusals, now_ms);
}

bool tenant_is_slowed(struct tenant *t)
{
    return refusals_slow_down(&t->refusals, clk_now_ms());
}
