#include "recover.h"
#include "instance.h"
#include "instances_db.h"
#include "manual_instances.h"
#include "streammgr.h"

#include "base/log.h"
#include "base/mem.h"
#include "manager/run_handle.h"

#include <string.h>

static void take_instance(void *arg, const struct instances_db_row *b)
{
    instance_take_up(app_get(arg, b->tenant, b->app, true), b);
}

static void take_app(void *arg, const struct instances_db_app *b)
{
    struct app *a = app_get(arg, b->tenant, b->app, true);
    a->pinned = b->pinned;
    a->wanted = b->wanted; /* as many as before: that streammgr is new starts and ends nothing */
    a->least = b->least;
    a->stopped = b->stopped;
    xstr_set(&a->args, b->args);
}

static void take_ask(void *arg, const char *tenant, const char *app, const char *id, const char *args)
{
    struct app *a = app_get(arg, tenant, app, true);
    if (!ask_of(a, id))
        ask_add(a, id, args);
}

/* Runners of these were not told that the book has their end. */
static bool is_ended(void *arg, const char *claim)
{
    return instances_db_is_ended(arg, claim);
}

int recover_read(struct streammgr *m, struct err *e)
{
    int r = instances_db_each_app(m->book, take_app, m, e);
    if (r == 0)
        r = instances_db_each_ask(m->book, take_ask, m, e);
    return r < 0 ? r : instances_db_each_live(m->book, take_instance, m, e);
}

int recover(struct streammgr *m, struct err *e)
{
    size_t at = 0, n = 0;
    int r = recover_read(m, e);
    if (r < 0)
        return r;
    for (struct app *a; (a = map_next(&m->apps, &at));)
        for (struct instance *i = a->instances, *next; i; i = next, n++) {
            next = i->next;
            run_handle_resolve(i->handle); /* may find that it ended */
        }
    run_handle_dismiss_ended(&m->home, is_ended, m->book);
    run_handle_dismiss_ended_jobs(m->spawner, is_ended, m->book);
    if (n)
        log_info("recovered", NULL, NULL, "%zu instances of an earlier streammgr", n);
    return 0;
}

struct of_tenant {
    struct streammgr *m;
    const char *tenant;
};

static void take_its_app(void *arg, const struct instances_db_app *b)
{
    const struct of_tenant *o = arg;
    if (!strcmp(b->tenant, o->tenant))
        take_app(o->m, b);
}

static void take_its_ask(void *arg, const char *tenant, const char *app, const char *id, const char *args)
{
    const struct of_tenant *o = arg;
    if (!strcmp(tenant, o->tenant))
        take_ask(o->m, tenant, app, id, args);
}

int recover_tenant(struct streammgr *m, const char *tenant, struct err *e)
{
    struct of_tenant o = {m, tenant};
    int r = instances_db_each_app(m->book, take_its_app, &o, e);
    return r < 0 ? r : instances_db_each_ask(m->book, take_its_ask, &o, e);
}

void recover_free(struct streammgr *m)
{
    size_t at = 0;
    for (struct app *a; (a = map_next(&m->apps, &at));) {
        instances_let_go(a);
        manual_instances_free(a);
        app_free(a);
    }
    map_fini(&m->apps);
}
