#include "alert_calls.h"
#include "alert_commands.h"
#include "traces.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "host/silences.h"
#include "host/uid_block.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum {
    MAX_SECRET = 4096,
    MAX_PEM = 48 << 10,
    SAY_MS = 60000,
    FOLLOW_MS = 900,
    MAX_SPANS = 100,
    MAX_SPANS_BYTES = 48 << 10,
    SEND_BYTES = 8 << 20
};

#define COLLECTOR "otlp collector" /* no webhook can have that name */

/* An alert that fires. */
struct firing {
    char *name, *command, *webhook, *group, *tenant, *app, *json;
    bool told;
};

struct alert_calls {
    const struct home *home;
    struct alert_commands *commands;
    struct map firing; /* "alert/tenant/app" -> struct firing */
    size_t n_silenced; /* of them, that are not told */
    /* simbdp-webhook, when there are webhooks; fd -1: it does not run. */
    int fd;
    pid_t pid;
    int64_t uid, started_ms, followed_ms;
    struct buf spans; /* that are sent next, with commas between them */
    int64_t n_spans;
    struct traces *traces; /* NULL: there is no collector */
    char **webhooks;       /* packets that tell it what is configured: for the next one when it ends */
    size_t n_webhooks;
    int64_t n_lost, n_said, said_ms; /* packets that it did not take */
};

struct alert_calls *alert_calls_new(const struct home *h)
{
    struct alert_calls *a = xcalloc(1, sizeof *a);
    *a = (struct alert_calls){.home = h, .commands = alert_commands_new(), .fd = -1, .uid = -1};
    return a;
}

/* ---- simbdp-webhook ---- */

static void say_lost(struct alert_calls *a)
{
    int64_t now_ms = clk_now_ms();
    if (a->n_lost == a->n_said || (a->said_ms && now_ms - a->said_ms < SAY_MS))
        return;
    log_error("webhook_dropped", NULL, NULL,
              "simbdp-webhook did not take %lld alerts or spans, which are dropped; %lld since it was started",
              (long long)(a->n_lost - a->n_said), (long long)a->n_lost);
    a->n_said = a->n_lost;
    a->said_ms = now_ms;
}

