/* simbdp-webhook: tells webhooks of alerts, for the monitor's keeper, and collectors of OpenTelemetry's what another keeper
 * exports. It talks to hosts that are not ours, so it is a user of its own, has no capabilities and knows no more than what it is
 * told. Packets on stdin, JSON objects, which only the keeper sends:
 *   {"op":"webhook",name,url,ca_pem,secret,group_s,alive_s,timeout_s,retry_s}   one of them, anew or changed; secret: hex digits
 *       kind: "traces", "metrics" or "logs": a collector's, which is sent items of OTLP in place of alerts; resource (its JSON
 *       object), headers (lines) and gzip go with it
 *   {"op":"configured"}                   those that did not come since the last of these are taken out
 *   {"op":"alert",webhook,group,text,n}   text: the alert's JSON object, or those of n items
 *   {"op":"alive"}                        all is well now
 *   {"op":"log"} and a descriptor         where the log goes from here on
 *   {"op":"end"}                          what is under way may end yet, for a second; then it ends
 * Of webhooks nothing is answered. Of each collector it says, when that has changed, what became of all items that it got:
 *   {"collector":name,"told":N,"rejected":N,"dropped":N,"error":TEXT}   error: why they cannot be told now, or null
 * It ends with the keeper, and what it could not tell until then is counted in the log. */
#include "calls.h"
#include "post.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "sandbox/confine.h"

#include <errno.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { MAX_PACKET = 256 << 10, MAX_WAIT_MS = 60000, SAY_MS = 60000, MAX_SECRET = 4096, END_MS = 1000, AGAIN_MS = 500 };

extern char **environ;

struct hook {
    struct hook *next;
    char *name;
    enum calls_kind kind;
    struct calls *calls;
    struct post *post;
    bool seen, failing;      /* failing: its last call failed, which was said */
    int64_t n_said, said_ms; /* of the dropped */
    char *error;             /* NULL: there is none now */
    bool reported, error_reported;
    struct calls_counts last; /* that the keeper was told of */
};

struct program {
    CURLM *multi;
    struct hook *hooks;
    int64_t end_ms; /* when it ends; 0: nobody said so */
};

/* ---- webhooks ---- */

static struct hook *find(const struct program *g, const char *name)
{
    struct hook *h = g->hooks;
    while (h && strcmp(h->name, name) != 0)
        h = h->next;
    return h;
}

static void hook_free(struct hook *h)
{
    post_free(h->post);
    calls_free(h->calls);
    free(h->name);
    free(h->error);
    free(h);
}

/* At most once a minute for each, and at its end. */
static void say_dropped(struct hook *h, int64_t now_ms, bool now)
{
    int64_t n = calls_n_dropped(h->calls);
    if (n == h->n_said || (!now && h->said_ms && now_ms - h->said_ms < SAY_MS))
        return;
    log_error("webhook_dropped", NULL, NULL, "webhook %s: %lld %s could not be told and were dropped, %lld since it began", h->name,
              (long long)(n - h->n_said), calls_kind_name(h->kind), (long long)n);
    h->n_said = n;
    h->said_ms = now_ms;
}

static void remove_hook(struct hook *h, const char *why)
{
    int64_t waiting = calls_n_waiting(h->calls);
    say_dropped(h, clk_now_ms(), true);
    if (waiting)
        log_warn("webhook_dropped", NULL, NULL, "webhook %s %s: %lld %s that waited are not told", h->name, why, (long long)waiting,
                 calls_kind_name(h->kind));
    hook_free(h);
}

