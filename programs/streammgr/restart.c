#include "restart.h"
#include "app.h"
#include "restart_delay.h"
#include "streammgr.h"

#include "base/clk.h"
#include "base/log.h"
#include "base/mem.h"
#include "conf/conf.h"
#include "manager/images.h"
#include "manager/plan.h"

#include <sodium.h>
#include <sysexits.h>

enum {
    HEALTHY_MS = 10000,
    CONSUMING_MS = 1000, /* of one that takes messages: what lives for a second does not spin */
    MAX_FAILURES = 10,   /* in a row, then it is parked; ends with EX_TEMPFAIL do not park: what was missing comes back */
    PARKED_MS = 300000,  /* then one more instance is tried */
};

/* Changes when its executable, its checker or its image (whose identity is given) does; 0: it is not configured. */
static int64_t identity_in(const struct app *a, int64_t image_identity)
{
    const struct conf_tenant *t;
    const struct conf_stream_app *c = app_conf(a, &t);
    AUTO_FREE char *path = c ? plan_active_exec(&a->mgr->home, a->tenant, a->name, c->exec) : NULL;
    return path ? plan_exec_identity(path) ^ image_identity ^ app_checker_identity(a) : 0;
}

static int64_t identity_now(const struct app *a)
{
    const struct conf_tenant *t;
    const struct conf_stream_app *c = app_conf(a, &t);
    return identity_in(a, c && *c->image ? images_identity(&a->mgr->home, a->tenant, c->image) : 0);
}

void restart_park(struct app *a, int64_t until_ms, const char *why)
{
    xstr_set(&a->parked, why);
    a->parked_identity = identity_in(a, a->image_identity);
    a->parked_until_ms = until_ms;
    log_error(
        "app_parked", a->tenant, NULL,
        "stream app %s is parked until its executable, its image or the configuration changes, or `mysimbdp app start %s/%s`%s: %s",
        a->name, a->tenant, a->name, until_ms ? "; or for five minutes" : "", why);
}

static bool is_healthy(const struct instance *i)
{
    return clk_now_ms() - i->started_ms >= (i->consumes ? CONSUMING_MS : HEALTHY_MS);
}

static bool has_healthy(const struct app *a, uint64_t generation)
{
    for (const struct instance *i = a->instances; i; i = i->next)
        if (instance_is_scaled(i) && i->generation == generation && is_healthy(i))
            return true;
    return false;
}

void restart_note_failure(struct app *a, const struct instance *i, const struct run_result *res)
{
    int64_t now = clk_now_ms();
    a->restarts++;
    a->failures = is_healthy(i) ? 1 : a->failures + 1;
    free(a->last_end);
    AUTO_FREE char *end = res->limit            ? xasprintf("%s: %s", run_outcome_name(res->outcome), run_limit_name(res->limit))
                          : res->signal > 0     ? xasprintf("signal %d", res->signal)
                          : res->exit_code >= 0 ? xasprintf("exit code %d", res->exit_code)
                                                : NULL;
    a->last_end = end && res->error ? xasprintf("%s: %s", end, res->error)
                                    : xstrdup(end          ? end
                                              : res->error ? res->error
                                                           : run_outcome_name(res->outcome));
    a->not_before_ms = now + restart_delay_ms(a->failures, randombytes_random());
    if (a->parked || res->not_started || res->cause) /* what ended its job says nothing of the app */
        return;
    if (res->outcome == RUN_exec_error) {
        restart_park(a, 0, a->last_end);
    } else if (a->failures >= MAX_FAILURES && res->exit_code != EX_TEMPFAIL && !has_healthy(a, i->generation)) {
        AUTO_FREE char *why =
            xasprintf("it ended %lld times in a row soon after its start, the last time with %s; `mysimbdp logs %s` "
                      "has its last words",
                      (long long)a->failures, a->last_end, i->run_id);
        restart_park(a, now + PARKED_MS, why);
    }
}

static void unpark(struct app *a)
{
    if (a->parked)
        log_info("app_unparked", a->tenant, NULL, "stream app %s may run again", a->name);
    xstr_set(&a->parked, NULL);
    a->not_before_ms = 0;
}

void restart_forgive(struct app *a)
{
    unpark(a);
    if (a->mgr->images)
        images_retry(a->mgr->images, a->tenant);
    a->failures = 0;
}

void restart_unpark_if_due(struct app *a)
{
    if (!a->parked)
        return;
    if (identity_now(a) != a->parked_identity)
        restart_forgive(a);
    else if (a->parked_until_ms && clk_now_ms() >= a->parked_until_ms)
        unpark(a); /* the count of failures stays, so that the next one parks it again */
}
