/* The broker's control socket. Requests (lib/loop/ctl.h) and what is answered beside "ok":
 *
 * - status {}: {pid,started_at,ipc,tcp,server_key,clock_ahead_s,peers,requests,refused,kafka,publishing}
 * - queues {tenant_id?}: {queues:[...]}
 * - figures {format?}: {bytes,left_out}, and so many bytes of Prometheus' text behind the line (figures.h)
 * - consumers {hold?:[session,...]}: {consumers:[{tenant_id,stream,app,session,pid,run_id,leased,ran_out}],
 * waiting:[{tenant_id,stream,app}]}: who holds how much, and what has no consumer. With `hold` exactly these sessions get no
 * messages from now on, until this connection says otherwise, or ends.
 * - streams {tenant_id,stream?}: {streams:[...]}, as tenants are told of them (docs/openapi.yaml, Stream)
 * - dead {tenant_id,stream?,app?,after?|cursor?,limit?}: {dead:[...],more,next}, with the message's text where it is text, else
 *   base64; in each stream by rising sequence, then app. after: behind this sequence; cursor: behind this one's `id`
 *   (SEQUENCE.APP). next: the last one's id, null where it is the end
 * - dead_replay, dead_drop {tenant_id,stream,app?,seq?|ids?}: {n,more}: one, those of a list (what is there no more is passed
 *   over), or all; more: there are others, since so many are done at once
 * - reload, tenants: reads the configuration, or who is suspended
 * - resume {tenant_id}: its streams that were cut off are open again
 * - account: what was counted is in the journals when it is answered
 * - forget {tenant_id}: its streams are no more (tenant remove --purge)
 * - move_hold, move_import, move_take_up {tenant_id}; move_export {tenant_id,stream?,seq?,record?}: {bytes,stream,seq,record,end},
 *   and so many bytes behind the line; the next request says what this answer did (moving.c)
 * - watch: then a line {"activate":{tenant_id,stream,app}} whenever a subscription has messages and no consumer, and one for each
 *   that is so already
 *
 * Guests: the monitor has `queues`; streammgr `status`, `watch` and `consumers`. The gateway (broker.gateway.sock) has `status`,
 * `streams`, `dead`, `dead_replay` and `dead_drop`; but for `status` it names the tenant, gets at most GATEWAY_DEAD dead letters at
 * once, and a tenant that is not configured is not found. Codes of refusals beside ctl.h's: not_found (no such tenant, stream, app
 * or dead letter), usage (malformed, or what is to be named is not), suspended (the tenant is; from the gateway alone). */
#include "control.h"
#include "auth.h"
#include "config.h"
#include "consume.h"
#include "cut_off.h"
#include "deliver.h"
#include "figures.h"
#include "journal.h"
#include "kafka.h"
#include "listing.h"
#include "moving.h"
#include "parts.h"
#include "watchers.h"

#include "base/log.h"
#include "base/mem.h"
#include "host/uid_block.h"

#include <string.h>
#include <unistd.h>

/* What the gateway gets at once: it asks for tenants, and none of them is to hold the others up. */
enum { GATEWAY_DEAD = 100, GATEWAY_SETTLED = 10000, MAX_IDS = 1000 };

struct settling {
    uint64_t seq; /* 0: all */
    bool replay, more;
    int64_t n, most;
};

static void settle_dead(struct broker_sub *bs, void *arg)
{
    struct settling *k = arg;
    struct dead_letter d;
    uint64_t seq = k->seq;
    if (seq && parts_by_seq(bs->stream->whole, &seq) != bs->stream)
        return; /* another partition's */
    uint64_t from = seq ? seq : 1;
    while (!k->more && sub_next_dead(bs->sub, from, &d) && (!seq || d.seq == seq)) {
        from = d.seq + 1;
        k->more = k->n >= k->most;
        if (k->more)
            break;
        k->n += (k->replay ? sub_replay(bs->sub, d.seq) : sub_drop_dead(bs->sub, d.seq)) == 0;
    }
    deliver_want(bs);
}