static void set_hook(struct program *g, const bson_t *doc)
{
    const char *name = json_get_str(doc, "name", ""), *hex = json_get_str(doc, "secret", "");
    unsigned char secret[MAX_SECRET];
    size_t n_secret = 0;
    struct hook *h = find(g, name);
    if (sodium_hex2bin(secret, sizeof secret, hex, strlen(hex), NULL, &n_secret, NULL) < 0)
        return;
    if (!h) {
        h = xcalloc(1, sizeof *h);
        *h = (struct hook){.next = g->hooks, .name = xstrdup(name), .calls = calls_new(name), .post = post_new(g->multi)};
        g->hooks = h;
    }
    h->seen = true;
    if (calls_kind_of(json_get_str(doc, "kind", ""), &h->kind) < 0)
        h->kind = CALLS_OF_alerts;
    calls_set(h->calls,
              &(struct calls_settings){json_get_i64(doc, "group_s", 0) * 1000, json_get_i64(doc, "alive_s", 0) * 1000,
                                       json_get_i64(doc, "retry_s", 0) * 1000, h->kind, json_get_str(doc, "resource", NULL)});
    int r = post_set(h->post, &(struct post_settings){.url = json_get_str(doc, "url", ""),
                                                      .ca_pem = json_get_str(doc, "ca_pem", ""),
                                                      .secret = secret,
                                                      .n_secret = n_secret,
                                                      .timeout_s = (long)json_get_i64(doc, "timeout_s", 10),
                                                      .otlp = h->kind != CALLS_OF_alerts,
                                                      .headers = json_get_str(doc, "headers", ""),
                                                      .gzip = json_get_bool(doc, "gzip", false)});
    if (r < 0)
        log_error("webhook", NULL, NULL, "webhook %s: its ca_file cannot be kept: %s", name, err_text(r));
    sodium_memzero(secret, sizeof secret);
}

static void remove_unseen(struct program *g)
{
    for (struct hook **at = &g->hooks, *h; (h = *at);) {
        if (h->seen) {
            h->seen = false;
            at = &h->next;
        } else {
            *at = h->next;
            remove_hook(h, "is not configured any more");
        }
    }
}

/* ---- calls ---- */

/* What a client's mistake is will be one when it is made again, but for those that ask to try later. OTLP says of a few only that
 * they may be repeated (opentelemetry.io/docs/specs/otlp, Retryable Response Codes). */
static enum calls_outcome outcome_of(enum calls_kind k, long status)
{
    if (status >= 200 && status < 300)
        return CALLS_TOLD;
    bool again = k == CALLS_OF_alerts ? !status || status >= 500 || status == 408 || status == 425 || status == 429
                                      : !status || status == 429 || (status >= 502 && status <= 504);
    return again ? CALLS_AGAIN : CALLS_REFUSED;
}

static void say_outcome(struct hook *h, enum calls_outcome o, long status, const char *why)
{
    AUTO_FREE char *answer = status ? xasprintf("it answered %ld", status) : xstrdup(why);
    if (o == CALLS_REFUSED)
        log_error("webhook", NULL, NULL, "webhook %s refuses a call, which is not repeated: %s", h->name, answer);
    else if (o == CALLS_AGAIN && !h->failing)
        log_warn("webhook", NULL, NULL, "webhook %s cannot be told: %s; it is tried again", h->name, answer);
    else if (o == CALLS_TOLD && h->failing)
        log_info("webhook", NULL, NULL, "webhook %s can be told again", h->name);
    h->failing = o == CALLS_AGAIN;
    const char *error = o == CALLS_TOLD ? NULL : answer;
    if (!error != !h->error || (error && strcmp(error, h->error) != 0))
        h->error_reported = false;
    xstr_set(&h->error, error);
}

/* A number, or the text of one. */
static int64_t count_of(const bson_t *doc, const char *key)
{
    const char *text = json_get_str(doc, key, NULL);
    return text ? strtoll(text, NULL, 10) : json_get_i64(doc, key, 0);
}

