#include "broker.h"

#include "base/clk.h"
#include "base/log.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
    TENANT_TURN_BYTES = 256 << 10, /* published by one tenant in a turn; the rest of its requests waits */
    MAX_PARKED_BYTES = 16 << 20,   /* of a tenant */
    PARKED_OVERHEAD = 512,
    BUSY_RETRY_MS = 50,
    MAX_WINDOW = 65536,
    MAX_WINDOW_BYTES = 64 << 20,
    MAX_SUBSCRIPTIONS = 64, /* of a peer */
    MAX_CONSUMERS = 1024,   /* of a subscription */
    FULL_RETRY_MS = 1000,
    TELL_MS = 10000,
};

/* ---- sessions ---- */

static struct session *session_new(struct broker *b, struct zmtp_conn *c)
{
    struct session *s = xcalloc(1, sizeof *s);
    *s = (struct session){.b = b, .conn = c, .number = ++b->last_session};
    s->key = xasprintf("%llu", (unsigned long long)s->number);
    map_put(&b->sessions, s->key, s);
    auth_identify(b, s);
    return s;
}

static void forget_parked(struct session *s);

static void end_subscription(struct session *s, size_t i, bool lost)
{
    struct subscription *sub = s->subscriptions[i];
    struct bsub *bs = sub_tag(consumer_sub(sub->consumer));
    consumer_detach(sub->consumer, lost, s->b->wall_ms);
    free(sub);
    s->subscriptions[i] = s->subscriptions[--s->n_subscriptions];
    deliver_want(bs);
    broker_turn_soon(s->b);
}

void session_end(struct session *s, bool lost)
{
    while (s->n_subscriptions)
        end_subscription(s, s->n_subscriptions - 1, lost);
    map_remove(&s->b->sessions, s->key);
    forget_parked(s);
    struct answer *v = (struct answer *)s->b->answers.p;
    for (size_t i = 0; i < s->b->answers.n / sizeof *v; i++)
        if (v[i].session == s)
            v[i].session = NULL;
    free(s->subscriptions);
    free(s->key);
    zmtp_set_tag(s->conn, NULL);
    free(s);
}

void session_end_all(struct broker *b)
{
    size_t i = 0;
    for (struct session *s; (s = map_next(&b->sessions, &i)); i = 0)
        session_end(s, false);
    map_fini(&b->sessions);
}

void session_drop_sub(struct broker *b, struct bsub *sub)
{
    size_t i = 0;
    for (struct session *s; (s = map_next(&b->sessions, &i));)
        for (size_t k = 0; k < s->n_subscriptions;)
            if (consumer_sub(s->subscriptions[k]->consumer) == sub->queue)
                end_subscription(s, k, false);
            else
                k++;
}

int session_send(struct session *s, const struct wire_frame *v, size_t n)
{
    int r = zmtp_send(s->conn, v, n);
    int64_t *told_ms = s->tenant ? &s->tenant->told_deaf_ms : &s->b->told_deaf_ms;
    if (r < 0 && !s->deaf && (!*told_ms || s->b->now_ms - *told_ms >= TELL_MS)) {
        *told_ms = s->b->now_ms;
        log_warn("deaf", s->tenant ? s->tenant->id : NULL, NULL,
                 "peer %s does not read its answers; it is not listened to until it does", zmtp_user(s->conn));
    }
    s->deaf = r < 0;
    return r;
}

static void refuse(struct session *s, const struct wire_header *h, enum wire_code code, int64_t retry_after_ms, const char *fmt,
                   ...) __attribute__((format(printf, 5, 6)));

static void refuse(struct session *s, const struct wire_header *h, enum wire_code code, int64_t retry_after_ms, const char *fmt,
                   ...)
{
    char text[512];
    AUTO_BUF struct buf header = {0}, wait = {0};
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    wire_add_header(&header, WIRE_REFUSED, h->consumer, h->request);
    le_add_u32(&wait, (uint32_t)retry_after_ms);
    const char *name = wire_code_name(code);
    struct wire_frame v[] = {{header.p, header.n}, {name, strlen(name)}, {wait.p, wait.n}, {text, strlen(text)}};
    s->b->n_refused++;
    session_send(s, v, 4);
    log_debug("refused", s->tenant ? s->tenant->id : NULL, NULL, "peer %s: %s: %s", zmtp_user(s->conn), name, text);
}

