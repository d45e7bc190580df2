/* How many instances each app should have: gathers what is known, asks the controller, tells streammgr, and keeps a record.
 *
 * Failure story: an order is an absolute count, with streammgr's epoch, a number and an expiry; one that is lost is made again a
 * second later, since it is derived from what streammgr says is in force, and one that comes twice or late changes nothing. Without
 * fresh figures of the broker (or reports), or without streammgr, there are no orders, and what runs stays. */
#include "monitor.h"

#include "base/clk.h"
#include "base/log.h"
#include "base/mem.h"
#include "host/tenant_events.h"
#include "loop/peer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { ORDER_EXPIRES_MS = 10000 };

static double fresh_age(const struct monitor *m, int64_t told_ms)
{
    return told_ms ? (double)(m->now_ms - told_ms) / 1000 : NAN;
}

/* Of a shared stream each partition has a part of max_instances, which goes where the partition is served: over all homes they are
 * as many as one home alone would have. */
static int64_t max_here(const struct app *a)
{
    const int64_t max = a->conf->max_instances, n = a->n_partitions;
    int64_t here = 0;
    for (int64_t i = 0; i < n; i++)
        if (a->mine >> i & 1)
            here += max / n + (i < max % n);
    return n ? here : max;
}

/* An app on our broker is measured by the broker, and by its reports only in how long messages take; others by reports alone. */
static void gather(const struct monitor *m, const struct app *a, struct scale_input *in)
{
    const struct conf_stream_app *c = a->conf;
    struct windows_figures f;
    int64_t most = max_here(a), max = most > a->by_hand ? most - a->by_hand : 0;
    windows_figures(&a->window, m->now_ms, &f);
    *in = (struct scale_input){.now_s = (double)m->now_ms / 1000,
                               .acks_per_busy_s = f.acks_per_busy_s,
                               .average_s = f.avg_s,
                               .instances = a->running,
                               .min = c->min_instances < max ? c->min_instances : max,
                               .max = max};
    if (*a->stream) {
        in->ingress_per_s = a->ingress_per_s;
        in->ready = a->ready;
        in->leased = a->leased;
        in->processing_per_s = a->settled_per_s;
        in->report_age_s = fresh_age(m, a->queue_ms);
    } else { /* what comes in is what they take, and nothing is known of what waits */
        in->ingress_per_s = in->processing_per_s = f.messages_per_s;
        in->ready = in->leased = 0;
        in->report_age_s = f.report_age_s;
    }
    if (!*a->stream || !c->on_demand)
        in->min = in->min > 1 ? in->min : in->max > 0 ? 1 : 0; /* nobody would wake it */
}

static struct scale_settings settings_of(const struct conf_stream_app *c)
{
    struct scale_settings s = scale_defaults;
    s.utilisation = c->scale.utilisation;
    s.drain_target_s = (double)c->scale.drain_target_s;
    s.window_s = (double)c->scale.window_s;
    s.max_average_s = c->scale.max_average_ingestion_ms >= 0 ? (double)c->scale.max_average_ingestion_ms / 1000 : NAN;
    s.min_processing_per_s = c->scale.min_processing_rate >= 0 ? c->scale.min_processing_rate : NAN;
    return s;
}

/* ---- the record: logs/decisions.jsonl ---- */

static void record(struct monitor *m, struct app *a, const struct scale_settings *s, const struct scale_input *in)
{
    AUTO_BUF struct buf b = {0};
    if (a->recorded_reason && a->wanted == a->recorded && !strcmp(a->reason, a->recorded_reason))
        return;
    json_begin(&b, NULL, '{');
    json_time(&b, "ts", m->wall_ms);
    json_str(&b, "tenant_id", a->tenant);
    json_str(&b, "app", a->name);
    json_i64(&b, "before", a->desired);
    json_i64(&b, "desired", a->wanted);
    json_str(&b, "reason", a->reason);
    json_f64(&b, "now_s", in->now_s);
    json_f64(&b, "ingress_per_s", in->ingress_per_s);
    json_f64(&b, "ready", in->ready);
    json_f64(&b, "leased", in->leased);
    json_f64(&b, "acks_per_busy_s", in->acks_per_busy_s);
    json_i64(&b, "instances", in->instances);
    json_i64(&b, "min", in->min);
    json_i64(&b, "max", in->max);
    json_f64(&b, "report_age_s", in->report_age_s);
    json_f64(&b, "utilisation", s->utilisation);
    json_f64(&b, "drain_target_s", s->drain_target_s);
    json_f64(&b, "window_s", s->window_s);
    json_f64(&b, "max_average_s", s->max_average_s);
    json_f64(&b, "min_processing_per_s", s->min_processing_per_s);
    json_end(&b, '}');
    buf_adds(&b, "\n");
    int r = keeper_log(m->keeper, NULL, b.p, b.n);
    if (r < 0)
        log_error("record", a->tenant, NULL, "cannot write logs/decisions.jsonl: %s", err_text(r));
    a->recorded = a->wanted;
    xstr_set(&a->recorded_reason, a->reason);
}

