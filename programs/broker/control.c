/* The broker's control socket. Requests (lib/loop/ctl.h):
 *   status
 *   queues {tenant?}                              -> {queues:[...]}
 *   consumers {hold?:[session,...]}               -> {consumers:[{tenant_id,stream,app,session,pid,leased,ran_out}],
 *                                                     waiting:[{tenant,stream,app}]}: who holds how much, and what has no consumer.
 *                                                 With `hold` exactly these sessions get no messages from now on, until this
 *                                                 connection says otherwise, or ends
 *   dead {tenant,stream?,app?,after?,limit?}      -> {dead:[...]}, with the message's text where it is text, else base64
 *   dead_replay, dead_drop {tenant,stream,app?,seq?} -> {n}: one, or all
 *   reload; tenants                               reads configuration, or who is suspended
 *   resume {tenant}                               streams that were cut off are open again
 *   account                                       what was counted is in the journals when it is answered
 *   forget {tenant}                               its streams are no more (tenant remove --purge)
 *   watch                                         then a line {"activate":{tenant,stream,app}} whenever a subscription has messages
 *                                                 and no consumer, and one for each that is so already */
#include "broker.h"

#include "base/clk.h"
#include "base/log.h"
#include "base/mem.h"
#include "host/uids.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MAX_LISTED = 10000, WATCHER_BACKLOG = 1 << 20, SHOWN_BYTES = 4096 };

static void add_queue(struct buf *out, const struct bstream *st, const struct bsub *s, int64_t now_wall)
{
    struct stream_figures f;
    struct sub_figures g = {0};
    stream_figures(st->queue, &f);
    if (s)
        sub_figures(s->queue, &g);
    json_begin(out, NULL, '{');
    json_str(out, "tenant_id", st->tenant->id);
    json_str(out, "stream", st->name);
    json_str(out, "app", s ? sub_name(s->queue) : NULL);
    json_str(out, "state",
             !st->configured || (s && !s->configured) ? "unconfigured"
             : st->tenant->suspended                  ? "suspended"
             : st->cut_off                            ? "cut_off"
                                                      : "active");
    json_i64(out, "consumers", (int64_t)g.n_consumers);
    json_i64(out, "ready", s ? (int64_t)(g.ready + g.delayed) : (int64_t)(f.next_seq - f.first_seq));
    json_i64(out, "leased", (int64_t)g.leased);
    json_f64(out, "in_per_s", st->in_per_s);
    json_f64(out, "acked_per_s", s ? s->acked_per_s : 0);
    json_f64(out, "oldest_age_s",
             g.oldest_wall_ms && now_wall > g.oldest_wall_ms ? (double)((now_wall - g.oldest_wall_ms) / 1000) : 0);
    json_i64(out, "redelivered", (int64_t)g.redelivered);
    json_i64(out, "dead", (int64_t)g.dead);
    json_i64(out, "acked", (int64_t)g.acked);
    json_i64(out, "rows", s ? (int64_t)sub_tally(s->queue)->v[TALLY_ROWS] : 0);
    json_i64(out, "lost", (int64_t)g.lost);
    json_i64(out, "expired", (int64_t)g.expired);
    json_i64(out, "published", (int64_t)stream_tally(st->queue)->v[TALLY_MESSAGES]);
    json_i64(out, "refused", (int64_t)stream_tally(st->queue)->v[TALLY_REFUSED]);
    json_i64(out, "stored_bytes", f.bytes);
    json_i64(out, "last_seq", (int64_t)f.next_seq - 1);
    json_end(out, '}');
}

void control_print_queues(struct broker *b, struct buf *out, const char *tenant)
{
    size_t i = 0;
    int64_t now = clk_wall_ms();
    for (struct stream *q; (q = queues_next(b->queues, &i));) {
        const struct bstream *st = stream_tag(q);
        size_t k = 0;
        if (tenant && strcmp(tenant, st->tenant->id))
            continue;
        for (struct sub *s; (s = stream_next_sub(q, &k));)
            add_queue(out, st, sub_tag(s), now);
        if (!k)
            add_queue(out, st, NULL, now);
    }
}

/* What streammgr needs to know of its instances: who is idle, and who hangs. */
static void add_consumers(struct bsub *s, void *arg)
{
    struct buf *out = arg;
    size_t i = 0;
    for (struct consumer *c; (c = sub_next_consumer(s->queue, &i));) {
        const struct session *session = ((struct subscription *)consumer_tag(c))->session;
        json_begin(out, NULL, '{');
        json_str(out, "tenant_id", s->stream->tenant->id);
        json_str(out, "stream", s->stream->name);
        json_str(out, "app", sub_name(s->queue));
        json_i64(out, "session", (int64_t)session->number);
        json_i64_or_null(out, "pid", zmtp_pid(session->conn));
        json_i64(out, "leased", (int64_t)consumer_n_leased(c));
        json_i64(out, "ran_out", (int64_t)consumer_n_ran_out(c));
        json_end(out, '}');
    }
}

