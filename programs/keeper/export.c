/* What goes wrong, and what becomes of it:
 *
 * - the collector is away, or slow: simbdp-webhook repeats for five minutes, then drops and counts; journals and logs are read on,
 *   slower while it takes any
 * - simbdp-webhook hangs: it is waited for once in a turn, then what it does not take is dropped and counted
 * - simbdp-webhook ends: it is started again; journals and logs are told from where was kept on
 * - this keeper is killed: likewise, by the next one; what the collector took in the last second comes again, with the same ids
 * - state/otlp.json is gone or damaged: it begins with what happens from now on
 * - nobody exports for longer than a day, or until a journal was renamed twice: what is older, or gone, is not told; lines that are
 *   too old are counted */
#include "export.h"
#include "collector.h"
#include "figures.h"
#include "follow.h"
#include "log_records.h"
#include "otlp_metrics.h"
#include "sender.h"
#include "spans.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "host/tenant_events.h"
#include "host/uid_block.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    PACKET_BYTES = 48 << 10, /* of items, in one packet */
    MAX_REPORT = 4096,
    MAX_KEPT = 64 << 20,
    AHEAD = 10000, /* items that may wait, while the collector takes any, before no more is read */
    STILL_MS = 10000,
    AGAIN_MS = 5000,
    WAIT_MS = 500,
    END_MS = 1500,
    LOG_ROOM = 64,
};

#define KEPT "state/otlp.json"
#define LOGS "logs"

enum kind { TRACES, METRICS, LOG, N_KINDS };
static const char *const names[N_KINDS] = {"traces", "metrics", "logs"};

struct counts {
    int64_t told, rejected, dropped;
};

struct signal {
    bool on;
    char *failed; /* why it is not, although it is configured; NULL */
    char *error;  /* of the sender's; NULL */
    struct buf batch;
    int64_t n_batch;
    struct counts now, before; /* of the sender that runs, and of those before it */
    int64_t given;             /* items that the one that runs took */
    int64_t moved_ms;          /* when anything became of them last */
    struct follow *follow;     /* NULL of metrics, and where it is off */
    char *pending, *kept;      /* places (follow_tell), that are kept once so many were dealt with; that were */
    int64_t pending_at;
};

struct export
{
    const struct home *home;
    struct sender sender;
    int64_t uid, started_ms, metrics_ms; /* metrics_ms: when figures were told last; 0: not yet */
    int64_t interval_ms;
    struct signal signals[N_KINDS];
    char *packets[N_KINDS]; /* that configure the sender; NULL: it is off */
    bool taken, kept_changed, stuck;
    struct figures *figures;
    struct otlp_metrics *metrics;
    struct log_records records;
};

struct export *export_new(const struct home *h)
{
    struct export *x = xcalloc(1, sizeof *x);
    *x = (struct export){.home = h, .sender = {.fd = -1}, .uid = -1, .records = {.home = h}};
    return x;
}

static bool is_on(const struct export *x)
{
    return x->packets[TRACES] || x->packets[METRICS] || x->packets[LOG];
}

static int64_t done(const struct signal *s)
{
    return s->now.told + s->now.rejected + s->now.dropped;
}

/* ---- what was told, over restarts ---- */

static void save(struct export *x)
{
    AUTO_BUF struct buf b = {0};
    struct err e = {0};
    if (!x->kept_changed)
        return;
    x->kept_changed = false;
    json_begin(&b, NULL, '{');
    json_i64(&b, "v", 1);
    for (int k = 0; k < N_KINDS; k++)
        if (x->signals[k].kept)
            json_raw(&b, names[k], x->signals[k].kept);
    json_end(&b, '}');
    if (fd_write_file(x->home->dirfd, KEPT, b.p, b.n, 0600, &e) < 0)
        log_warn("otlp", NULL, NULL, "%s; what was exported is exported again after a restart", e.msg);
}

static void keep(struct export *x, struct signal *s)
{
    free(s->kept);
    s->kept = s->pending;
    s->pending = NULL;
    x->kept_changed = true;
}