/* What a collector took of a call that it took: all, unless it says otherwise (partial success). */
static void see_answer(struct hook *h)
{
    static const char *const fields[N_CALLS_KINDS] = {
        [CALLS_OF_traces] = "rejectedSpans", [CALLS_OF_metrics] = "rejectedDataPoints", [CALLS_OF_logs] = "rejectedLogRecords"};
    const struct buf *text = post_answer(h->post);
    bson_iter_t it;
    bson_t part;
    AUTO_BSON bson_t *doc = fields[h->kind] && text->n ? json_parse(text->p, text->n, NULL) : NULL;
    if (!doc || !bson_iter_init_find(&it, doc, "partialSuccess") || !json_iter_doc(&it, &part))
        return;
    int64_t n = count_of(&part, fields[h->kind]);
    const char *why = json_get_str(&part, "errorMessage", "");
    calls_rejected(h->calls, n);
    if (n > 0 || *why)
        log_warn("webhook", NULL, NULL, "%s did not take %lld %s, which are not repeated: %.200s", h->name, (long long)n,
                 calls_kind_name(h->kind), why);
}

static void begin(struct hook *h)
{
    char id[33];
    AUTO_BUF struct buf body = {0};
    int64_t now_ms = clk_now_ms(), wall_ms = clk_wall_ms();
    if (calls_next(h->calls, now_ms, wall_ms, &body, id) && post_begin(h->post, &body, id, wall_ms / 1000) < 0) {
        log_warn("webhook", NULL, NULL, "webhook %s cannot be called: libcurl has no connection to give; it is tried again",
                 h->name);
        calls_done(h->calls, now_ms, CALLS_AGAIN, 0, randombytes_random());
    }
    say_dropped(h, now_ms, false);
}

static void end(struct program *g, CURL *easy, CURLcode code)
{
    struct hook *h = g->hooks;
    const char *why;
    int64_t ask_ms;
    while (h && !post_is(h->post, easy))
        h = h->next;
    if (!h)
        return;
    long status = post_end(h->post, code, &why, &ask_ms);
    enum calls_outcome o = outcome_of(h->kind, status);
    say_outcome(h, o, status, why);
    if (o == CALLS_TOLD)
        see_answer(h);
    calls_done(h->calls, clk_now_ms(), o, ask_ms, randombytes_random());
    say_dropped(h, clk_now_ms(), false);
}

/* ---- packets ---- */

