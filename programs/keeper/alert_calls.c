#include "alert_calls.h"
#include "alert_commands.h"
#include "sender.h"

#include "base/clk.h"
#include "base/json.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "host/silences.h"
#include "host/uid_block.h"

#include <stdio.h>
#include <string.h>

enum { SAY_MS = 60000 };

/* An alert that fires. */
struct firing {
    char *name, *command, *webhook, *group, *tenant, *app, *json;
    bool told;
};

struct alert_calls {
    const struct home *home;
    struct alert_commands *commands;
    struct map firing;    /* "alert/tenant/app" -> struct firing */
    size_t n_silenced;    /* of them, that are not told */
    struct sender sender; /* runs when there are webhooks */
    int64_t uid, started_ms;
    char **webhooks; /* packets that tell it what is configured: for the next one when it ends */
    size_t n_webhooks;
    int64_t n_lost, n_said, said_ms; /* packets that it did not take */
};

struct alert_calls *alert_calls_new(const struct home *h)
{
    struct alert_calls *a = xcalloc(1, sizeof *a);
    *a = (struct alert_calls){.home = h, .commands = alert_commands_new(), .sender = {.fd = -1}, .uid = -1};
    return a;
}

/* ---- simbdp-webhook ---- */

static void say_lost(struct alert_calls *a)
{
    int64_t now_ms = clk_now_ms();
    if (a->n_lost == a->n_said || (a->said_ms && now_ms - a->said_ms < SAY_MS))
        return;
    log_error("webhook_dropped", NULL, NULL,
              "simbdp-webhook did not take %lld alerts, which are dropped; %lld since it was started",
              (long long)(a->n_lost - a->n_said), (long long)a->n_lost);
    a->n_said = a->n_lost;
    a->said_ms = now_ms;
}

/* One that hangs loses packets. */
static void send_webhooks(struct alert_calls *a)
{
    bool sent = true;
    for (size_t i = 0; i < a->n_webhooks; i++)
        sent &= sender_send(&a->sender, a->webhooks[i]);
    if (!sender_send(&a->sender, "{\"op\":\"configured\"}") || !sent)
        log_error("webhook", NULL, NULL, "simbdp-webhook did not take its configuration; `mysimbdp reload` tries again");
}

static void start_webhook(struct alert_calls *a)
{
    struct err e = {0};
    a->started_ms = clk_now_ms();
    if (sender_start(&a->sender, a->home, a->uid, &e) < 0)
        log_error("webhook", NULL, NULL, "%s; webhooks are not told until it can be started", e.msg);
}

static void forget_webhooks(struct alert_calls *a)
{
    for (size_t i = 0; i < a->n_webhooks; i++) {
        explicit_bzero(a->webhooks[i], strlen(a->webhooks[i]));
        free(a->webhooks[i]);
    }
    free(a->webhooks);
    a->webhooks = NULL;
    a->n_webhooks = 0;
}

/* One whose secret cannot be read is not called: unsigned calls would be taken for a forger's. */
static void add_webhook(struct alert_calls *a, const struct conf_webhook *w)
{
    AUTO_BUF struct buf out = {0};
    struct err e = {0};
    json_begin(&out, NULL, '{');
    json_str(&out, "op", "webhook");
    json_str(&out, "name", w->name);
    json_str(&out, "url", w->url);
    json_i64(&out, "group_s", w->group_s);
    json_i64(&out, "alive_s", w->alive_s);
    json_i64(&out, "timeout_s", w->timeout_s);
    json_i64(&out, "retry_s", w->retry_s);
    int r = sender_add_secret(a->home, w->secret_file, &out, &e);
    if (r == 0)
        r = sender_add_ca(a->home, w->ca_file, &out, &e);
    json_end(&out, '}');
    if (r < 0) {
        log_error("webhook", NULL, NULL, "webhook %s: %s; it is not called. `mysimbdp reload` reads it again", w->name, e.msg);
        return;
    }
    a->webhooks = xgrow(a->webhooks, a->n_webhooks, sizeof *a->webhooks);
    a->webhooks[a->n_webhooks++] = out.p;
    out = (struct buf){0};
}

void alert_calls_set_conf(struct alert_calls *a, const struct conf *c)
{
    const struct conf_webhook *v = c->platform.webhooks.v;
    forget_webhooks(a);
    for (size_t i = 0; i < c->platform.webhooks.n; i++)
        add_webhook(a, &v[i]);
    a->uid = uid_of_program(a->home, c->platform.uid_base, UID_WEBHOOK);
    if (a->n_webhooks && a->sender.fd < 0)
        start_webhook(a);
    if (a->sender.fd >= 0)
        send_webhooks(a);
}

void alert_calls_set_log(struct alert_calls *a, int fd)
{
    sender_set_log(&a->sender, fd);
}

void alert_calls_alive(struct alert_calls *a)
{
    sender_send(&a->sender, "{\"op\":\"alive\"}");
}