static void done(struct session *s, const struct wire_header *h, uint64_t n)
{
    struct answer a = {.session = s, .verb = WIRE_DONE, .consumer = h->consumer, .request = h->request, .first = n};
    if (!h->request)
        return; /* it does not want to know */
    buf_add(&s->b->answers, &a, sizeof a);
    broker_turn_soon(s->b);
}

/* The stream a request is about, if the peer may touch it: "stream" of its own tenant, or "tenant/stream". */
static struct bstream *stream_of(struct session *s, const struct wire_request *rq)
{
    char tenant[WIRE_MAX_NAME + 1];
    const char *slash = strchr(rq->stream, '/'), *name = slash ? slash + 1 : rq->stream;
    snprintf(tenant, sizeof tenant, "%.*s", slash ? (int)(slash - rq->stream) : 0, rq->stream);
    const char *id = slash ? tenant : s->tenant ? s->tenant->id : NULL;
    if (!s->tenant && !s->is_operator) {
        refuse(s, &rq->h, WIRE_auth, 0, "this peer (%s) is no tenant of this platform", zmtp_user(s->conn));
        return NULL;
    }
    if (!id) {
        refuse(s, &rq->h, WIRE_unknown, 0, "the operator names streams as TENANT/STREAM; \"%s\" has no tenant", rq->stream);
        return NULL;
    }
    if (!s->is_operator && strcmp(id, s->tenant->id)) {
        refuse(s, &rq->h, WIRE_auth, 0, "stream %s is not one of tenant %s", rq->stream, s->tenant->id);
        return NULL;
    }
    struct bstream *st = broker_stream(s->b, id, name);
    if (!st)
        refuse(s, &rq->h, WIRE_unknown, 0, "tenant %s has no stream \"%s\"; `streams` of its configuration lists them", id, name);
    return st;
}

/* ---- requests ---- */

static void breach(struct bstream *st, enum wire_code code, const char *detail)
{
    struct broker *b = st->b;
    journal_breach(st, code, detail);
    if (st->conf.on_breach == ON_BREACH_suspend &&
        breaches_add(&st->breaches, (size_t)st->conf.breaches, st->conf.breach_window_s * 1000, b->now_ms)) {
        st->cut_off = true;
        broker_save_cut_off(b);
        log_warn("cut_off", st->tenant->id, NULL,
                 "stream %s: %lld breaches within %lld s; publishing is refused until `mysimbdp tenant resume %s`", st->name,
                 (long long)st->conf.breaches, (long long)st->conf.breach_window_s, st->tenant->id);
        journal_cut_off(st, NULL, true);
    }
}

/* What the stream's configuration says against this request; true when it was refused. */
static bool breaks_limits(struct session *s, struct bstream *st, const struct wire_request *rq)
{
    char text[200];
    int64_t wait_ms = 0;
    enum wire_code code = limits_broken(st, rq, &wait_ms, text, sizeof text);
    if (code == WIRE_N_CODES)
        return false;
    stream_count_refusal(st->queue);
    refuse(s, &rq->h, code, wait_ms, "stream %s: %s", stream_name(st->queue), text);
    breach(st, code, text);
    return true;
}

static bool has_no_room(struct session *s, struct bstream *st, const struct wire_request *rq)
{
    struct stream_figures f;
    stream_figures(st->queue, &f);
    bool capped = st->conf.max_stored_bytes >= 0 && f.bytes + (int64_t)rq->n_bytes > st->conf.max_stored_bytes;
    if (!capped && !queues_full(s->b->queues))
        return false;
    stream_count_refusal(st->queue);
    if (capped)
        refuse(s, &rq->h, WIRE_full, FULL_RETRY_MS, "stream %s holds %" PRId64 " bytes; max_stored_bytes is %" PRId64,
               stream_name(st->queue), f.bytes, st->conf.max_stored_bytes);
    else
        refuse(s, &rq->h, WIRE_full, FULL_RETRY_MS, "the broker's disk is full");
    return true;
}