static void add_dead(struct buf *out, struct bsub *s, const struct dead_letter *d)
{
    size_t n = 0;
    int64_t wall_ms = 0;
    const char *p = stream_read(s->stream->queue, d->seq, &n, &wall_ms);
    size_t shown = n < SHOWN_BYTES ? n : SHOWN_BYTES;
    json_begin(out, NULL, '{');
    json_str(out, "tenant_id", s->stream->tenant->id);
    json_str(out, "stream", s->stream->name);
    json_str(out, "app", sub_name(s->queue));
    json_i64(out, "seq", (int64_t)d->seq);
    json_i64(out, "deliveries", d->deliveries);
    json_str(out, "reason", d->reason);
    json_time(out, "published_at", wall_ms);
    json_time(out, "died_at", d->wall_ms);
    json_i64_or_null(out, "bytes", p ? (int64_t)n : -1);
    if (p && n == shown && utf8_valid(p, n) && !memchr(p, 0, n)) {
        json_strn(out, "message", p, n);
        json_null(out, "base64");
    } else if (p) {
        AUTO_FREE char *text = xmalloc(sodium_base64_ENCODED_LEN(SHOWN_BYTES, sodium_base64_VARIANT_ORIGINAL));
        sodium_bin2base64(text, sodium_base64_ENCODED_LEN(SHOWN_BYTES, sodium_base64_VARIANT_ORIGINAL), (const unsigned char *)p,
                          shown, sodium_base64_VARIANT_ORIGINAL);
        json_null(out, "message");
        json_str(out, "base64", text);
    } else {
        json_null(out, "message");
        json_null(out, "base64");
    }
    json_end(out, '}');
}

/* Calls fn for each subscription that is meant; how many. NULL: any. */
static size_t each_sub(struct broker *b, const char *tenant, const char *stream, const char *app,
                       void (*fn)(struct bsub *s, void *arg), void *arg)
{
    size_t i = 0, n = 0;
    for (struct stream *q; (q = queues_next(b->queues, &i));) {
        const struct bstream *st = stream_tag(q);
        size_t k = 0;
        if ((tenant && strcmp(tenant, st->tenant->id)) || (stream && strcmp(stream, st->name)))
            continue;
        for (struct sub *s; (s = stream_next_sub(q, &k));)
            if (!app || !strcmp(app, sub_name(s))) {
                fn(sub_tag(s), arg);
                n++;
            }
    }
    return n;
}

struct listing {
    struct buf *out;
    uint64_t after;
    int64_t left;
};

static void list_dead(struct bsub *s, void *arg)
{
    struct listing *l = arg;
    struct dead_letter d;
    for (uint64_t seq = l->after + 1; l->left > 0 && sub_next_dead(s->queue, seq, &d); seq = d.seq + 1, l->left--)
        add_dead(l->out, s, &d);
}

void control_print_dead(struct broker *b, struct buf *out, const char *tenant, const char *stream, const char *app)
{
    struct listing l = {out, 0, MAX_LISTED};
    each_sub(b, tenant, stream, app, list_dead, &l);
}

struct settling {
    uint64_t seq; /* 0: all */
    bool replay;
    int64_t n;
};

static void settle_dead(struct bsub *s, void *arg)
{
    struct settling *k = arg;
    struct dead_letter d;
    uint64_t from = k->seq ? k->seq : 1;
    while (sub_next_dead(s->queue, from, &d) && (!k->seq || d.seq == k->seq)) {
        from = d.seq + 1;
        k->n += (k->replay ? sub_replay(s->queue, d.seq) : sub_drop_dead(s->queue, d.seq)) == 0;
    }
    deliver_want(s);
}

