#include "manual_instances.h"
#include "app.h"
#include "drain.h"
#include "instance.h"
#include "instances_db.h"
#include "streammgr.h"
#include "tenant_facts.h"

#include "base/clk.h"
#include "base/crash.h"
#include "base/log.h"
#include "base/mem.h"
#include "conf/conf.h"
#include "manager/spawner.h"
#include "run/spec.h"

#include <stdio.h>
#include <string.h>

enum { AGAIN_MS = 1000, RETRY_S = 2 };

void ask_add(struct app *a, const char *id, const char *args)
{
    struct ask *k = xcalloc(1, sizeof *k);
    snprintf(k->id, sizeof k->id, "%s", id);
    k->args = xstrdup(args);
    k->begun = true;
    k->next = a->asks;
    a->asks = k;
    a->n_asks++;
}

static void drop(struct app *a, const char *id)
{
    for (struct ask **at = &a->asks, *k; (k = *at); at = &k->next)
        if (!strcmp(k->id, id)) {
            *at = k->next;
            a->n_asks--;
            free(k->args);
            free(k);
            return;
        }
}

void ask_end(struct app *a, const char *id)
{
    const struct ask *k = ask_of(a, id);
    if (!k)
        return;
    instances_db_drop_ask(a->mgr->book, a, k);
    drop(a, id);
}

void manual_instances_end(struct app *a)
{
    while (a->asks)
        ask_end(a, a->asks->id);
}

void manual_instances_free(struct app *a)
{
    while (a->asks)
        drop(a, a->asks->id);
}

/* Why an instance cannot be started just now, and the word for it; NULL: it can. */
static const char *obstacle(struct app *a, const char **ret_word)
{
    const struct conf_tenant *t;
    const struct conf_stream_app *c = app_conf(a, &t);
    const char *why = app_obstacle(a);
    *ret_word = "unavailable";
    if (why)
        return why;
    if (*c->image && !a->image) {
        *ret_word = a->parked ? "conflict" : "unavailable";
        return a->parked ? a->parked : "its image is not there yet";
    }
    if (!app_has_capacity(a, conf_profile(a->mgr->conf, c->profile))) {
        *ret_word = "busy";
        return "stream_pct of the platform's capacity is taken";
    }
    return !spawner_is_ready(a->mgr->spawner) ? "what starts programs is not ready; try again" : NULL;
}

const char *manual_instance_waits_for(struct app *a)
{
    const char *word;
    return obstacle(a, &word);
}

int ask_start(struct app *a, const char *args, const char *key, const struct ask **ret, struct err *e)
{
    const struct conf_tenant *t;
    const struct conf_stream_app *c = app_conf(a, &t);
    char id[ID_SIZE];
    app_look_at_image(a);
    const char *word, *why = obstacle(a, &word);
    if (why)
        return err_refuse(e, word, strcmp(word, "conflict") ? RETRY_S : 0, "app %s/%s cannot be started now: %s", a->tenant,
                          a->name, why);
    if ((int64_t)(a->n + a->n_asks) >= c->max_instances)
        return err_refuse(e, "max_instances", 0,
                          "max_instances of %s/%s is %lld, and there are %zu instances that are scaled and %zu by hand", a->tenant,
                          a->name, (long long)c->max_instances, a->n, a->n_asks);
    home_new_id(id);
    ask_add(a, id, args);
    struct ask *k = a->asks;
    k->begun = false;
    int r = instances_db_put_ask(a->mgr->book, a, k, key, e);
    if (r == 0) {
        crash_at(CRASH_ask_commit);
        r = instance_start(a, k, e);
        if (r < 0)
            instances_db_take_back_ask(a->mgr->book, a, k);
    }
    if (r < 0) {
        drop(a, id);
        return r;
    }
    k->begun = true;
    *ret = k;
    return 0;
}

static struct ask *find(struct app *a, const struct instance *i)
{
    return (struct ask *)ask_of(a, i->ask);
}

void ask_note_end(struct app *a, const struct instance *i, const struct run_result *res)
{
    struct ask *k = find(a, i);
    if (!k)
        return;
    if (!i->stop && !res->not_started && res->outcome != RUN_lost)
        ask_end(a, i->ask);
    else
        k->not_before_ms = i->stop ? 0 : clk_now_ms() + AGAIN_MS;
}

void ask_note_cancelled(struct app *a, const struct instance *i, int64_t delay_ms)
{
    struct ask *k = find(a, i);
    if (k)
        k->not_before_ms = clk_now_ms() + delay_ms;
}

/* Why instances of asks have to end; NULL: they may go on. Other obstacles keep new ones from starting, but end none. */
static const char *must_go(const struct app *a)
{
    const struct conf_tenant *t;
    const struct tenant_facts *f = tenant_facts_of(a->mgr, a->tenant);
    return !app_conf(a, &t) ? "it is not configured" : f && f->suspended ? "the tenant is suspended" : NULL;
}

static bool has_instance(const struct app *a, const char *id)
{
    for (const struct instance *i = a->instances; i; i = i->next)
        if (!strcmp(i->ask, id) && !i->unheard)
            return true;
    return false;
}

void manual_instances_reconcile(struct app *a)
{
    const char *go = must_go(a);
    struct err e = {0};
    for (struct instance *i = a->instances; go && i; i = i->next)
        if (*i->ask)
            drain_instance(i, DRAIN_GENTLY, go);
    for (struct ask *k = a->asks; k; k = k->next) {
        int64_t wait = k->not_before_ms - clk_now_ms();
        if (has_instance(a, k->id) || manual_instance_waits_for(a))
            continue;
        if (wait > 0) {
            streammgr_wake_in(a->mgr, wait);
            continue;
        }
        k->not_before_ms = clk_now_ms() + AGAIN_MS; /* until it is known that it started */
        if (instance_start(a, k, &e) == 0)
            log_info("ask_resumed", a->tenant, k->id, "app %s: another instance with its arguments", a->name);
    }
}
