/* Alerts: conditions over the board's columns. One that begins or ends is logged, and the keeper is told, which knows commands,
 * webhooks and silences. */
#include "monitor.h"

#include "base/log.h"
#include "base/mem.h"
#include "host/tenant_events.h"

#include <string.h>

/* The tenant hears of it without its condition, which is the provider's. */
static void tell_tenant(struct monitor *m, const struct alert *al, const struct app *a, bool firing, int64_t since_ms)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_time(&b, "ts", m->wall_ms);
    json_str(&b, "event", tenant_event_name(firing ? EVENT_alert_firing : EVENT_alert_over));
    json_str(&b, "tenant_id", a->tenant);
    json_str(&b, "app", a->name);
    json_str(&b, "alert", al->name);
    json_time(&b, "since", m->wall_ms - (m->now_ms - since_ms));
    json_end(&b, '}');
    buf_adds(&b, "\n");
    int r = keeper_log(m->keeper, a->tenant, b.p, b.n);
    if (r < 0)
        log_error("journal", a->tenant, NULL, "cannot tell the tenant of alert %s: %s", al->name, err_text(r));
}

/* over: why it is; NULL: it begins. */
static void tell(struct monitor *m, const struct alert *al, const struct app *a, const char *over, int64_t since_ms)
{
    AUTO_BUF struct buf b = {0};
    bool firing = !over;
    log_line(firing ? LOG_LEVEL_WARN : LOG_LEVEL_INFO, firing ? "alert" : "alert_over", a->tenant, NULL, "app %s: %s: %s%s%s%s%s",
             a->name, al->name, al->when, firing ? "" : " ", firing ? "" : over, firing && al->runbook_url ? "; see " : "",
             firing && al->runbook_url ? al->runbook_url : "");
    json_begin(&b, NULL, '{');
    json_str(&b, "alert", al->name);
    json_str(&b, "state", firing ? "firing" : "over");
    json_time(&b, "at", m->wall_ms);
    json_time(&b, "since", m->wall_ms - (m->now_ms - since_ms));
    json_str(&b, "when", al->when);
    json_str(&b, "runbook_url", al->runbook_url);
    json_str(&b, "tenant_id", a->tenant);
    json_str(&b, "app", a->name);
    json_begin(&b, "rows", '[');
    board_add(m, a, &b);
    json_end(&b, ']');
    json_end(&b, '}');
    buf_adds(&b, "\n");
    tell_tenant(m, al, a, firing, since_ms);
    int r = al->index < 0 ? 0 : keeper_alert(m->keeper, al->generation, (size_t)al->index, b.p);
    if (r < 0)
        log_error("alert_command", NULL, NULL, "alert %s: its command and webhook cannot be asked for: %s", al->name, err_text(r));
}

void alerts_look(struct monitor *m, struct app *a, const struct metric_row *row)
{
    for (size_t i = 0; i < m->n_alerts; i++) {
        struct alarm *s = &a->alarms[i];
        bool holds = expr_holds(m->alerts[i].x, row);
        int64_t since = s->since_ms;
        s->since_ms = !holds ? 0 : since ? since : m->now_ms;
        bool firing = holds && m->now_ms - s->since_ms >= m->alerts[i].for_ms;
        if (firing == s->firing)
            continue;
        s->firing = firing;
        a->n_firing += firing ? 1 : (size_t)-1;
        tell(m, &m->alerts[i], a, firing ? NULL : "no longer holds", firing ? s->since_ms : since);
    }
}

static bool is_same(const struct alert *a, const struct alert *b)
{
    return !strcmp(a->name, b->name) && !strcmp(a->when, b->when);
}

