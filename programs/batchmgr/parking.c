#include "parking.h"
#include "fair_queue.h"
#include "run_plan.h"
#include "state.h"
#include "turn.h"

#include "manager/images.h"
#include "manager/plan.h"

#include "base/log.h"
#include "base/mem.h"
#include "loop/timer.h"

#include <string.h>

enum { LOOK_S = 1 };

struct parked {
    char *tenant, *app, *exec, *image;
    int64_t identity; /* of executable and image when it was parked */
};

struct parking {
    struct batchmgr *m;
    struct map apps; /* "TENANT/APP" -> its struct parked */
    struct event *ev;
};

static void on_look(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    parking_lift(arg, NULL, NULL, true);
}

struct parking *parking_new(struct batchmgr *m)
{
    struct parking *p = xcalloc(1, sizeof *p);
    p->m = m;
    p->ev = event_new(m->base, -1, EV_PERSIST, on_look, p);
    timer_set(p->ev, LOOK_S * 1000);
    return p;
}

static void free_parked(struct parked *one)
{
    free(one->tenant);
    free(one->app);
    free(one->exec);
    free(one->image);
    free(one);
}

void parking_free(struct parking *p)
{
    size_t i = 0;
    if (!p)
        return;
    for (struct parked *one; (one = map_next(&p->apps, &i));)
        free_parked(one);
    map_fini(&p->apps);
    event_free(p->ev);
    free(p);
}

/* Of what its executable is now: another version may be active. */
static int64_t exec_identity_of(const struct parking *p, const struct parked *one)
{
    AUTO_FREE char *path = plan_active_exec(&p->m->home, one->tenant, one->app, one->exec);
    return plan_exec_identity(path);
}

static int64_t identity_of(const struct parking *p, const struct parked *one)
{
    return exec_identity_of(p, one) ^ (*one->image ? images_identity(&p->m->home, one->tenant, one->image) : 0);
}

void parking_add(struct parking *p, const struct run *r, const struct conf_batch *app)
{
    AUTO_FREE char *key = xasprintf("%s/%s", r->tenant, r->app);
    if (!app || map_get(&p->apps, key))
        return;
    struct parked *one = xmalloc(sizeof *one);
    *one = (struct parked){xstrdup(r->tenant), xstrdup(r->app), xstrdup(r->step == RUN_STEP_check ? app->checker : app->exec),
                           xstrdup(app->image), 0};
    one->identity = exec_identity_of(p, one) ^ r->image_identity;
    map_put(&p->apps, key, one);
    fair_queue_park_app(p->m->fair_queue, r->tenant, r->app, true);
    log_error("app_parked", r->tenant, r->run_id,
              "app %s is parked until its executable%s or the configuration changes, or "
              "`mysimbdp retry --tenant %s`: %s",
              r->app, *app->image ? ", its image" : "", r->tenant, r->error ? r->error : "it cannot be executed");
}

static bool is_meant(const struct parking *p, const struct parked *one, const char *tenant, const char *app, bool only_changed)
{
    return (!tenant || !strcmp(one->tenant, tenant)) && (!app || !strcmp(one->app, app)) &&
           (!only_changed || identity_of(p, one) != one->identity);
}

void parking_lift(struct parking *p, const char *tenant, const char *app, bool only_changed)
{
    if (!p)
        return;
    if (!only_changed && p->m->images) /* NULL: at start */
        images_retry(p->m->images, tenant);
    size_t i = 0;
    for (struct parked *one; (one = map_next(&p->apps, &i));) {
        if (!is_meant(p, one, tenant, app, only_changed))
            continue;
        AUTO_FREE char *key = xasprintf("%s/%s", one->tenant, one->app);
        log_info("app_unparked", one->tenant, NULL, "app %s may run again", one->app);
        fair_queue_park_app(p->m->fair_queue, one->tenant, one->app, false);
        map_remove(&p->apps, key);
        free_parked(one);
        turn_kick(p->m);
    }
}

void parking_list(const struct parking *p, struct buf *out)
{
    size_t i = 0;
    for (const struct parked *one; p && (one = map_next(&p->apps, &i));) {
        AUTO_FREE char *name = xasprintf("%s/%s", one->tenant, one->app);
        json_str(out, NULL, name);
    }
}