/* ---- a tenant's share of a turn ---- */

/* A request that waits for the next turn. */
struct parked {
    struct session *session; /* NULL: gone */
    struct zmtp_message m;
    int64_t bytes;
    struct parked *next;
};

static void park(struct session *s, const struct wire_request *rq, struct btenant *t, struct zmtp_message *m)
{
    if (t->parked_bytes + (int64_t)rq->n_bytes > MAX_PARKED_BYTES) {
        refuse(s, &rq->h, WIRE_busy, BUSY_RETRY_MS, "tenant %s sends more at once than the broker takes", t->id);
        return;
    }
    struct parked *p = xcalloc(1, sizeof *p);
    *p = (struct parked){.session = s, .bytes = (int64_t)rq->n_bytes + PARKED_OVERHEAD};
    zmtp_message_move(&p->m, m);
    if (!t->first_parked)
        t->last_parked = &t->first_parked;
    *t->last_parked = p;
    t->last_parked = &p->next;
    t->parked_bytes += p->bytes;
    if (!t->parking) {
        t->parking = true;
        t->next = s->b->parking;
        s->b->parking = t;
    }
}

static void forget_parked(struct session *s)
{
    for (struct btenant *t = s->b->parking; t; t = t->next)
        for (struct parked *p = t->first_parked; p; p = p->next)
            if (p->session == s)
                p->session = NULL;
}

static void publish_now(struct session *s, const struct wire_request *rq, struct bstream *st);

static void publish(struct session *s, const struct wire_request *rq, struct zmtp_message *m)
{
    struct bstream *st = stream_of(s, rq);
    if (!st)
        return;
    if (st->tenant->first_parked || st->tenant->turn_bytes >= TENANT_TURN_BYTES)
        park(s, rq, st->tenant, m);
    else
        publish_now(s, rq, st);
}

static void unpark_one(struct btenant *t)
{
    struct parked *p = t->first_parked;
    static struct wire_request rq;
    const char *why;
    t->first_parked = p->next;
    t->parked_bytes -= p->bytes;
    struct bstream *st = NULL;
    if (p->session && wire_parse(p->m.f, p->m.n, &rq, &why))
        st = stream_of(p->session, &rq); /* it may be gone by now */
    if (st)
        publish_now(p->session, &rq, st);
    zmtp_message_fini(&p->m);
    free(p);
}

bool session_unpark(struct broker *b)
{
    size_t i = 0;
    struct btenant *v = b->parking;
    b->parking = NULL;
    for (struct btenant *t; (t = map_next(&b->tenants, &i));)
        t->turn_bytes = 0;
    while (v) {
        struct btenant *t = v;
        v = t->next;
        while (t->first_parked && t->turn_bytes < TENANT_TURN_BYTES)
            unpark_one(t);
        t->parking = t->first_parked != NULL;
        if (t->parking) {
            t->next = b->parking;
            b->parking = t;
        }
    }
    return b->parking != NULL;
}

static void refuse_suspended(struct session *s, const struct wire_request *rq, const struct bstream *st)
{
    const char *name = stream_name(st->queue);
    if (st->cut_off && st->too_many_rejects)
        refuse(s, &rq->h, WIRE_suspended, 0,
               "stream %s was cut off: of its messages an app refused more than max_reject_pct = %g; the operator resumes it", name,
               st->conf.max_reject_pct);
    else if (st->cut_off)
        refuse(s, &rq->h, WIRE_suspended, 0,
               "stream %s was cut off: %" PRId64 " breaches of its limits within %" PRId64 " s; the operator resumes it", name,
               st->conf.breaches, st->conf.breach_window_s);
    else
        refuse(s, &rq->h, WIRE_suspended, 0, "the tenant of stream %s is suspended", name);
}

