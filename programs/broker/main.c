#include "broker.h"

#include "base/beneath.h"
#include "base/clk.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "host/uids.h"
#include "loop/daemon.h"
#include "sandbox/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    TICK_MS = 1000,
    JOURNAL_TICKS = 5,
    SYNC_MS = 100, /* acks are durable after that at the latest */
    MAX_CALLBACKS = 8,
    LISTING_WAIT_MS = 10000,
};

#define STORE        "state/broker"
#define CUT_OFF_FILE "cut_off.json"      /* in it */
#define MARKS        "state/broker.mark" /* not in it: it is not restored along with it */

/* ---- streams and subscriptions, as configured ---- */

static struct bsub *bsub_of(struct bstream *st, struct sub *queue)
{
    struct bsub *s = sub_tag(queue);
    if (!s) {
        s = xcalloc(1, sizeof *s);
        uint64_t acked = sub_tally(queue)->v[TALLY_MESSAGES];
        *s = (struct bsub){.queue = queue, .stream = st, .due_ms = -1, .rate_seen = acked};
        s->minute.begun_ms = clk_now_ms();
        s->minute.acked = acked;
        sub_set_tag(queue, s);
    }
    return s;
}

static struct bstream *bstream_of(struct broker *b, struct stream *queue)
{
    struct bstream *st = stream_tag(queue);
    size_t i = 0;
    if (!st) {
        const char *full = stream_name(queue), *slash = strchr(full, '/');
        AUTO_FREE char *tenant = xstrndup(full, (size_t)(slash - full));
        st = xcalloc(1, sizeof *st);
        *st = (struct bstream){.b = b, .queue = queue, .tenant = auth_tenant(b, tenant), .name = xstrdup(slash + 1)};
        st->rate_seen = stream_tally(queue)->v[TALLY_MESSAGES];
        stream_set_tag(queue, st);
    }
    for (struct sub *s; (s = stream_next_sub(queue, &i));)
        bsub_of(st, s);
    return st;
}

static void bsub_free(struct broker *b, struct bsub *s)
{
    session_drop_sub(b, s);
    for (struct bsub **at = &b->to_serve; *at; at = &(*at)->next)
        if (*at == s) {
            *at = s->next;
            break;
        }
    if (s->timer)
        event_free(s->timer);
    free(s);
}

static void bstream_free(struct broker *b, struct bstream *st)
{
    size_t i = 0;
    for (struct sub *s; (s = stream_next_sub(st->queue, &i));) {
        bsub_free(b, sub_tag(s));
        sub_set_tag(s, NULL);
    }
    breaches_fini(&st->breaches);
    free(st->name);
    free(st);
}

void broker_drop_stream(struct broker *b, struct bstream *st)
{
    struct stream *queue = st->queue;
    bstream_free(b, st);
    queues_drop_stream(b->queues, queue);
}

struct bstream *broker_stream(struct broker *b, const char *tenant, const char *name)
{
    char full[WIRE_MAX_NAME + 40];
    snprintf(full, sizeof full, "%s/%s", tenant, name);
    struct stream *q = queues_stream(b->queues, full);
    struct bstream *st = q ? stream_tag(q) : NULL;
    return st && st->configured ? st : NULL;
}

struct bsub *broker_sub(const struct bstream *st, const char *app)
{
    struct sub *q = stream_sub(st->queue, app);
    struct bsub *s = q ? sub_tag(q) : NULL;
    return s && s->configured ? s : NULL;
}

static int apply_stream(struct broker *b, const struct conf_tenant *t, const struct conf_stream *c, struct err *e)
{
    char full[WIRE_MAX_NAME + 1];
    struct stream *q;
    const struct conf_stream_app *a = t->stream_apps.v;
    snprintf(full, sizeof full, "%s/%s", t->id, c->name);
    int r = queues_add_stream(b->queues, full, &q);
    if (r < 0)
        return err_sys(e, r, "cannot make stream %s", full);
    struct bstream *st = bstream_of(b, q);
    st->conf = *c;
    st->configured = true;
    for (size_t i = 0; i < t->stream_apps.n; i++) {
        struct sub *s;
        if (strcmp(a[i].stream, c->name))
            continue;
        r = stream_add_sub(q, a[i].app, &s);
        if (r < 0)
            return err_sys(e, r, "cannot make the subscription of app %s", a[i].app);
        bsub_of(st, s)->configured = true;
    }
    size_t i = 0;
    for (struct sub *s; (s = stream_next_sub(q, &i));)
        sub_configure(s, c->lease_ms, (int)c->max_deliveries);
    return 0;
}