/* What was given up to now is dealt with when so many are. */
static void settle(struct export *x)
{
    for (int k = 0; k < N_KINDS; k++) {
        struct signal *s = &x->signals[k];
        AUTO_BUF struct buf places = {0};
        if (s->pending && done(s) >= s->pending_at)
            keep(x, s);
        if (!s->follow || s->pending)
            continue;
        follow_tell(s->follow, &places);
        if (s->kept && !strcmp(s->kept, places.p))
            continue;
        s->pending = xstrdup(places.p);
        s->pending_at = s->given;
        if (done(s) >= s->pending_at)
            keep(x, s);
    }
    save(x);
}

static void begin_following(struct signal *s, const struct home *h)
{
    AUTO_BSON bson_t *places = s->kept ? json_parse(s->kept, strlen(s->kept), NULL) : NULL;
    s->before.dropped += s->follow ? follow_n_old(s->follow) : 0;
    follow_free(s->follow);
    s->follow = follow_new(h);
    if (places)
        follow_take(s->follow, places);
    xstr_set(&s->pending, NULL);
}

static void stop_following(struct export *x, struct signal *s)
{
    x->kept_changed |= s->kept != NULL;
    s->before.dropped += s->follow ? follow_n_old(s->follow) : 0;
    follow_free(s->follow);
    s->follow = NULL;
    xstr_set(&s->pending, NULL);
    xstr_set(&s->kept, NULL);
}

/* What an earlier keeper kept. */
static void take_kept(struct export *x)
{
    AUTO_BUF struct buf b = {0};
    bson_iter_t it;
    bson_t places;
    x->taken = true;
    if (fd_read_file(x->home->dirfd, KEPT, &b, MAX_KEPT, NULL) < 0)
        return;
    AUTO_BSON bson_t *doc = json_parse(b.p, b.n, NULL);
    bool known = doc && json_get_i64(doc, "v", 0) == 1;
    for (int k = 0; known && k < N_KINDS; k++)
        if (bson_iter_init_find(&it, doc, names[k]) && json_iter_doc(&it, &places)) {
            AUTO_BUF struct buf text = {0};
            json_from_bson(&places, &text);
            xstr_set(&x->signals[k].kept, text.p);
        }
    if (!known)
        log_warn("otlp", NULL, NULL, KEPT " %s; what happened before now is not exported",
                 doc ? "is of another version" : "cannot be read");
}

/* ---- the sender ---- */

static void read_report(struct export *x, const char *text, size_t n)
{
    AUTO_BSON bson_t *doc = json_parse(text, n, NULL);
    const char *name = doc ? json_get_str(doc, "collector", "") : "";
    for (int k = 0; k < N_KINDS; k++) {
        struct signal *s = &x->signals[k];
        if (strncmp(name, "otlp ", 5) != 0 || strcmp(name + 5, names[k]) != 0)
            continue;
        struct counts c = {json_get_i64(doc, "told", 0), json_get_i64(doc, "rejected", 0), json_get_i64(doc, "dropped", 0)};
        if (c.told + c.rejected != s->now.told + s->now.rejected)
            s->moved_ms = clk_now_ms();
        s->now = c;
        xstr_set(&s->error, json_get_str(doc, "error", NULL));
    }
}

/* False: it has ended. */
static bool read_reports(struct export *x)
{
    char text[MAX_REPORT];
    ssize_t n = -1;
    while (x->sender.fd >= 0 && (n = recv(x->sender.fd, text, sizeof text, MSG_DONTWAIT)) > 0)
        read_report(x, text, (size_t)n);
    return n != 0;
}

/* A sender that did not run before: what another one had and did not tell is told by it, but for figures, of which there are newer
 * ones. */