static void publish_now(struct session *s, const struct wire_request *rq, struct bstream *st)
{
    struct broker *b = s->b;
    st->tenant->turn_bytes += (int64_t)rq->n_bytes + PARKED_OVERHEAD;
    if (st->tenant->suspended || st->cut_off) {
        stream_count_refusal(st->queue);
        refuse_suspended(s, rq, st);
        return;
    }
    if (breaks_limits(s, st, rq) || has_no_room(s, st, rq))
        return;
    AUTO_FREE struct message *v = xmalloc(rq->n * sizeof *v);
    const unsigned char *p = rq->bytes;
    for (size_t i = 0; i < rq->n; i++) {
        v[i] = (struct message){p, le_u32(rq->lengths + i * 4)};
        p += v[i].n;
    }
    struct answer c = {.session = s, .verb = WIRE_CONFIRM, .request = rq->h.request};
    size_t known;
    int r = stream_publish(st->queue, rq->publisher, rq->number, v, rq->n, b->wall_ms, &c.first, &known);
    if (r < 0) {
        stream_count_refusal(st->queue);
        refuse(s, &rq->h, WIRE_full, FULL_RETRY_MS, "the broker's disk is full: %s", err_text(r));
        return;
    }
    bucket_take(&st->messages, st->conf.max_messages_per_s, (int64_t)rq->n);
    bucket_take(&st->bytes, st->conf.max_bytes_per_s, (int64_t)rq->n_bytes);
    c.known = (uint32_t)known;
    c.stored = (uint32_t)(rq->n - known);
    buf_add(&b->answers, &c, sizeof c);
    size_t i = 0;
    for (struct sub *sub; (sub = stream_next_sub(st->queue, &i));)
        deliver_want(sub_tag(sub));
}

void session_send_answers(struct broker *b)
{
    struct answer *v = (struct answer *)b->answers.p;
    size_t n = b->answers.n / sizeof *v;
    AUTO_BUF struct buf header = {0}, body = {0};
    for (size_t i = 0; i < n; i++) {
        if (!v[i].session)
            continue;
        header.n = body.n = 0;
        wire_add_header(&header, v[i].verb, v[i].consumer, v[i].request);
        le_add_u64(&body, v[i].first);
        if (v[i].verb == WIRE_CONFIRM) {
            le_add_u32(&body, v[i].stored);
            le_add_u32(&body, v[i].known);
        }
        struct wire_frame f[] = {{header.p, header.n}, {body.p, body.n}};
        session_send(v[i].session, f, 2);
    }
    b->answers.n = 0;
}

static struct subscription *subscription(struct session *s, uint16_t tag, size_t *ret_i)
{
    for (size_t i = 0; i < s->n_subscriptions; i++)
        if (s->subscriptions[i]->tag == tag) {
            *ret_i = i;
            return s->subscriptions[i];
        }
    return NULL;
}