static void call_webhook(struct alert_calls *a, const char *webhook, const char *group, const char *json)
{
    AUTO_BUF struct buf out = {0};
    json_begin(&out, NULL, '{');
    json_str(&out, "op", "alert");
    json_str(&out, "webhook", webhook);
    json_str(&out, "group", group);
    json_str(&out, "text", json);
    json_end(&out, '}');
    a->n_lost += !sender_send(&a->sender, out.p);
    say_lost(a);
}

/* ---- alerts ---- */

static void firing_free(struct firing *f)
{
    char *const strings[] = {f->name, f->command, f->webhook, f->group, f->tenant, f->app, f->json};
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
        free(strings[i]);
    free(f);
}

static void call(struct alert_calls *a, const struct firing *f, const char *json)
{
    if (*f->command)
        alert_commands_run(a->commands, f->name, f->command, json);
    if (*f->webhook)
        call_webhook(a, f->webhook, f->group, json);
}

static struct firing *firing_new(const struct conf_alert *al, const bson_t *doc, const char *json)
{
    struct firing *f = xcalloc(1, sizeof *f);
    *f = (struct firing){.name = xstrdup(al->name),
                         .command = xstrdup(al->command),
                         .webhook = xstrdup(al->webhook),
                         .group = xstrdup(*al->group ? al->group : al->name),
                         .tenant = xstrdup(json_get_str(doc, "tenant_id", "")),
                         .app = xstrdup(json_get_str(doc, "app", "")),
                         .json = xstrdup(json)};
    return f;
}

/* A file that cannot be read silences nothing. */
static void read_silences(struct alert_calls *a, struct silence **ret, size_t *ret_n)
{
    struct err e = {0};
    *ret = NULL;
    *ret_n = 0;
    if (silences_read(a->home, clk_wall_ms(), ret, ret_n, &e) < 0)
        log_error("silence", NULL, NULL, "%s", e.msg);
}

static void begin(struct alert_calls *a, struct firing *f)
{
    struct silence *v;
    size_t n;
    read_silences(a, &v, &n);
    const struct silence *s = silences_find(v, n, f->tenant, f->app, f->name);
    if (s)
        log_info("alert_silenced", f->tenant, NULL, "app %s: %s: nobody is told, because of silence %s", f->app, f->name, s->id);
    else
        call(a, f, f->json);
    f->told = !s;
    a->n_silenced += !f->told;
    silences_free(v, n);
}

void alert_calls_tell(struct alert_calls *a, const struct conf_alert *al, const char *json)
{
    AUTO_BSON bson_t *doc = json_parse(json, strlen(json), NULL);
    if (!doc || !(*al->command || *al->webhook))
        return;
    struct firing *f = firing_new(al, doc, json);
    AUTO_FREE char *key = xasprintf("%s/%s/%s", f->name, f->tenant, f->app);
    struct firing *before = map_remove(&a->firing, key);
    bool over = !strcmp(json_get_str(doc, "state", ""), "over");
    if (before && !before->told)
        a->n_silenced--;
    if (over && (!before || before->told))
        call(a, f, json);
    if (over) {
        firing_free(f);
    } else {
        begin(a, f);
        map_put(&a->firing, key, f);
    }
    if (before)
        firing_free(before);
}

static void tell_unsilenced(struct alert_calls *a)
{
    struct silence *v;
    size_t n, i = 0;
    read_silences(a, &v, &n);
    for (struct firing *f; (f = map_next(&a->firing, &i));)
        if (!f->told && !silences_find(v, n, f->tenant, f->app, f->name)) {
            f->told = true;
            a->n_silenced--;
            call(a, f, f->json);
        }
    silences_free(v, n);
}

/* What it had not told yet is lost with it: what fires is told once more. */
static void see_webhook_end(struct alert_calls *a)
{
    enum { AGAIN_MS = 5000 };
    size_t i = 0;
    if (sender_has_ended(&a->sender))
        log_error("webhook", NULL, NULL, "simbdp-webhook ended; it is started again, and what fires is told once more");
    if (a->sender.fd >= 0 || !a->n_webhooks || clk_now_ms() - a->started_ms < AGAIN_MS)
        return;
    start_webhook(a);
    if (a->sender.fd < 0)
        return;
    send_webhooks(a);
    for (struct firing *f; (f = map_next(&a->firing, &i));)
        if (f->told && *f->webhook)
            call_webhook(a, f->webhook, f->group, f->json);
}

void alert_calls_tick(struct alert_calls *a)
{
    alert_commands_reap(a->commands);
    see_webhook_end(a);
    if (a->n_silenced)
        tell_unsilenced(a);
}

bool alert_calls_need_tick(const struct alert_calls *a)
{
    return a->n_silenced || (a->n_webhooks && a->sender.fd < 0) || alert_commands_are_going(a->commands);
}

void alert_calls_free(struct alert_calls *a)
{
    size_t i = 0;
    if (!a)
        return;
    for (struct firing *f; (f = map_next(&a->firing, &i));)
        firing_free(f);
    map_fini(&a->firing);
    forget_webhooks(a);
    sender_stop(&a->sender);
    alert_commands_free(a->commands);
    free(a);
}