static void forget_sender(struct export *x)
{
    for (int k = 0; k < N_KINDS; k++) {
        struct signal *s = &x->signals[k];
        s->before.told += s->now.told;
        s->before.rejected += s->now.rejected;
        s->before.dropped += s->now.dropped;
        if (s->follow && s->kept)
            begin_following(s, x->home);
        else
            s->before.dropped += s->given - done(s);
        s->now = (struct counts){0};
        s->given = 0;
    }
}

static void send_packets(struct export *x)
{
    bool sent = true;
    for (int k = 0; k < N_KINDS; k++)
        if (x->packets[k])
            sent &= sender_send(&x->sender, x->packets[k]);
    if (!sender_send(&x->sender, "{\"op\":\"configured\"}") || !sent)
        log_error("otlp", NULL, NULL, "simbdp-webhook did not take its configuration; `mysimbdp reload` tries again");
}

static void start_sender(struct export *x)
{
    struct err e = {0};
    x->started_ms = clk_now_ms();
    if (sender_start(&x->sender, x->home, x->uid, &e) < 0)
        log_error("otlp", NULL, NULL, "%s; nothing is exported until it can be started", e.msg);
    else
        send_packets(x);
}

/* What is under way may end; then it tells what became of it. */
static void stop_sender(struct export *x)
{
    const int64_t until_ms = clk_now_ms() + END_MS;
    if (x->sender.fd < 0)
        return;
    sender_send(&x->sender, "{\"op\":\"end\"}");
    for (int64_t left_ms; read_reports(x) && (left_ms = until_ms - clk_now_ms()) > 0;)
        poll(&(struct pollfd){x->sender.fd, POLLIN, 0}, 1, (int)left_ms);
    settle(x);
    sender_stop(&x->sender);
    forget_sender(x);
}

static void look_at_sender(struct export *x)
{
    read_reports(x);
    if (sender_has_ended(&x->sender)) {
        log_error("otlp", NULL, NULL, "simbdp-webhook ended; it is started again");
        forget_sender(x);
    }
    if (is_on(x) && x->sender.fd < 0 && clk_now_ms() - x->started_ms >= AGAIN_MS)
        start_sender(x);
}

/* ---- items ---- */

/* One that does not read is waited for once in a turn. */
static bool send_waiting(struct export *x, const char *packet)
{
    if (sender_send(&x->sender, packet))
        return true;
    struct pollfd p = {x->sender.fd, POLLOUT, 0};
    x->stuck = x->stuck || x->sender.fd < 0 || poll(&p, 1, WAIT_MS) <= 0 || !sender_send(&x->sender, packet);
    return !x->stuck;
}

static void flush(struct export *x, enum kind k)
{
    struct signal *s = &x->signals[k];
    AUTO_BUF struct buf out = {0};
    char name[16];
    if (!s->n_batch)
        return;
    snprintf(name, sizeof name, "otlp %s", names[k]);
    json_begin(&out, NULL, '{');
    json_str(&out, "op", "alert");
    json_str(&out, "webhook", name);
    json_str(&out, "group", "");
    json_str(&out, "text", s->batch.p);
    json_i64(&out, "n", s->n_batch);
    json_end(&out, '}');
    if (send_waiting(x, out.p))
        s->given += s->n_batch;
    else
        s->before.dropped += s->n_batch;
    buf_reset(&s->batch);
    s->n_batch = 0;
}

static void add(struct export *x, enum kind k, const char *json, int64_t n)
{
    struct signal *s = &x->signals[k];
    if (s->n_batch && s->batch.n + strlen(json) > PACKET_BYTES)
        flush(x, k);
    buf_adds(&s->batch, s->n_batch ? "," : "");
    buf_adds(&s->batch, json);
    s->n_batch += n;
}

static void on_span(void *arg, const char *json)
{
    add(arg, TRACES, json, 1);
}

static void on_event(void *arg, const char *who, const bson_t *line, int64_t ts_ms)
{
    (void)who;
    spans_of_line(line, ts_ms, on_span, arg);
}

static void on_log_line(void *arg, const char *who, const bson_t *line, int64_t ts_ms)
{
    struct export *x = arg;
    AUTO_BUF struct buf b = {0};
    (void)who;
    log_record_of_line(&x->records, line, ts_ms, &b);
    add(x, LOG, b.p, 1);
}