static void tell_tenant(struct monitor *m, const struct app *a)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_time(&b, "ts", m->wall_ms);
    json_str(&b, "event", tenant_event_name(EVENT_scale_decided));
    json_str(&b, "tenant_id", a->tenant);
    json_str(&b, "app", a->name);
    json_i64(&b, "before", a->desired);
    json_i64(&b, "desired", a->wanted);
    json_str(&b, "reason", a->reason);
    json_end(&b, '}');
    buf_adds(&b, "\n");
    int r = keeper_log(m->keeper, a->tenant, b.p, b.n);
    if (r < 0)
        log_error("journal", a->tenant, NULL, "cannot tell the tenant of a decision: %s", err_text(r));
}

/* ---- orders ---- */

static void order(struct monitor *m, struct app *a)
{
    AUTO_BUF struct buf b = {0};
    int64_t seq = m->wall_ms > m->last_order_seq ? m->wall_ms : m->last_order_seq + 1;
    if (seq <= a->order_seq)
        seq = a->order_seq + 1;
    json_begin(&b, NULL, '{');
    json_str(&b, "op", "scale");
    json_str(&b, "tenant_id", a->tenant);
    json_str(&b, "app", a->name);
    json_i64(&b, "count", a->wanted);
    json_i64(&b, "epoch", m->epoch);
    json_i64(&b, "seq", seq);
    json_i64(&b, "expires_ms", m->wall_ms + ORDER_EXPIRES_MS);
    json_str(&b, "by", "monitor");
    json_end(&b, '}');
    m->last_order_seq = seq;
    if (!peer_send(m->streammgr, b.p, b.n) || a->ordered == a->wanted)
        return; /* not the first time: it was lost, or refused */
    a->ordered = a->wanted;
    tell_tenant(m, a);
    struct past_decision d = {.at_wall_ms = m->wall_ms, .before = (int32_t)a->desired, .desired = (int32_t)a->wanted};
    snprintf(d.reason, sizeof d.reason, "%s", a->reason);
    past_decide(m->past, a->tenant, a->name, &d);
    log_info("scale", a->tenant, NULL, "app %s: %lld -> %lld instances: %s", a->name, (long long)a->desired, (long long)a->wanted,
             a->reason);
}

void orders_answered(struct monitor *m, const bson_t *answer)
{
    const char *app = json_get_str(answer, "app", NULL);
    struct app *a = app ? monitor_app(m, json_get_str(answer, "tenant_id", ""), app) : NULL;
    if (!a)
        return;
    const char *why = json_get_str(answer, "error", NULL);
    if (why && (!a->refusal || strcmp(a->refusal, why)))
        log_warn("order_refused", a->tenant, NULL, "app %s: streammgr does not follow the order: %s", a->name, why);
    xstr_set(&a->refusal, why);
}

void orders_lost(struct monitor *m)
{
    size_t i = 0;
    for (struct app *a; (a = map_next(&m->apps, &i));)
        xstr_set(&a->refusal, NULL);
}

/* Whose count is not ours to decide. */
static const char *why_not(const struct monitor *m, const struct app *a)
{
    if (!*a->conf->exec)
        return "its instances are not the platform's";
    if (!m->epoch || !follow_is_fresh(m, a->managed_ms))
        return "streammgr does not answer: the count holds";
    if (a->pinned)
        return "set by command; `mysimbdp app scale TENANT/APP auto` gives it back";
    if (a->blocked)
        return a->why;
    return NULL;
}

void orders_decide(struct monitor *m, struct app *a)
{
    struct scale_settings s = settings_of(a->conf);
    struct scale_input in;
    const char *why = why_not(m, a);
    if (why) {
        a->wanted = a->desired;
        if (a->pinned)
            a->ordered = -1; /* the next order is another decision, also if it is for the same count */
        xstr_set(&a->reason, why);
        return;
    }
    scale_adopt(&s, &a->memory, (double)m->now_ms / 1000, a->desired); /* what is in force, whoever asked for it */
    gather(m, a, &in);
    struct scale_decision d = scale_decide(&s, &a->memory, &in);
    a->wanted = d.desired;
    xstr_set(&a->reason, d.reason);
    a->decided_wall_ms = m->wall_ms;
    log_debug(
        "decide", a->tenant, NULL,
        "app %s: in %.1f ready %.0f leased %.0f mu %.3f by %.2f instances %lld of %lld: settled %.1f, best %.2f, all busy for "
        "%.1f s, ceiling %lld -> %lld: %s",
        a->name, in.ingress_per_s, in.ready, in.leased, in.acks_per_busy_s, a->memory.trust, (long long)in.instances,
        (long long)a->desired, a->memory.settled, a->memory.best, a->memory.full_s, (long long)a->memory.ceiling,
        (long long)d.desired, d.reason);
    record(m, a, &s, &in);
    if (a->wanted == a->desired)
        a->ordered = -1;
    else if (!(a->desired == 0 && !a->conf->on_demand))
        order(m, a);
}