/* Never waits: one that hangs loses packets. */
static bool send_packet(struct alert_calls *a, const char *text)
{
    return a->fd >= 0 && send(a->fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

static void send_webhooks(struct alert_calls *a)
{
    bool sent = true;
    for (size_t i = 0; i < a->n_webhooks; i++)
        sent &= send_packet(a, a->webhooks[i]);
    if (!send_packet(a, "{\"op\":\"configured\"}") || !sent)
        log_error("webhook", NULL, NULL, "simbdp-webhook did not take its configuration; `mysimbdp reload` tries again");
}

static void start_webhook(struct alert_calls *a)
{
    AUTO_FREE char *program = home_program(a->home, "simbdp-webhook"), *uid = xasprintf("--uid=%lld", (long long)a->uid);
    char *argv[] = {program, "--home", a->home->path, uid, NULL};
    struct err e = {0};
    a->started_ms = clk_now_ms();
    if (spawn_partner(argv, &a->fd, &a->pid, &e) < 0) {
        a->fd = -1;
        log_error("webhook", NULL, NULL, "%s; webhooks are not told until it can be started", e.msg);
        return;
    }
    int room = SEND_BYTES; /* spans of a busy second */
    if (setsockopt(a->fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room) < 0)
        setsockopt(a->fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
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

/* As hex digits, without the line's end. */
static int add_secret(struct alert_calls *a, const char *path, struct buf *out, struct err *e)
{
    AUTO_BUF struct buf secret = {0};
    AUTO_FREE char *hex = NULL;
    int r = *path ? fd_read_file(a->home->dirfd, path, &secret, MAX_SECRET, e) : 0;
    while (secret.n && (secret.p[secret.n - 1] == '\n' || secret.p[secret.n - 1] == '\r'))
        secret.n--;
    if (r == 0 && *path && !secret.n)
        r = err_set(e, ERR_CONFIG, "%s is empty", path);
    hex = xcalloc(2, secret.n + 1);
    for (size_t i = 0; i < secret.n; i++)
        sprintf(hex + 2 * i, "%02x", (unsigned char)secret.p[i]);
    json_str(out, "secret", hex);
    explicit_bzero(hex, 2 * secret.n);
    if (secret.p)
        explicit_bzero(secret.p, secret.n);
    return r;
}

/* One whose secret cannot be read is not called: unsigned calls would be taken for a forger's. */
static void add_webhook(struct alert_calls *a, const struct conf_webhook *w)
{
    AUTO_BUF struct buf out = {0}, pem = {0};
    struct err e = {0};
    json_begin(&out, NULL, '{');
    json_str(&out, "op", "webhook");
    json_str(&out, "name", w->name);
    json_str(&out, "url", w->url);
    json_i64(&out, "group_s", w->group_s);
    json_i64(&out, "alive_s", w->alive_s);
    json_i64(&out, "timeout_s", w->timeout_s);
    json_i64(&out, "retry_s", w->retry_s);
    json_bool(&out, "spans", !strcmp(w->name, COLLECTOR));
    int r = add_secret(a, w->secret_file, &out, &e);
    if (r == 0 && *w->ca_file)
        r = fd_read_file(a->home->dirfd, w->ca_file, &pem, MAX_PEM, &e);
    json_str(&out, "ca_pem", pem.p ? pem.p : "");
    json_end(&out, '}');
    if (r < 0) {
        log_error("webhook", NULL, NULL, "webhook %s: %s; it is not called. `mysimbdp reload` reads it again", w->name, e.msg);
        return;
    }
    a->webhooks = xgrow(a->webhooks, a->n_webhooks, sizeof *a->webhooks);
    a->webhooks[a->n_webhooks++] = out.p;
    out = (struct buf){0};
}

/* The collector of traces is one more of them. Spans wait a second for each other. */
static void add_collector(struct alert_calls *a, const struct conf *c)
{
    const char *base = c->platform.otlp.url;
    size_t n = strlen(base);
    AUTO_FREE char *url = xasprintf("%.*s/v1/traces", (int)(n && base[n - 1] == '/' ? n - 1 : n), base);
    if (n)
        add_webhook(a, &(struct conf_webhook){.name = COLLECTOR,
                                              .url = url,
                                              .secret_file = "",
                                              .ca_file = c->platform.otlp.ca_file,
                                              .group_s = 1,
                                              .timeout_s = 10,
                                              .retry_s = 300});
    if (n && !a->traces)
        a->traces = traces_new(a->home);
    if (!n) {
        traces_free(a->traces);
        a->traces = NULL;
    }
}

void alert_calls_set_conf(struct alert_calls *a, const struct conf *c)
{
    const struct conf_webhook *v = c->platform.webhooks.v;
    forget_webhooks(a);
    for (size_t i = 0; i < c->platform.webhooks.n; i++)
        add_webhook(a, &v[i]);
    add_collector(a, c);
    a->uid = uid_of_program(a->home, c->platform.uid_base, UID_WEBHOOK);
    if (a->n_webhooks && a->fd < 0)
        start_webhook(a);
    if (a->fd >= 0)
        send_webhooks(a);
}

void alert_calls_set_log(struct alert_calls *a, int fd)
{
    if (a->fd >= 0 && fd_send(a->fd, "{\"op\":\"log\"}", strlen("{\"op\":\"log\"}"), &fd, 1) < 0)
        log_debug("webhook", NULL, NULL, "simbdp-webhook is ending");
}

void alert_calls_alive(struct alert_calls *a)
{
    send_packet(a, "{\"op\":\"alive\"}");
}

static void call_webhook(struct alert_calls *a, const char *webhook, const char *group, const char *json, int64_t n)
{
    AUTO_BUF struct buf out = {0};
    json_begin(&out, NULL, '{');
    json_str(&out, "op", "alert");
    json_str(&out, "webhook", webhook);
    json_str(&out, "group", group);
    json_str(&out, "text", json);
    json_i64(&out, "n", n);
    json_end(&out, '}');
    a->n_lost += send_packet(a, out.p) ? 0 : n;
    say_lost(a);
}

static void flush_spans(struct alert_calls *a)
{
    if (a->n_spans)
        call_webhook(a, COLLECTOR, "spans", a->spans.p, a->n_spans);
    buf_reset(&a->spans);
    a->n_spans = 0;
}

static void on_span(void *arg, const char *json)
{
    struct alert_calls *a = arg;
    if (a->n_spans && (a->n_spans == MAX_SPANS || a->spans.n + strlen(json) > MAX_SPANS_BYTES))
        flush_spans(a);
    buf_adds(&a->spans, a->n_spans++ ? "," : "");
    buf_adds(&a->spans, json);
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
        call_webhook(a, f->webhook, f->group, json, 1);
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
    if (a->fd >= 0 && waitpid(a->pid, NULL, WNOHANG) == a->pid) {
        log_error("webhook", NULL, NULL, "simbdp-webhook ended; it is started again, and what fires is told once more");
        close(a->fd);
        a->fd = -1;
    }
    if (a->fd >= 0 || !a->n_webhooks || clk_now_ms() - a->started_ms < AGAIN_MS)
        return;
    start_webhook(a);
    if (a->fd < 0)
        return;
    send_webhooks(a);
    for (struct firing *f; (f = map_next(&a->firing, &i));)
        if (f->told && *f->webhook)
            call_webhook(a, f->webhook, f->group, f->json, 1);
}

void alert_calls_tick(struct alert_calls *a)
{
    alert_commands_reap(a->commands);
    see_webhook_end(a);
    if (a->traces && clk_now_ms() - a->followed_ms >= FOLLOW_MS) {
        a->followed_ms = clk_now_ms();
        traces_follow(a->traces, on_span, a);
        flush_spans(a);
    }
    if (a->n_silenced)
        tell_unsilenced(a);
}

bool alert_calls_need_tick(const struct alert_calls *a)
{
    return a->traces || a->n_silenced || (a->n_webhooks && a->fd < 0) || alert_commands_are_going(a->commands);
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
    traces_free(a->traces);
    buf_fini(&a->spans);
    if (a->fd >= 0)
        spawn_part(a->fd, a->pid);
    alert_commands_free(a->commands);
    free(a);
}