static void on_metric(void *arg, const char *json, int64_t n_points)
{
    add(arg, METRICS, json, n_points);
}

/* ---- a turn ---- */

/* Whether more is to be read: not while a collector that takes what it is sent has enough to do. */
static bool may_go_on(const struct export *x, enum kind k)
{
    const struct signal *s = &x->signals[k];
    bool moves = s->moved_ms && clk_now_ms() - s->moved_ms < STILL_MS;
    return s->on && x->sender.fd >= 0 && !(moves && s->given - done(s) > AHEAD);
}

static void follow_journals(struct export *x)
{
    /* Those of which many may come are read last: a turn has an end. */
    const char *const files[] = {events_file(EVENTS_OF_batch), events_file(EVENTS_OF_instances), TENANT_SPANS};
    struct follow *f = x->signals[TRACES].follow;
    DIR *d = fd_open_dir(x->home->dirfd, LOGS "/tenants");
    follow_begin(f, on_event, x);
    for (size_t k = 0; d && k < sizeof files / sizeof *files; k++, rewinddir(d))
        for (struct dirent *e; (e = readdir(d));)
            if (conf_valid_id(e->d_name)) {
                AUTO_FREE char *path = xasprintf(LOGS "/tenants/%s/%s", e->d_name, files[k]);
                follow_file(f, path, e->d_name);
            }
    follow_end(f);
    if (d)
        closedir(d);
    flush(x, TRACES);
}

static void follow_logs(struct export *x)
{
    struct follow *f = x->signals[LOG].follow;
    DIR *d = fd_open_dir(x->home->dirfd, LOGS);
    follow_begin(f, on_log_line, x);
    for (struct dirent *e; d && (e = readdir(d));) {
        size_t n = strlen(e->d_name);
        if (n > 4 && !strcmp(e->d_name + n - 4, ".log") && n < LOG_ROOM) {
            AUTO_FREE char *path = xasprintf(LOGS "/%s", e->d_name);
            follow_file(f, path, e->d_name);
        }
    }
    follow_end(f);
    log_records_rest(&x->records);
    if (d)
        closedir(d);
    flush(x, LOG);
}

static int add_text(void *text, const char *p, size_t n)
{
    buf_add(text, p, n);
    return 0;
}

static void write_metrics(struct export *x, const struct conf *c)
{
    AUTO_BUF struct buf text = {0};
    const int64_t now_ms = clk_now_ms();
    if (x->metrics_ms && now_ms - x->metrics_ms < x->interval_ms)
        return;
    x->metrics_ms = now_ms;
    if (!x->figures)
        x->figures = figures_new(x->home);
    if (!x->metrics)
        x->metrics = otlp_metrics_new();
    figures_write(x->figures, c, true, add_text, &text);
    otlp_metrics_write(x->metrics, text.p ? text.p : "", text.n, clk_wall_ms(), on_metric, x);
    flush(x, METRICS);
}