/* Looks at the whole list before anything of it is done. */
static int check_ids(bson_iter_t ids, struct err *e)
{
    uint64_t seq;
    const char *app;
    for (int n = 1; bson_iter_next(&ids); n++) {
        const char *id = BSON_ITER_HOLDS_UTF8(&ids) ? bson_iter_utf8(&ids, NULL) : "";
        if (!listing_read_dead_id(id, &seq, &app))
            return err_set(e, ERR_USAGE, "\"%.64s\" is not the id of a dead letter", id);
        if (n > MAX_IDS)
            return err_set(e, ERR_USAGE, "more than %d ids", MAX_IDS);
    }
    return 0;
}

/* Those of a list that was checked. What is there no more is passed over: who asks twice is not told of an error. */
static void settle_ids(const struct broker_stream *whole, bson_iter_t *ids, struct settling *k)
{
    const char *app;
    while (bson_iter_next(ids)) {
        listing_read_dead_id(bson_iter_utf8(ids, NULL), &k->seq, &app);
        uint64_t seq = k->seq;
        const struct broker_stream *st = parts_by_seq(whole, &seq);
        struct sub *s = st ? stream_sub(st->stream, app) : NULL;
        if (s)
            settle_dead(sub_tag(s), k);
    }
}

static int settle_named(struct broker *b, const bson_t *rq, struct settling *k, struct err *e)
{
    const char *tenant = json_get_str(rq, "tenant_id", ""), *stream = json_get_str(rq, "stream", ""),
               *app = json_get_str(rq, "app", NULL);
    AUTO_FREE char *full = xasprintf("%s/%s", tenant, stream);
    struct stream *st = streams_find(b->streams, full);
    bson_iter_t ids;
    bool listed = json_get_iter(rq, "ids", &ids);
    if (listed && check_ids(ids, e) < 0)
        return e->code;
    if (st && listed)
        settle_ids(stream_tag(st), &ids, k);
    else if (!st || !listing_each_sub(b, tenant, stream, app, settle_dead, k))
        return err_refuse(e, "not_found", 0, "tenant %s has no stream \"%s\"%s%s%s; `mysimbdp queue list` shows them", tenant,
                          stream, app ? " with an app \"" : "", app ? app : "", app ? "\"" : "");
    if (k->seq && !k->n && !listed)
        return err_refuse(e, "not_found", 0, "no dead letter %llu there; `mysimbdp dead list` shows them",
                          (unsigned long long)k->seq);
    return 0;
}

static int settle(struct broker *b, struct ctl_conn *c, const bson_t *rq, bool replay, struct err *e)
{
    const char *tenant = json_get_str(rq, "tenant_id", NULL);
    bool gateway = ctl_is_guest(c, "gateway");
    struct settling k = {
        .seq = (uint64_t)json_get_i64(rq, "seq", 0), .replay = replay, .most = gateway ? GATEWAY_SETTLED : INT64_MAX};
    AUTO_BUF struct buf out = {0};
    if (!tenant || !json_get_str(rq, "stream", NULL))
        return err_set(e, ERR_USAGE, "the request names no tenant or no stream");
    const struct broker_tenant *t = map_get(&b->tenants, tenant);
    if (gateway && t && t->suspended)
        return err_refuse(e, "suspended", 0, "tenant %s is suspended", tenant);
    int r = moving_forbids(t, e);
    if (r == 0)
        r = settle_named(b, rq, &k, e);
    if (r < 0)
        return r;
    streams_commit(b->streams, true); /* before it is answered */
    broker_turn_soon(b);
    json_begin(&out, NULL, '{');
    json_bool(&out, "ok", true);
    json_i64(&out, "n", k.n);
    json_bool(&out, "more", k.more);
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
    retention_clock_now(&b->age);
    json_i64(&out, "clock_ahead_s", b->age.ahead_ms / 1000);
    json_i64(&out, "peers", (int64_t)b->sessions.n);
    json_i64(&out, "requests", (int64_t)b->n_requests);
    json_i64(&out, "refused", (int64_t)b->n_refused);
    kafka_tell_all(b, &out);
    json_str(&out, "publishing", streams_full(b->streams) ? "refused: the disk is full" : "open");
    json_end(&out, '}');
    ctl_send(c, &out);
}

static void tell_if_waiting(struct broker_sub *bs, void *watcher)
{
    if (bs->whole == bs)
        watchers_tell(watcher, bs);
}