static void subscribe(struct session *s, const struct wire_request *rq)
{
    size_t i;
    struct bstream *st = stream_of(s, rq);
    struct bsub *bs = st ? broker_sub(st, rq->subscription) : NULL;
    struct subscription *sub = subscription(s, rq->h.consumer, &i);
    struct sub_figures f;
    if (!st)
        return;
    if (!bs) {
        refuse(s, &rq->h, WIRE_unknown, 0, "stream %s has no subscription \"%s\"; each of the tenant's `stream_apps` is one",
               stream_name(st->queue), rq->subscription);
        return;
    }
    if (st->tenant->suspended) {
        refuse(s, &rq->h, WIRE_suspended, 0, "tenant %s is suspended", st->tenant->id);
        return;
    }
    if (sub && consumer_sub(sub->consumer) != bs->queue) {
        refuse(s, &rq->h, WIRE_protocol, 0, "consumer %u of this connection is subscribed to something else", rq->h.consumer);
        return;
    }
    sub_figures(bs->queue, &f);
    if (!sub && f.n_consumers >= MAX_CONSUMERS) {
        refuse(s, &rq->h, WIRE_quota, 0, "a subscription may have %d consumers", MAX_CONSUMERS);
        return;
    }
    if (!sub && s->n_subscriptions == MAX_SUBSCRIPTIONS) {
        refuse(s, &rq->h, WIRE_quota, 0, "a connection may have %d subscriptions", MAX_SUBSCRIPTIONS);
        return;
    }
    if (!sub) {
        sub = xcalloc(1, sizeof *sub);
        *sub = (struct subscription){.tag = rq->h.consumer, .session = s};
        sub->consumer = sub_attach(bs->queue, sub);
        sub_epoch(bs->queue, sub_floor(bs->queue), sub->epoch);
        s->subscriptions = xrealloc(s->subscriptions, (s->n_subscriptions + 1) * sizeof(struct subscription *));
        s->subscriptions[s->n_subscriptions++] = sub;
    }
    consumer_set_window(sub->consumer, rq->max_messages < MAX_WINDOW ? rq->max_messages : MAX_WINDOW,
                        rq->max_bytes < MAX_WINDOW_BYTES ? rq->max_bytes : MAX_WINDOW_BYTES);
    deliver_terms(sub, rq->h.request);
    deliver_want(bs);
}

static int by_first(const void *a, const void *b)
{
    const struct range *x = a, *y = b;
    return x->first < y->first ? -1 : x->first > y->first;
}

/* In order and apart, so that no message is looked at twice; how many are left. */
static size_t merge(struct range *v, size_t n)
{
    size_t k = 0;
    qsort(v, n, sizeof *v, by_first);
    for (size_t i = 1; i < n; i++)
        if (v[i].first > v[k].last)
            v[++k] = v[i];
        else if (v[i].last > v[k].last)
            v[k].last = v[i].last;
    return k + 1;
}

/* The one the request is about; refused when there is none. */
static struct subscription *subscription_of(struct session *s, const struct wire_request *rq, size_t *ret_i)
{
    struct subscription *sub = subscription(s, rq->h.consumer, ret_i);
    if (!sub)
        refuse(s, &rq->h, WIRE_unknown, 0, "consumer %u of this connection has no subscription", rq->h.consumer);
    return sub;
}

static uint64_t acknowledge(struct bsub *bs, const struct range *v, const uint32_t *rows, size_t n_ranges)
{
    uint64_t before = sub_tally(bs->queue)->v[TALLY_ROWS], n = sub_ack(bs->queue, v, rows, n_ranges, bs->stream->b->now_ms);
    limits_take_rows(bs, rows ? sub_tally(bs->queue)->v[TALLY_ROWS] - before : n);
    return n;
}

static void settle(struct session *s, const struct wire_request *rq)
{
    struct broker *b = s->b;
    size_t i;
    struct subscription *sub = subscription_of(s, rq, &i);
    static struct range v[WIRE_MAX_RANGES];
    static uint32_t rows[WIRE_MAX_RANGES];
    uint64_t n = 0;
    if (!sub)
        return;
    for (i = 0; i < rq->n; i++) {
        struct wire_range r = wire_range_at(rq, i);
        v[i] = (struct range){r.first, r.last};
        rows[i] = rq->rows ? le_u32(rq->rows + i * 4) : 0;
    }
    struct bsub *bs = sub_tag(consumer_sub(sub->consumer));
    consumer_heard(sub->consumer);
    size_t n_ranges = rq->rows ? rq->n : merge(v, rq->n);
    if (rq->h.verb == WIRE_ACK)
        n = acknowledge(bs, v, rq->rows ? rows : NULL, n_ranges);
    else if (rq->h.verb == WIRE_NACK)
        n = consumer_nack(sub->consumer, v, n_ranges, rq->delay_ms == WIRE_NEVER ? -1 : (int64_t)rq->delay_ms, rq->reason,
                          b->now_ms, b->wall_ms);
    else
        n = consumer_extend(sub->consumer, v, n_ranges, b->now_ms);
    done(s, &rq->h, n);
    deliver_want(bs);
}