void broker_serve_all(struct broker *b)
{
    size_t i = 0;
    for (struct stream *q; (q = queues_next(b->queues, &i));) {
        size_t k = 0;
        for (struct sub *s; (s = stream_next_sub(q, &k));)
            deliver_want(sub_tag(s));
    }
    broker_turn_soon(b);
}

/* What is in the queues but no longer in the configuration stays, and waits. */
static int apply_conf(struct broker *b, struct conf *c, struct err *e)
{
    size_t i = 0;
    int r = 0;
    for (struct stream *q; (q = queues_next(b->queues, &i));) {
        struct bstream *st = bstream_of(b, q);
        size_t k = 0;
        st->configured = false;
        st->conf =
            (struct conf_stream){.retention_s = -1, .dead_retention_s = -1, .dedup_window_s = 600, .on_breach = ON_BREACH_refuse};
        for (struct sub *s; (s = stream_next_sub(q, &k));)
            bsub_of(st, s)->configured = false;
    }
    for (size_t t = 0; r == 0 && t < c->n_tenants; t++) {
        const struct conf_stream *v = c->tenants[t].streams.v;
        auth_tenant(b, c->tenants[t].id);
        for (size_t k = 0; r == 0 && k < c->tenants[t].streams.n; k++)
            r = apply_stream(b, &c->tenants[t], &v[k], e);
    }
    if (c != b->conf)
        conf_free(b->conf);
    b->conf = c;
    queues_commit(b->queues, true);
    broker_serve_all(b);
    return r;
}

/* Frames up to what the largest message needs; larger ones end their connection. */
static void limit_messages(struct broker *b)
{
    int64_t most = WIRE_MIN_REQUEST_BYTES;
    for (size_t t = 0; t < b->conf->n_tenants; t++) {
        const struct conf_stream *v = b->conf->tenants[t].streams.v;
        for (size_t k = 0; k < b->conf->tenants[t].streams.n; k++)
            most = v[k].max_message_bytes > most ? v[k].max_message_bytes : most;
    }
    most += most / 2; /* so that what is a little too large is told so */
    znet_limit(&b->net, (size_t)most);
}

int broker_reload(struct broker *b, struct err *e)
{
    struct conf *c = NULL;
    int r = keeper_conf(b->keeper, &c, e);
    if (r == 0) {
        auth_read_tenants(b);
        r = apply_conf(b, c, e);
    }
    if (r < 0)
        log_error("reload", NULL, NULL, "%s; the configuration stays as it was", e->msg);
    else
        log_info("reloaded", NULL, NULL, "%zu tenants", b->conf->n_tenants);
    if (r == 0)
        limit_messages(b);
    return r;
}

static void list_cut_off(struct broker *b, struct buf *out, const char *key, bool for_rejects)
{
    size_t i = 0;
    json_begin(out, key, '[');
    for (struct stream *q; (q = queues_next(b->queues, &i));) {
        const struct bstream *st = stream_tag(q);
        if (st->cut_off && (st->too_many_rejects || !for_rejects))
            json_str(out, NULL, stream_name(q));
    }
    json_end(out, ']');
}

int broker_save_cut_off(struct broker *b)
{
    AUTO_BUF struct buf out = {0};
    struct err e = {0};
    json_begin(&out, NULL, '{');
    list_cut_off(b, &out, "streams", false);
    list_cut_off(b, &out, "for_rejects", true);
    json_end(&out, '}');
    int r = fd_write_file(b->store_fd, CUT_OFF_FILE, out.p, out.n, 0600, &e);
    if (r < 0)
        log_error("cut_off", NULL, NULL, "%s", e.msg);
    return r;
}

static void cut_off_again(struct broker *b, bson_iter_t *names, bool for_rejects)
{
    while (bson_iter_next(names)) {
        struct stream *q = BSON_ITER_HOLDS_UTF8(names) ? queues_stream(b->queues, bson_iter_utf8(names, NULL)) : NULL;
        struct bstream *st = q ? stream_tag(q) : NULL;
        if (st)
            st->cut_off = true;
        if (st)
            st->too_many_rejects |= for_rejects;
    }
}