static int settle(struct broker *b, struct ctl_conn *c, const bson_t *rq, bool replay, struct err *e)
{
    const char *tenant = json_get_str(rq, "tenant", NULL), *stream = json_get_str(rq, "stream", NULL),
               *app = json_get_str(rq, "app", NULL);
    struct settling k = {(uint64_t)json_get_i64(rq, "seq", 0), replay, 0};
    AUTO_BUF struct buf out = {0};
    if (!tenant || !stream)
        return err_set(e, ERR_USAGE, "which tenant's stream?");
    if (!each_sub(b, tenant, stream, app, settle_dead, &k))
        return err_set(e, ERR_REFUSED, "tenant %s has no stream \"%s\"%s%s%s; `mysimbdp queue list` shows them", tenant, stream,
                       app ? " with an app \"" : "", app ? app : "", app ? "\"" : "");
    if (k.seq && !k.n)
        return err_set(e, ERR_REFUSED, "no dead letter %llu there; `mysimbdp dead list` shows them", (unsigned long long)k.seq);
    queues_commit(b->queues, true); /* before it is said */
    broker_turn_soon(b);
    json_begin(&out, NULL, '{');
    json_bool(&out, "ok", true);
    json_i64(&out, "n", k.n);
    json_end(&out, '}');
    ctl_send(c, &out);
    return 1;
}

static void status(struct broker *b, struct ctl_conn *c)
{
    AUTO_BUF struct buf out = {0};
    json_begin(&out, NULL, '{');
    json_bool(&out, "ok", true);
    json_i64(&out, "pid", getpid());
    json_time(&out, "started_at", b->started_wall_ms);
    json_str(&out, "ipc", b->net.ipc_endpoint);
    json_str(&out, "tcp", b->net.tcp_endpoint);
    json_str(&out, "server_key", b->net.tcp_endpoint ? b->net.server_public : NULL);
    age_now(&b->age);
    json_i64(&out, "clock_ahead_s", b->age.ahead_ms / 1000);
    json_i64(&out, "peers", (int64_t)b->sessions.n);
    json_i64(&out, "requests", (int64_t)b->n_requests);
    json_i64(&out, "refused", (int64_t)b->n_refused);
    json_str(&out, "publishing", queues_full(b->queues) ? "refused: the disk is full" : "open");
    json_end(&out, '}');
    ctl_send(c, &out);
}

static void add_sub(struct buf *out, const char *key, const struct bsub *s)
{
    json_begin(out, key, '{');
    json_str(out, "tenant", s->stream->tenant->id);
    json_str(out, "stream", s->stream->name);
    json_str(out, "app", sub_name(s->queue));
    json_end(out, '}');
}

static void tell_watcher(struct ctl_conn *c, const struct bsub *s)
{
    AUTO_BUF struct buf line = {0};
    if (ctl_backlog(c) > WATCHER_BACKLOG)
        return; /* it asks for `consumers` when it reads again */
    json_begin(&line, NULL, '{');
    add_sub(&line, "activate", s);
    json_end(&line, '}');
    ctl_send(c, &line);
}

void control_activate(struct bsub *s)
{
    struct broker *b = s->stream->b;
    s->told = true;
    for (size_t i = 0; i < b->n_watchers; i++)
        tell_watcher(b->watchers[i], s);
}

static void tell_if_waiting(struct bsub *s, void *arg)
{
    if (s->told)
        tell_watcher(arg, s);
}

static int watch(struct broker *b, struct ctl_conn *c, struct err *e)
{
    if (b->n_watchers == sizeof b->watchers / sizeof *b->watchers)
        return err_set(e, ERR_REFUSED, "enough others watch already");
    ctl_answer(c, NULL);
    ctl_hold(c);
    b->watchers[b->n_watchers++] = c;
    each_sub(b, NULL, NULL, NULL, tell_if_waiting, c);
    return 1;
}

static int resume(struct broker *b, const char *tenant)
{
    size_t i = 0;
    for (struct stream *q; (q = queues_next(b->queues, &i));) {
        struct bstream *st = stream_tag(q);
        if (strcmp(st->tenant->id, tenant) || !st->cut_off)
            continue;
        st->cut_off = st->too_many_rejects = false;
        breaches_fini(&st->breaches);
        journal_cut_off(st, NULL, false);
    }
    return broker_save_cut_off(b);
}

static int forget(struct broker *b, const char *tenant, struct err *e)
{
    if (conf_tenant(b->conf, tenant))
        return err_set(e, ERR_REFUSED, "tenant %s has a configuration still", tenant);
    size_t i = 0;
    for (struct stream *q; (q = queues_next(b->queues, &i));) {
        struct bstream *st = stream_tag(q);
        if (strcmp(st->tenant->id, tenant))
            continue;
        broker_drop_stream(b, st);
        i = 0;
    }
    queues_commit(b->queues, true);
    return 0;
}

static void account(struct broker *b)
{
    journal_interval(b);
    queues_commit(b->queues, true);
    auth_read_tenants(b); /* the keeper answers when it has written the lines */
}