static void unsubscribe(struct session *s, const struct wire_request *rq)
{
    size_t i;
    if (!subscription_of(s, rq, &i))
        return;
    end_subscription(s, i, false);
    done(s, &rq->h, 0);
}

static void describe(struct session *s, const struct wire_request *rq)
{
    struct bstream *st = stream_of(s, rq);
    AUTO_BUF struct buf header = {0}, terms = {0};
    if (!st)
        return;
    wire_add_header(&header, WIRE_DESCRIBED, 0, rq->h.request);
    le_add_u64(&terms, (uint64_t)st->conf.max_message_bytes);
    le_add_u32(&terms, (uint32_t)limits_messages(&st->conf));
    le_add_u64(&terms, (uint64_t)limits_bytes(&st->conf));
    struct wire_frame v[] = {{header.p, header.n}, {terms.p, terms.n}};
    session_send(s, v, 2);
}

static void act(struct session *s, const struct wire_request *rq, struct zmtp_message *m)
{
    AUTO_BUF struct buf header = {0};
    switch (rq->h.verb) {
    case WIRE_PUBLISH:
        publish(s, rq, m);
        break;
    case WIRE_DESCRIBE:
        describe(s, rq);
        break;
    case WIRE_SUBSCRIBE:
        subscribe(s, rq);
        break;
    case WIRE_UNSUBSCRIBE:
        unsubscribe(s, rq);
        break;
    case WIRE_ACK:
    case WIRE_NACK:
    case WIRE_EXTEND:
        settle(s, rq);
        break;
    default:
        wire_add_header(&header, WIRE_PONG, 0, rq->h.request);
        session_send(s, &(struct wire_frame){header.p, header.n}, 1);
    }
}

/* Whether it reads by now is found out by telling it what it missed. */
static bool hears_again(struct session *s)
{
    struct wire_header none = {0};
    refuse(s, &none, WIRE_busy, 0,
           "%" PRIu64 " requests of this peer were not listened to while it did not read its answers; "
           "send again what was not answered",
           s->n_unheard);
    if (s->deaf)
        return false;
    s->n_unheard = 0;
    for (size_t i = 0; i < s->n_subscriptions; i++)
        deliver_want(sub_tag(consumer_sub(s->subscriptions[i]->consumer)));
    return true;
}

/* ---- connections ---- */

void session_on_open(void *broker, struct zmtp_conn *c)
{
    zmtp_set_tag(c, session_new(broker, c));
}

void session_on_close(void *broker, struct zmtp_conn *c)
{
    (void)broker;
    if (zmtp_tag(c)) /* the broker ends: sessions went first */
        session_end(zmtp_tag(c), true);
}

/* What it missed it is told at once, and gets its messages again. */
void session_on_drain(void *broker, struct zmtp_conn *c)
{
    struct session *s = zmtp_tag(c);
    if (!s || (s->deaf && !hears_again(s)))
        return;
    for (size_t i = 0; i < s->n_subscriptions; i++)
        deliver_want(sub_tag(consumer_sub(s->subscriptions[i]->consumer)));
    broker_turn_soon(broker);
}

void session_on_message(void *broker, struct zmtp_conn *c, struct zmtp_message *m)
{
    static struct wire_request rq;
    struct broker *b = broker;
    struct session *s = zmtp_tag(c);
    const char *why;
    broker_look_at_clocks(b);
    if (!s->tenant && !s->is_operator)
        auth_identify(b, s); /* it may be known by now */
    b->n_requests++;
    bool ok = wire_parse(m->f, m->n, &rq, &why) && !m->too_many;
    if (s->deaf && !hears_again(s))
        s->n_unheard++;
    else if (!ok)
        refuse(s, &rq.h, WIRE_protocol, 0, "%s", m->too_many ? "too many frames" : why);
    else
        act(s, &rq, m);
    broker_turn_soon(b);
}