static void load_cut_off(struct broker *b)
{
    AUTO_BUF struct buf text = {0};
    static const char *const keys[] = {"streams", "for_rejects"};
    bson_iter_t it;
    if (fd_read_file(b->store_fd, CUT_OFF_FILE, &text, 16 << 20, NULL) < 0)
        return;
    AUTO_BSON bson_t *doc = json_parse(text.p, text.n, NULL);
    for (int k = 0; doc && k < 2; k++)
        if (json_get_iter(doc, keys[k], &it))
            cut_off_again(b, &it, k == 1);
}

/* ---- turns ---- */

void broker_look_at_clocks(struct broker *b)
{
    b->now_ms = clk_now_ms();
    b->wall_ms = clk_wall_ms();
}

void broker_turn_soon(struct broker *b)
{
    event_active(b->turn_ev, EV_TIMEOUT, 0);
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
    struct broker *b = arg;
    (void)fd;
    (void)what;
    broker_look_at_clocks(b);
    bool more = session_unpark(b);
    queues_commit(b->queues, false);
    session_send_answers(b);
    more |= deliver(b);
    more |= queues_tidy(b->queues);
    if (queues_unsynced(b->queues) && !event_pending(b->sync_ev, EV_TIMEOUT, NULL))
        event_add(b->sync_ev, &(struct timeval){0, SYNC_MS * 1000});
    if (more) /* not at once: others are to be heard in between */
        event_add(b->turn_ev, &(struct timeval){0});
}

static void on_sync(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    queues_commit(((struct broker *)arg)->queues, true);
}

static void take_rates(struct broker *b)
{
    size_t i = 0;
    for (struct stream *q; (q = queues_next(b->queues, &i));) {
        struct bstream *st = stream_tag(q);
        size_t k = 0;
        /* Smoothed over about three seconds. */
        uint64_t n_in = stream_tally(q)->v[TALLY_MESSAGES];
        st->in_per_s += ((double)(n_in - st->rate_seen) * 1000 / TICK_MS - st->in_per_s) / 3;
        if (st->in_per_s < 0.05)
            st->in_per_s = 0;
        st->rate_seen = n_in;
        for (struct sub *s; (s = stream_next_sub(q, &k));) {
            struct bsub *bs = sub_tag(s);
            struct sub_figures f;
            sub_figures(s, &f);
            bs->acked_per_s += ((double)(f.acked - bs->rate_seen) * 1000 / TICK_MS - bs->acked_per_s) / 3;
            if (bs->acked_per_s < 0.05)
                bs->acked_per_s = 0;
            bs->rate_seen = f.acked;
            limits_look_at_rejects(bs);
        }
    }
}

static int64_t before(int64_t now_wall_ms, int64_t seconds)
{
    return seconds < 0 ? 0 : now_wall_ms - seconds * 1000;
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    static int ticks;
    struct broker *b = arg;
    size_t i = 0;
    (void)fd;
    (void)what;
    broker_look_at_clocks(b);
    take_rates(b);
    int64_t now = age_now(&b->age);
    for (struct stream *q; (q = queues_next(b->queues, &i));) {
        const struct conf_stream *c = &((struct bstream *)stream_tag(q))->conf;
        stream_expire(q, before(now, c->retention_s), before(now, c->dead_retention_s), before(now, c->dedup_window_s));
    }
    if (++ticks % JOURNAL_TICKS == 0)
        journal_interval(b);
    queues_push_marks(b->queues);
    if (queues_record_refusals(b->queues) || queues_unsynced(b->queues))
        broker_turn_soon(b);
}

static void on_death(struct sub *s, const struct dead_letter *d)
{
    journal_dead(sub_tag(s), d);
}

/* ---- listening ---- */