static int watch(struct broker *b, struct ctl_conn *c, struct err *e)
{
    if (watchers_add(b, c) < 0)
        return err_set(e, ERR_REFUSED, "as many programs as may already watch this broker");
    ctl_answer(c, NULL);
    listing_each_sub(b, NULL, NULL, NULL, tell_if_waiting, c);
    return 1;
}

static int forget(struct broker *b, const char *tenant, struct err *e)
{
    if (conf_tenant(b->conf, tenant))
        return err_set(e, ERR_REFUSED, "tenant %s still has a configuration; its streams are not removed", tenant);
    size_t i = 0;
    for (struct stream *stream; (stream = streams_next(b->streams, &i));) {
        struct broker_stream *st = stream_tag(stream);
        if (strcmp(st->tenant->id, tenant) != 0)
            continue;
        consume_end_stream(b, st);
        config_forget(st);
        streams_drop(b->streams, stream);
    }
    moving_forget(b, tenant);
    streams_commit(b->streams, true);
    return 0;
}

static void account(struct broker *b)
{
    journal_interval(b);
    streams_commit(b->streams, true);
    auth_read_tenants(b); /* the keeper answers when it has written the lines */
}

/* Exactly the sessions in the list v are held from here on; NULL: none. */
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
        deliver_want_all(b);
}

static void add_waiting(struct broker_sub *bs, void *arg)
{
    if (bs->told)
        watchers_add_sub(arg, NULL, bs);
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
    listing_consumers(b, &out);
    json_end(&out, ']');
    json_begin(&out, "waiting", '[');
    listing_each_sub(b, NULL, NULL, NULL, add_waiting, &out);
    json_end(&out, ']');
    json_end(&out, '}');
    ctl_send(c, &out);
}

static void queues(struct broker *b, struct ctl_conn *c, const char *tenant)
{
    AUTO_BUF struct buf out = {0};
    json_begin(&out, NULL, '{');
    json_bool(&out, "ok", true);
    json_begin(&out, "queues", '[');
    listing_streams(b, &out, tenant);
    json_end(&out, ']');
    json_end(&out, '}');
    ctl_send(c, &out);
}

static void figures(struct broker *b, struct ctl_conn *c, const char *format)
{
    struct buf text = {0};
    size_t left_out = figures_write(b, &text, !strcmp(format, "openmetrics"));
    ctl_send_text(c, &text, left_out);
}

static int of_tenant(struct broker *b, struct ctl_conn *c, const bson_t *rq, struct err *e)
{
    const char *tenant = json_get_str(rq, "tenant_id", ""), *stream = json_get_str(rq, "stream", NULL);
    AUTO_BUF struct buf out = {0};
    json_begin(&out, NULL, '{');
    json_bool(&out, "ok", true);
    json_begin(&out, "streams", '[');
    if (!listing_of_tenant(b, &out, tenant, stream) && stream)
        return err_refuse(e, "not_found", 0, "tenant %s has no stream \"%s\"", tenant, stream);
    json_end(&out, ']');
    json_end(&out, '}');
    ctl_send(c, &out);
    return 1;
}

static int dead(struct broker *b, struct ctl_conn *c, const bson_t *rq, struct err *e)
{
    const char *cursor = json_get_str(rq, "cursor", NULL);
    bool gateway = ctl_is_guest(c, "gateway");
    int64_t most = gateway ? GATEWAY_DEAD : LISTING_MAX_DEAD, limit = json_get_i64(rq, "limit", most);
    struct dead_asked asked = {.tenant = json_get_str(rq, "tenant_id", NULL),
                               .stream = json_get_str(rq, "stream", NULL),
                               .app = json_get_str(rq, "app", NULL),
                               .after = (uint64_t)json_get_i64(rq, "after", 0),
                               .limit = limit < most ? limit : most,
                               .bounded = gateway};
    char next[DEAD_ID_SIZE] = "";
    AUTO_BUF struct buf out = {0};
    if (cursor && !listing_read_dead_id(cursor, &asked.after, &asked.after_app))
        return err_set(e, ERR_USAGE, "\"%.64s\" is not the `next` of a list of dead letters", cursor);
    AUTO_FREE char *full = gateway && asked.stream ? xasprintf("%s/%s", asked.tenant, asked.stream) : NULL;
    if (full && !streams_find(b->streams, full))
        return err_refuse(e, "not_found", 0, "tenant %s has no stream \"%s\"", asked.tenant, asked.stream);
    json_begin(&out, NULL, '{');
    json_bool(&out, "ok", true);
    json_begin(&out, "dead", '[');
    bool more = listing_dead(b, &out, &asked, next);
    json_end(&out, ']');
    json_bool(&out, "more", more);
    json_str(&out, "next", more && *next ? next : NULL);
    json_end(&out, '}');
    ctl_send(c, &out);
    return 1;
}

