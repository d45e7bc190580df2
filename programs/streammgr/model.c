#include "model.h"
#include "streammgr.h"

#include "base/log.h"
#include "base/mem.h"

#include <assert.h>
#include <string.h>

const char *instance_state_name(enum instance_state state)
{
    static const char *const names[] = {
#define X(name) #name,
        INSTANCE_STATES(X)
#undef X
    };
    return names[state];
}

void instance_set_state(struct instance *i, enum instance_state next)
{
    assert(next < INSTANCE_N_STATES && next > i->state);
    log_debug("state", i->app->tenant, i->run_id, "%s -> %s", instance_state_name(i->state), instance_state_name(next));
    i->state = next;
}

bool instance_is_scaled(const struct instance *i)
{
    return !i->stop && !*i->ask;
}

struct app *app_get(struct streammgr *m, const char *tenant, const char *name, bool make)
{
    AUTO_FREE char *key = xasprintf("%s/%s", tenant, name);
    struct app *a = map_get(&m->apps, key);
    if (a || !make)
        return a;
    a = xcalloc(1, sizeof *a);
    *a = (struct app){.tenant = xstrdup(tenant), .name = xstrdup(name), .mgr = m, .order_seq = -1, .least = -1};
    map_put(&m->apps, key, a);
    return a;
}

size_t instances_of(const struct streammgr *m, const char *tenant)
{
    size_t at = 0, n = 0;
    for (struct app *a; (a = map_next(&m->apps, &at));)
        for (const struct instance *i = a->instances; i && (!tenant || !strcmp(a->tenant, tenant)); i = i->next)
            n++;
    return n;
}

size_t instances_heard(const struct streammgr *m)
{
    size_t at = 0, n = 0;
    for (struct app *a; (a = map_next(&m->apps, &at));)
        for (const struct instance *i = a->instances; i; i = i->next)
            n += !i->unheard;
    return n;
}

void app_free(struct app *a)
{
    free(a->tenant);
    free(a->name);
    free(a->args);
    free(a->image);
    free(a->parked);
    free(a->last_end);
    free(a);
}

const struct ask *ask_of(const struct app *a, const char *id)
{
    const struct ask *k = *id ? a->asks : NULL;
    while (k && strcmp(k->id, id) != 0)
        k = k->next;
    return k;
}

struct instance *ask_instance(const struct app *a, const char *id)
{
    for (struct instance *i = a->instances; i; i = i->next)
        if (!i->stop && !strcmp(i->ask, id))
            return i;
    return NULL;
}