static int start_listening(struct broker *b, struct err *e)
{
    static const struct zmtp_ops ops = {
        .type = "ROUTER",
        .peer_types = " DEALER REQ ROUTER ",
        .may_connect = auth_may_connect,
        .user_of_key = auth_user_of_key,
        .on_open = session_on_open,
        .on_message = session_on_message,
        .on_drain = session_on_drain,
        .on_close = session_on_close,
    };
    b->net = (struct znet){.base = b->base, .home = &b->home, .program = "broker", .ops = &ops, .arg = b};
    int r = znet_start(&b->net, b->conf->platform.listen, b->conf->platform.ports.broker, e);
    if (r == 0)
        limit_messages(b);
    return r;
}

/* ---- life ---- */

static void on_reload(void *arg)
{
    struct err e = {0};
    broker_reload(arg, &e);
}

/* What has to be had before rights are given up. */
static int prepare(struct broker *b, struct err *e)
{
    if (mkdirat(b->home.dirfd, STORE, 0700) < 0 && errno != EEXIST)
        return err_sys(e, -errno, "cannot make %s/" STORE, b->home.path);
    b->store_fd = openat(b->home.dirfd, STORE, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (b->store_fd < 0)
        return err_sys(e, -errno, "cannot open %s/" STORE, b->home.path);
    age_init(&b->age, b->store_fd, "clock");
    b->marks_fd = openat(b->home.dirfd, MARKS, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (b->marks_fd < 0)
        return err_sys(e, -errno, "cannot open %s/" MARKS, b->home.path);
    int r = keeper_start(b->base, &b->home, "broker", &b->keeper, e);
    return r < 0 ? r : keeper_conf(b->keeper, &b->conf, e);
}

static int open_queues(struct broker *b, struct err *e)
{
    int r = queues_open(b->store_fd, fd_take(&b->marks_fd), &b->queues, e);
    if (r < 0) {
        err_context(e, "the broker's store %s/" STORE " cannot be used, and nothing was changed", b->home.path);
        return r;
    }
    queues_on_death(b->queues, on_death);
    auth_read_tenants(b);
    r = apply_conf(b, b->conf, e);
    if (r < 0)
        return r;
    load_cut_off(b);
    size_t i = 0;
    for (struct stream *q; (q = queues_next(b->queues, &i));)
        journal_lost(stream_tag(q));
    return 0;
}

static void make_events(struct broker *b, bool supervised)
{
    b->daemon = daemon_new(b->base, supervised, &(struct daemon_ops){NULL, on_reload, NULL, b});
    b->turn_ev = event_new(b->base, -1, 0, on_turn, b);
    b->sync_ev = event_new(b->base, -1, 0, on_sync, b);
    b->tick_ev = event_new(b->base, -1, EV_PERSIST, on_tick, b);
    event_add(b->tick_ev, &(struct timeval){TICK_MS / 1000, TICK_MS % 1000 * 1000});
}

static void stop(struct broker *b)
{
    size_t i = 0;
    control_stop(b);
    if (b->queues) {
        broker_look_at_clocks(b);
        journal_interval(b);
        session_end_all(b);
        session_unpark(b); /* of peers that are gone: only freed */
        for (struct stream *q; (q = queues_next(b->queues, &i));)
            if (stream_tag(q))
                bstream_free(b, stream_tag(q));
        queues_close(b->queues);
    }
    znet_stop(&b->net);
    i = 0;
    for (struct btenant *t; (t = map_next(&b->tenants, &i));) {
        free(t->id);
        free(t);
    }
    map_fini(&b->tenants);
    daemon_free(b->daemon);
    struct event *evs[] = {b->turn_ev, b->tick_ev, b->sync_ev};
    for (i = 0; i < sizeof evs / sizeof *evs; i++)
        if (evs[i])
            event_free(evs[i]);
    buf_fini(&b->answers);
    conf_free(b->conf);
    keeper_stop(b->keeper);
    if (b->store_fd >= 0)
        close(b->store_fd);
    if (b->marks_fd >= 0)
        close(b->marks_fd);
}

/* Tenants and, on tcp, anybody talk to this program: from here on whoever got hold of it is a user of its own, with no capability,
 * no call beyond those of an app, and, where the kernel has Landlock, no file to change but the store's. As root in a home that is
 * somebody else's it needs its capabilities. */
static int give_up_rights(struct broker *b, struct err *e)
{
    AUTO_FREE char *store = home_path(&b->home, STORE);
    const char *const writable[] = {store /* may be a link to another disk */, b->home.runtime, "/dev/null"};
    const int64_t uid = ids_of_program(&b->home, b->conf->platform.uid_base, IDS_BROKER);
    int r = uid >= 0 ? beneath_give(b->store_fd, uid) : 0;
    if (r < 0)
        return err_sys(e, r, "cannot make %s/" STORE " the broker's", b->home.path);
    r = confine_program(&(struct confinement){home_is_roots(&b->home), uid, -1, writable, sizeof writable / sizeof *writable});
    return r < 0 ? err_sys(e, r, "cannot give up rights") : 0;
}

/* The store is opened last: by who has no right to anything else, and its thread is no other. Peers wait meanwhile. */
static int start(struct broker *b, bool supervised, struct err *e)
{
    make_events(b, supervised);
    int r = prepare(b, e);
    if (r == 0)
        r = start_listening(b, e);
    if (r == 0)
        r = control_start(b, e);
    if (r == 0)
        r = give_up_rights(b, e);
    return r < 0 ? r : open_queues(b, e);
}

/* The listings of a home whose broker does not run: what the store holds. */
static int list(struct broker *b, int argc, char **argv, struct err *e)
{
    AUTO_BUF struct buf out = {0};
    b->turn_ev = event_new(b->base, -1, 0, on_turn, b);
    int r = prepare(b, e);
    if (r == 0)
        r = give_up_rights(b, e);
    if (r == 0)
        r = open_queues(b, e);
    if (r < 0)
        return r;
    json_begin(&out, NULL, '[');
    if (!strcmp(argv[0], "queues"))
        control_print_queues(b, &out, argc > 1 && *argv[1] ? argv[1] : NULL);
    else
        control_print_dead(b, &out, argc > 1 && *argv[1] ? argv[1] : NULL, argc > 2 && *argv[2] ? argv[2] : NULL,
                           argc > 3 && *argv[3] ? argv[3] : NULL);
    json_end(&out, ']');
    puts(out.p);
    return 0;
}

static const char usage[] =
    "usage: broker [--supervised] --home HOME\n"
    "       broker --list queues|dead [TENANT [STREAM [APP]]] --home HOME   what the store of a stopped broker holds, as JSON\n"
    "Keeps the tenants' queues of messages. `mysimbdp up` starts it.\n"
    "--supervised: also end when stdin closes. SIGTERM: end. SIGHUP: read the configuration again.\n"
    "Exit: 0 stopped, 1 could not start (the log says why), 2 usage, 75 (--list) another process works on the store now.\n";

int main(int argc, char **argv)
{
    struct broker b = {.store_fd = -1, .marks_fd = -1};
    struct err e = {0};
    daemon_prepare("broker");
    const char *home;
    bool supervised = daemon_take_args(&argc, argv, usage, &home);
    bool listing = argc >= 3 && argc <= 6 && !strcmp(argv[1], "--list") && (!strcmp(argv[2], "queues") || !strcmp(argv[2], "dead"));
    if (!listing && argc != 1)
        return fputs(usage, stderr), 2;
    b.started_wall_ms = clk_wall_ms();
    b.journal_ms = clk_now_ms();
    b.base = daemon_loop(MAX_CALLBACKS); /* turns that follow one another would otherwise be all that it does */
    int r = home_enter(&b.home, home, &e);
    /* One that starts waits for a listing of what it left to end; a listing is for the one that runs to give. */
    int lock = r < 0 ? r : home_lock(&b.home, "broker", listing ? 0 : LISTING_WAIT_MS, &e);
    if (listing && lock == -EWOULDBLOCK)
        return home_close(&b.home), event_base_free(b.base), EX_TEMPFAIL;
    r = lock < 0 ? lock : listing ? list(&b, argc - 2, argv + 2, &e) : start(&b, supervised, &e);
    if (r == 0 && !listing) {
        log_info("ready", NULL, NULL, "home %s, %s%s%s", b.home.path, b.net.ipc_endpoint, b.net.tcp_endpoint ? ", " : "",
                 b.net.tcp_endpoint ? b.net.tcp_endpoint : "");
        event_base_dispatch(b.base);
    }
    if (r < 0)
        log_error("start", NULL, NULL, "%s", e.msg);
    stop(&b);
    event_base_free(b.base);
    home_close(&b.home);
    return r < 0;
}