/* The log of this process is the monitor's, which another keeper renames when it is large. */
static void follow_own_log(const struct export *x)
{
    struct stat own, old, now;
    if (fstat(STDERR_FILENO, &own) < 0 || fstatat(x->home->dirfd, LOGS "/monitor.log.1", &old, AT_SYMLINK_NOFOLLOW) < 0 ||
        own.st_ino != old.st_ino || own.st_dev != old.st_dev ||
        fstatat(x->home->dirfd, LOGS "/monitor.log", &now, AT_SYMLINK_NOFOLLOW) < 0)
        return;
    AUTO_FD int fd = openat(x->home->dirfd, LOGS "/monitor.log", O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return;
    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
    sender_set_log(&x->sender, fd);
}

void export_tick(struct export *x, const struct conf *c)
{
    x->stuck = false;
    follow_own_log(x);
    look_at_sender(x);
    if (may_go_on(x, TRACES))
        follow_journals(x);
    if (may_go_on(x, LOG))
        follow_logs(x);
    if (may_go_on(x, METRICS))
        write_metrics(x, c);
    read_reports(x);
    settle(x);
}

/* ---- configuration ---- */

static void forget_packet(struct export *x, int k)
{
    if (x->packets[k])
        explicit_bzero(x->packets[k], strlen(x->packets[k]));
    xstr_set(&x->packets[k], NULL);
}

/* Where nothing was told before, what happens from now on is. */
static void follow_from_here(struct export *x, enum kind k)
{
    begin_following(&x->signals[k], x->home);
    if (k == TRACES)
        follow_journals(x);
    else
        follow_logs(x);
    settle(x);
}

static void set_signal(struct export *x, const struct conf *c, enum kind k, bool on)
{
    struct signal *s = &x->signals[k];
    AUTO_BUF struct buf packet = {0};
    struct err e = {0};
    forget_packet(x, k);
    xstr_set(&s->failed, NULL);
    if (on && collector_packet(x->home, c, names[k], k != METRICS, &packet, &e) == 0) {
        x->packets[k] = xstrdup(packet.p);
    } else if (on) {
        log_error("otlp", NULL, NULL, "%s: %s are not exported. `mysimbdp reload` reads it again", e.msg, names[k]);
        s->failed = xstrdup(e.msg);
    }
    if (packet.p)
        explicit_bzero(packet.p, packet.n);
    s->on = x->packets[k] != NULL;
    if (s->on && k != METRICS && !s->follow && s->kept)
        begin_following(s, x->home);
    else if (s->on && k != METRICS && !s->follow)
        follow_from_here(x, k);
    else if (!on)
        stop_following(x, s);
}

void export_set_conf(struct export *x, const struct conf *c)
{
    const bool wanted[N_KINDS] = {c->platform.otlp.traces, c->platform.otlp.metrics, c->platform.otlp.logs};
    if (!x->taken)
        take_kept(x);
    x->uid = uid_of_program(x->home, c->platform.uid_base, UID_WEBHOOK);
    x->interval_ms = c->platform.otlp.interval_s * 1000;
    for (int k = 0; k < N_KINDS; k++)
        set_signal(x, c, (enum kind)k, *c->platform.otlp.url && wanted[k]);
    if (!is_on(x))
        stop_sender(x);
    else if (x->sender.fd < 0)
        start_sender(x);
    else
        send_packets(x);
    save(x);
}

void export_tell(const struct export *x, struct buf *out)
{
    json_begin(out, NULL, '{');
    json_bool(out, "on", is_on(x) || x->signals[TRACES].failed || x->signals[METRICS].failed || x->signals[LOG].failed);
    json_begin(out, "signals", '[');
    for (int k = 0; k < N_KINDS; k++) {
        const struct signal *s = &x->signals[k];
        if (!s->on && !s->failed)
            continue;
        json_begin(out, NULL, '{');
        json_str(out, "signal", names[k]);
        json_i64(out, "sent", s->before.told + s->now.told);
        json_i64(out, "rejected", s->before.rejected + s->now.rejected);
        json_i64(out, "dropped", s->before.dropped + s->now.dropped + (s->follow ? follow_n_old(s->follow) : 0));
        json_i64(out, "waiting", s->given - done(s));
        json_str(out, "error", s->failed ? s->failed : s->error);
        json_end(out, '}');
    }
    json_end(out, ']');
    json_end(out, '}');
}

void export_free(struct export *x)
{
    if (!x)
        return;
    stop_sender(x);
    for (int k = 0; k < N_KINDS; k++) {
        struct signal *s = &x->signals[k];
        forget_packet(x, k);
        follow_free(s->follow);
        buf_fini(&s->batch);
        free(s->failed);
        free(s->error);
        free(s->pending);
        free(s->kept);
    }
    figures_free(x->figures);
    otlp_metrics_free(x->metrics);
    log_records_rest(&x->records);
    free(x);
}