/* The gateway asks for one tenant at a time, which the configuration has. 0, or why not. */
static int check_tenant(struct broker *b, const struct ctl_conn *c, const char *op, const char *tenant, struct err *e)
{
    if (!ctl_is_guest(c, "gateway") || !strcmp(op, "status"))
        return 0;
    if (!tenant)
        return err_set(e, ERR_USAGE, "the request names no tenant");
    return conf_tenant(b->conf, tenant) ? 0 : err_refuse(e, "not_found", 0, "there is no tenant \"%s\"", tenant);
}

static int serve(void *arg, struct ctl_conn *c, const bson_t *rq, struct err *e)
{
    struct broker *b = arg;
    const char *op = json_get_str(rq, "op", ""), *tenant = json_get_str(rq, "tenant_id", NULL);
    broker_look_at_clocks(b);
    int r = check_tenant(b, c, op, tenant, e);
    if (r < 0)
        return r;
    if (!strcmp(op, "status"))
        return status(b, c), 1;
    if (!strcmp(op, "queues"))
        return queues(b, c, tenant), 1;
    if (!strcmp(op, "figures"))
        return figures(b, c, json_get_str(rq, "format", "")), 1;
    if (!strcmp(op, "streams") && tenant)
        return of_tenant(b, c, rq, e);
    if (!strcmp(op, "dead"))
        return dead(b, c, rq, e);
    if (!strcmp(op, "dead_replay") || !strcmp(op, "dead_drop"))
        return settle(b, c, rq, !strcmp(op, "dead_replay"), e);
    if (!strcmp(op, "reload"))
        return config_reload(b, e);
    if (!strcmp(op, "trust_clock"))
        return retention_clock_trust(&b->age), 0;
    if (!strcmp(op, "tenants"))
        return auth_read_tenants(b), deliver_want_all(b), 0;
    if (!strcmp(op, "resume") && tenant)
        return auth_read_tenants(b), deliver_want_all(b), cut_off_resume(b, tenant);
    if (!strcmp(op, "account"))
        return account(b), 0;
    if (!strcmp(op, "forget") && tenant)
        return forget(b, tenant, e);
    if (!strncmp(op, "move_", strlen("move_")))
        return moving_serve(b, c, op, rq, e);
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
    moving_gone(b, c);
    watchers_remove(b, c);
}

int control_start(struct broker *b, struct err *e)
{
    static const char *const of_monitor[] = {"queues", NULL}, *const of_streammgr[] = {"status", "watch", "consumers", NULL},
                             *const of_gateway[] = {"status", "streams", "dead", "dead_replay", "dead_drop", NULL};
    const int64_t base = b->conf->platform.uid_base;
    const struct ctl_guest guests[] = {
        {"monitor", uid_of_program(&b->home, base, UID_MONITOR), CTL_BY_GROUP, of_monitor},
        {"streammgr", uid_of_program(&b->home, base, UID_STREAMMGR), CTL_BY_CAPABILITY, of_streammgr},
        {"gateway", b->gateway_uid, CTL_BY_SOCKET, of_gateway}};
    AUTO_FREE char *path = home_socket(&b->home, "broker.sock");
    return ctl_new(
        b->base, path,
        &(struct ctl_ops){.serve = serve, .gone = gone, .arg = b, .guests = guests, .n_guests = sizeof guests / sizeof *guests},
        &b->ctl, e);
}

void control_stop(struct broker *b)
{
    ctl_free(b->ctl);
    watchers_end(b);
}