/* v: NULL is none. */
static void hold_sessions(struct broker *b, struct ctl_conn *holder, bson_iter_t *v)
{
    size_t at = 0;
    bool released = false;
    for (struct session *s; (s = map_next(&b->sessions, &at));) {
        bool held = false;
        bson_iter_t it;
        if (v)
            for (it = *v; !held && bson_iter_next(&it);)
                held = BSON_ITER_HOLDS_INT(&it) && (uint64_t)bson_iter_as_int64(&it) == s->number;
        released |= s->held && !held;
        s->held = held;
    }
    b->holder = holder;
    if (released)
        broker_serve_all(b);
}

static void add_waiting(struct bsub *s, void *arg)
{
    if (s->told)
        add_sub(arg, NULL, s);
}

static void consumers(struct broker *b, struct ctl_conn *c, const bson_t *rq)
{
    AUTO_BUF struct buf out = {0};
    bson_iter_t hold;
    if (json_get_iter(rq, "hold", &hold))
        hold_sessions(b, c, &hold);
    json_begin(&out, NULL, '{');
    json_bool(&out, "ok", true);
    json_begin(&out, "consumers", '[');
    each_sub(b, NULL, NULL, NULL, add_consumers, &out);
    json_end(&out, ']');
    json_begin(&out, "waiting", '[');
    each_sub(b, NULL, NULL, NULL, add_waiting, &out);
    json_end(&out, ']');
    json_end(&out, '}');
    ctl_send(c, &out);
}

static int serve(void *arg, struct ctl_conn *c, const bson_t *rq, struct err *e)
{
    struct broker *b = arg;
    const char *op = json_get_str(rq, "op", ""), *tenant = json_get_str(rq, "tenant", NULL);
    AUTO_BUF struct buf out = {0};
    broker_look_at_clocks(b);
    if (!strcmp(op, "status"))
        return status(b, c), 1;
    if (!strcmp(op, "queues") || !strcmp(op, "dead")) {
        json_begin(&out, NULL, '{');
        json_bool(&out, "ok", true);
        json_begin(&out, op, '[');
        if (op[0] == 'q') {
            control_print_queues(b, &out, tenant);
        } else {
            struct listing l = {&out, (uint64_t)json_get_i64(rq, "after", 0), json_get_i64(rq, "limit", MAX_LISTED)};
            each_sub(b, tenant, json_get_str(rq, "stream", NULL), json_get_str(rq, "app", NULL), list_dead, &l);
        }
        json_end(&out, ']');
        json_end(&out, '}');
        ctl_send(c, &out);
        return 1;
    }
    if (!strcmp(op, "dead_replay") || !strcmp(op, "dead_drop"))
        return settle(b, c, rq, op[5] == 'r', e);
    if (!strcmp(op, "reload"))
        return broker_reload(b, e);
    if (!strcmp(op, "trust_clock"))
        return age_trust(&b->age), 0;
    if (!strcmp(op, "tenants"))
        return auth_read_tenants(b), broker_serve_all(b), 0;
    if (!strcmp(op, "resume") && tenant)
        return auth_read_tenants(b), broker_serve_all(b), resume(b, tenant);
    if (!strcmp(op, "account"))
        return account(b), 0;
    if (!strcmp(op, "forget") && tenant)
        return forget(b, tenant, e);
    if (!strcmp(op, "consumers"))
        return consumers(b, c, rq), 1;
    if (!strcmp(op, "watch"))
        return watch(b, c, e);
    return err_set(e, ERR_USAGE, "unknown op \"%s\"", op);
}

static void gone(void *arg, struct ctl_conn *c)
{
    struct broker *b = arg;
    if (b->holder == c)
        hold_sessions(b, NULL, NULL);
    for (size_t i = 0; i < b->n_watchers; i++)
        if (b->watchers[i] == c) {
            b->watchers[i] = b->watchers[--b->n_watchers];
            ctl_release(c);
            return;
        }
}

int control_start(struct broker *b, struct err *e)
{
    static const char *const of_monitor[] = {"queues", NULL}, *const of_streammgr[] = {"status", "watch", "consumers", NULL};
    const int64_t base = b->conf->platform.uid_base;
    AUTO_FREE char *path = home_socket(&b->home, "broker.sock");
    return ctl_new(b->base, path,
                   &(struct ctl_ops){serve, gone, b, ids_of_program(&b->home, base, IDS_MONITOR), of_monitor,
                                     ids_of_program(&b->home, base, IDS_STREAMMGR), of_streammgr},
                   &b->ctl, e);
}

void control_stop(struct broker *b)
{
    ctl_free(b->ctl);
    while (b->n_watchers)
        ctl_release(b->watchers[--b->n_watchers]);
}