/* Those that fire and are not among `next`: who was told of them is told that they are over. */
static void end(struct monitor *m, struct app *a, const struct alert *next, size_t n, const char *why)
{
    for (size_t k = 0; a->alarms && k < m->n_alerts; k++) {
        bool stays = !a->alarms[k].firing;
        for (size_t i = 0; i < n && !stays; i++)
            stays = is_same(&next[i], &m->alerts[k]);
        if (!stays)
            tell(m, &m->alerts[k], a, why, a->alarms[k].since_ms);
    }
}

void alerts_app_gone(struct monitor *m, struct app *a)
{
    end(m, a, NULL, 0, "is over: the app is gone");
}

/* All is well: this loop turns, and those who do the work answer it. */
void alerts_alive(struct monitor *m)
{
    if (m->wants_alive && follow_is_fresh(m, m->broker_ms) && follow_is_fresh(m, m->streammgr_ms) &&
        follow_is_fresh(m, m->batchmgr_ms))
        keeper_alive(m->keeper);
}

static void release(struct alert *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(v[i].name);
        free(v[i].when);
        free(v[i].runbook_url);
        expr_free(v[i].x);
    }
    free(v);
}

static int add(const struct monitor *m, struct alert *al, const char *name, const char *when, int64_t for_s, struct err *e)
{
    const char *url = conf_runbook_url(m->conf, name);
    *al = (struct alert){.name = xstrdup(name), .when = xstrdup(when), .for_ms = for_s * 1000, .index = -1};
    al->runbook_url = url ? xstrdup(url) : NULL;
    return expr_parse(when, &al->x, e);
}

/* Where each app's alarms stand goes over to the alert of the same name and condition. */
static void carry_over(struct monitor *m, const struct alert *next, size_t n)
{
    size_t at = 0;
    for (struct app *a; (a = map_next(&m->apps, &at));) {
        struct alarm *alarms = xcalloc(n, sizeof *alarms);
        end(m, a, next, n, "is over: it is not configured any more");
        a->n_firing = 0;
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; a->alarms && k < m->n_alerts; k++)
                if (is_same(&next[i], &m->alerts[k]))
                    alarms[i] = a->alarms[k];
        for (size_t i = 0; i < n; i++)
            a->n_firing += alarms[i].firing;
        free(a->alarms);
        a->alarms = alarms;
    }
}

int alerts_set(struct monitor *m, struct err *e)
{
    const struct conf_alert *c = m->conf->platform.alerts.v;
    size_t n = m->conf->platform.alerts.n, k = 0;
    struct alert *v = xcalloc(n + 1, sizeof *v);
    bool has_silence = false;
    int r = 0;
    for (; r == 0 && k < n; k++) {
        has_silence |= !strcmp(c[k].name, CONF_ALERT_SILENCE);
        r = add(m, &v[k], c[k].name, c[k].when, c[k].for_s, e);
        v[k].index = (int64_t)k;
        v[k].generation = keeper_generation(m->keeper);
    }
    if (r == 0 && !has_silence)
        r = add(m, &v[k++], CONF_ALERT_SILENCE, CONF_ALERT_SILENCE_WHEN, 0, e);
    if (r < 0) {
        release(v, k);
        return r;
    }
    const struct conf_webhook *w = m->conf->platform.webhooks.v;
    m->wants_alive = false;
    for (size_t i = 0; i < m->conf->platform.webhooks.n; i++)
        m->wants_alive |= w[i].alive_s > 0;
    carry_over(m, v, k);
    release(m->alerts, m->n_alerts);
    m->alerts = v;
    m->n_alerts = k;
    return 0;
}

void alerts_add(const struct monitor *m, struct buf *out)
{
    json_begin(out, "alerts", '[');
    for (size_t i = 0; i < m->n_alerts; i++) {
        json_begin(out, NULL, '{');
        json_str(out, "alert", m->alerts[i].name);
        json_str(out, "runbook_url", m->alerts[i].runbook_url);
        json_end(out, '}');
    }
    json_end(out, ']');
}

void alerts_free(struct monitor *m)
{
    release(m->alerts, m->n_alerts);
}