/* What the keeper does not take now it is told later: false. */
static bool report(struct hook *h)
{
    const struct calls_counts n = calls_counts(h->calls);
    AUTO_BUF struct buf b = {0};
    if (h->kind == CALLS_OF_alerts || (h->reported && h->error_reported && !memcmp(&n, &h->last, sizeof n)))
        return true;
    json_begin(&b, NULL, '{');
    json_str(&b, "collector", h->name);
    json_i64(&b, "told", n.told);
    json_i64(&b, "rejected", n.rejected);
    json_i64(&b, "dropped", n.dropped);
    json_str(&b, "error", h->error);
    json_end(&b, '}');
    if (send(STDIN_FILENO, b.p, b.n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return false;
    h->reported = h->error_reported = true;
    h->last = n;
    return true;
}

static bool report_all(const struct program *g)
{
    bool all = true;
    for (struct hook *h = g->hooks; h; h = h->next)
        all &= report(h);
    return all;
}

static void obey(struct program *g, const bson_t *doc, int fd)
{
    const char *op = json_get_str(doc, "op", "");
    struct hook *h = find(g, json_get_str(doc, "webhook", ""));
    if (!strcmp(op, "webhook"))
        set_hook(g, doc);
    else if (!strcmp(op, "configured"))
        remove_unseen(g);
    else if (!strcmp(op, "alert") && h)
        calls_add(h->calls, clk_now_ms(), json_get_str(doc, "group", ""), json_get_str(doc, "text", "{}"),
                  json_get_i64(doc, "n", 1));
    else if (!strcmp(op, "alive"))
        for (h = g->hooks; h; h = h->next)
            calls_alive(h->calls, clk_now_ms());
    else if (!strcmp(op, "end"))
        g->end_ms = clk_now_ms() + END_MS;
    else if (!strcmp(op, "log") && fd >= 0)
        dup2(fd, STDERR_FILENO);
}

/* False: the keeper is gone. */
static bool read_packets(struct program *g)
{
    static char text[MAX_PACKET];
    for (;;) {
        struct err e = {0};
        AUTO_FD int fd = -1;
        size_t n_fds = 0;
        ssize_t n = fd_recv(STDIN_FILENO, text, sizeof text, &fd, 1, &n_fds);
        if (n == -EAGAIN)
            return true;
        if (n <= 0)
            return false;
        AUTO_BSON bson_t *doc = json_parse(text, (size_t)n, &e);
        if (doc)
            obey(g, doc, fd);
        sodium_memzero(text, (size_t)n); /* may have a secret */
    }
}

/* ---- life ---- */

static int wait_ms(const struct program *g, bool all_reported)
{
    int64_t now_ms = clk_now_ms(), due_ms = now_ms + (all_reported ? MAX_WAIT_MS : AGAIN_MS);
    if (g->end_ms)
        due_ms = g->end_ms;
    for (const struct hook *h = g->hooks; h; h = h->next) {
        int64_t at_ms = calls_due_ms(h->calls, now_ms);
        due_ms = at_ms < due_ms ? at_ms : due_ms;
    }
    return due_ms > now_ms ? (int)(due_ms - now_ms) : 0;
}

static bool is_under_way(const struct program *g)
{
    for (const struct hook *h = g->hooks; h; h = h->next)
        if (calls_is_under_way(h->calls))
            return true;
    return false;
}

static void run(struct program *g)
{
    for (bool goes_on = true; goes_on;) {
        struct curl_waitfd keeper = {.fd = STDIN_FILENO, .events = CURL_WAIT_POLLIN};
        int running, left;
        for (struct hook *h = g->hooks; h && !g->end_ms; h = h->next)
            begin(h);
        curl_multi_perform(g->multi, &running);
        for (CURLMsg *m; (m = curl_multi_info_read(g->multi, &left));)
            if (m->msg == CURLMSG_DONE)
                end(g, m->easy_handle, m->data.result);
        bool reported = report_all(g);
        if (g->end_ms && (!is_under_way(g) || clk_now_ms() >= g->end_ms))
            break;
        curl_multi_poll(g->multi, &keeper, 1, wait_ms(g, reported), NULL);
        goes_on = read_packets(g);
    }
}

/* Of the keeper's environment it needs the proxies alone; the rest may hold secrets (MONGO_URL). */
static void forget_environment(void)
{
    for (char **v = environ; v && *v; v++) {
        char *value = strchr(*v, '=');
        size_t n = value ? (size_t)(value - *v) : 0;
        if (value && (n < 6 || strncasecmp(value - 6, "_proxy", 6) != 0))
            sodium_memzero(value + 1, strlen(value + 1));
    }
}

static const char usage[] =
    "usage: simbdp-webhook --home HOME --uid=UID      HOME names it, it reads nothing there; -1: it stays who it is\n"
    "stdin: the socket of a keeper of the monitor's, which starts it, and with which it ends.\n";

int main(int argc, char **argv)
{
    struct program g = {0};
    log_init("webhook");
    if (argc == 2 && !strcmp(argv[1], "--help"))
        return fputs(usage, stdout) < 0;
    if (argc != 4 || strcmp(argv[1], "--home") != 0 || strncmp(argv[3], "--uid=", 6) != 0)
        return fputs(usage, stderr), 2;
    signal(SIGPIPE, SIG_IGN);
    forget_environment();
    int64_t uid = strtoll(argv[3] + 6, NULL, 10);
    const char *const writable[] = {"/dev/null"};
    int r = sodium_init() < 0 || curl_global_init(CURL_GLOBAL_DEFAULT) || !(g.multi = curl_multi_init())
                ? -ENOMEM
                : confine_program(&(struct confinement){uid >= 0, uid, -1, writable, 1});
    if (r < 0)
        return log_error("start", NULL, NULL, "cannot give up rights: %s", err_text(r)), 1;
    fd_set_nonblock(STDIN_FILENO);
    run(&g);
    while (g.hooks) {
        struct hook *h = g.hooks;
        g.hooks = h->next;
        remove_hook(h, "ends with the monitor");
    }
    curl_multi_cleanup(g.multi);
    curl_global_cleanup();
    return 0;
}
