/* Acknowledging first: DONE says how many messages an ACK changed. One that it did not change another consumer had, since our lease
 * was over when we came to read it, and it is not ours to give out. A DELIVER that may have lain unread for so long, or has
 * messages that were delivered before, is acknowledged
 * by a request for each message, so that it is known which; any other by one request, of which all are ours, or, should it be
 * otherwise all the same, none. How long it may have lain is told by the answer in front of it: what the broker sent behind an
 * answer it sent after our request. What was not answered when the connection ended may be acknowledged or not: it is not given
 * out, and comes again if it was not. */
#include "subscriber.h"

#include "base/clk.h"
#include "base/mem_try.h"

#include <stdio.h>
#include <string.h>

enum { TAG = 1, SUBSCRIBE_REQUEST = 1, AGAIN_MS = 5000, FIRST_REQUEST = 16, OWED_MS = 1000 };

/* A DELIVER that was acknowledged first. */
struct early {
    struct buf list, bodies, traces;
    unsigned char epoch[WIRE_EPOCH_BYTES];
    uint32_t request; /* of its first message; the others follow, unless it is one for the whole */
    bool whole;
    int64_t sent_ms;
    size_t n, answered;
    enum whose { UNKNOWN, OURS, NOT_OURS } * whose;
    struct early *next;
};

struct subscriber {
    struct link *link;
    char *stream, *subscription;
    uint32_t max_messages, lease_ms;
    uint64_t max_bytes;
    unsigned char epoch[WIRE_EPOCH_BYTES]; /* of what is delivered next */
    int64_t subscribe_ms;                  /* to be sent (again) then */
    struct subscriber_message *v;
    size_t cap;
    bool first, finishing, wants_traces;
    int64_t since_ms; /* what is read now was sent after that */
    uint32_t next_request;
    struct early *early, **last; /* in the order they came */
    struct early *given;         /* whose bytes the caller has */
};

int subscriber_open(const char *endpoint, const struct link_keys *keys, const char *stream, const char *subscription,
                    uint32_t max_messages, uint64_t max_bytes, struct subscriber **ret, struct err *e)
{
    AUTO_SUBSCRIBER struct subscriber *s = xcalloc(1, sizeof *s);
    int r = link_open(endpoint, keys, &s->link, e);
    if (r < 0)
        return r;
    s->stream = xstrdup(stream);
    s->subscription = xstrdup(subscription);
    s->max_messages = max_messages;
    s->max_bytes = max_bytes;
    s->next_request = FIRST_REQUEST;
    s->last = &s->early;
    *ret = TAKE(s);
    return 0;
}

static bool send(struct subscriber *s, enum wire_verb verb, uint32_t request, const struct wire_frame *more, size_t n)
{
    AUTO_BUF struct buf header = {0};
    struct wire_frame v[WIRE_MAX_FRAMES];
    wire_add_header(&header, verb, TAG, request);
    v[0] = (struct wire_frame){header.p, header.n};
    for (size_t i = 0; i < n; i++)
        v[i + 1] = more[i];
    return link_send(s->link, v, n + 1);
}

static void free_early(struct early *x)
{
    if (!x)
        return;
    buf_fini(&x->list);
    buf_fini(&x->bodies);
    buf_fini(&x->traces);
    free(x->whose);
    free(x);
}

AUTO_DEFINE(early, free_early)
#define AUTO_EARLY __attribute__((cleanup(free_early_auto)))

/* Gives back what is held, so that others need not wait for the lease's end. */
static void say_goodbye(void *arg)
{
    struct subscriber *s = arg;
    struct link_answer a;
    send(s, WIRE_UNSUBSCRIBE, 2, NULL, 0);
    for (int64_t until = clk_now_ms() + 200; clk_now_ms() < until;)
        if (link_receive(s->link, 50, &a) && a.h.request == 2)
            break;
}

void subscriber_close(struct subscriber *s)
{
    if (!s)
        return;
    free_early(s->given);
    for (struct early *x; (x = s->early);) {
        s->early = x->next;
        free_early(x);
    }
    if (s->link && s->subscription)
        mem_try(say_goodbye, s); /* it is closed either way */
    link_close(s->link);
    free(s->stream);
    free(s->subscription);
    free(s->v);
    free(s);
}

void subscriber_watch(struct subscriber *s, int fd)
{
    link_watch(s->link, fd);
}

void subscriber_set_window(struct subscriber *s, uint32_t max_messages, uint64_t max_bytes)
{
    s->max_messages = max_messages;
    s->max_bytes = max_bytes;
    s->subscribe_ms = 0;
}

static void subscribe(struct subscriber *s, int64_t now)
{
    AUTO_BUF struct buf window = {0}, wants = {0};
    le_add_u32(&window, s->max_messages);
    le_add_u64(&window, s->max_bytes);
    le_add_u32(&wants, WIRE_WANTS_TRACES);
    struct wire_frame v[] = {
        {s->stream, strlen(s->stream)}, {s->subscription, strlen(s->subscription)}, {window.p, window.n}, {wants.p, wants.n}};
    send(s, WIRE_SUBSCRIBE, SUBSCRIBE_REQUEST, v, s->wants_traces ? 4 : 3);
    s->subscribe_ms = now + AGAIN_MS;
}

/* Of message i; frame p NULL: none has one. */
static const unsigned char *trace_at(const struct wire_frame *traces, size_t i)
{
    static const unsigned char none[WIRE_TRACE_BYTES];
    const unsigned char *p = traces->p ? (const unsigned char *)traces->p + i * WIRE_TRACE_BYTES : none;
    return memcmp(p, none, sizeof none) ? p : NULL;
}

/* List, bodies and traces, which may have no bytes. False when the frames do not fit together. */
static bool take_batch(struct subscriber *s, const struct wire_frame v[3], struct subscriber_batch *ret)
{
    if (v[0].n % WIRE_DELIVERY_BYTES || (v[2].p && v[2].n != v[0].n / WIRE_DELIVERY_BYTES * WIRE_TRACE_BYTES))
        return false;
    const char *list = v[0].p, *p = v[1].p;
    size_t n = v[0].n / WIRE_DELIVERY_BYTES, left = v[1].n;
    if (n > s->cap) {
        s->cap = n;
        s->v = xrealloc(s->v, n * sizeof *s->v);
    }
    for (size_t i = 0; i < n; i++, list += WIRE_DELIVERY_BYTES) {
        uint32_t len = le_u32(list + 20);
        if (len > left)
            return false;
        s->v[i] =
            (struct subscriber_message){le_u64(list), (int64_t)le_u64(list + 8), le_u32(list + 16), p, len, trace_at(&v[2], i)};
        p += len;
        left -= len;
    }
    *ret = (struct subscriber_batch){s->v, n, {0}};
    memcpy(ret->epoch, s->epoch, sizeof ret->epoch);
    return n > 0;
}

static bool take_delivery(struct subscriber *s, const struct link_answer *a, struct subscriber_batch *ret)
{
    const struct wire_frame none = {0};
    return (a->n == 2 || a->n == 3) && take_batch(s, (struct wire_frame[]){a->v[0], a->v[1], a->n == 3 ? a->v[2] : none}, ret);
}

/* ---- acknowledging first ---- */

void subscriber_want_traces(struct subscriber *s)
{
    s->wants_traces = true;
}

void subscriber_ack_first(struct subscriber *s)
{
    s->first = true;
}

/* The answer for one of x, or for all of it. */
static void answered(struct early *x, size_t i, enum whose whose)
{
    for (size_t k = x->whole ? 0 : i; k < (x->whole ? x->n : i + 1); k++)
        x->whose[k] = whose;
    x->answered += x->whole ? x->n : 1;
}

static void ack_each(struct subscriber *s, struct early *x)
{
    AUTO_BUF struct buf range = {0};
    for (size_t i = 0; i < x->n; i++) {
        uint64_t seq = le_u64(x->list.p + i * WIRE_DELIVERY_BYTES);
        if (x->whose[i] != UNKNOWN)
            continue;
        range.n = 0;
        le_add_u64(&range, seq);
        le_add_u64(&range, seq);
        if (!send(s, WIRE_ACK, x->request + (uint32_t)i, &(struct wire_frame){range.p, range.n}, 1))
            answered(x, i, NOT_OURS); /* it comes again */
    }
}

static void ack_whole(struct subscriber *s, struct early *x)
{
    AUTO_BUF struct buf ranges = {0};
    uint64_t first = 0, last = 0;
    for (size_t i = 0; i < x->n; i++) {
        uint64_t seq = le_u64(x->list.p + i * WIRE_DELIVERY_BYTES);
        if (i && seq != last + 1) {
            le_add_u64(&ranges, first);
            le_add_u64(&ranges, last);
        }
        first = i && seq == last + 1 ? first : seq;
        last = seq;
    }
    le_add_u64(&ranges, first);
    le_add_u64(&ranges, last);
    if (!send(s, WIRE_ACK, x->request, &(struct wire_frame){ranges.p, ranges.n}, 1))
        answered(x, 0, NOT_OURS);
}

static void acknowledge(struct subscriber *s, struct early *x)
{
    if (x->answered == x->n)
        return;
    if (x->whole)
        ack_whole(s, x);
    else
        ack_each(s, x);
}

/* What is delivered again we may have acknowledged just now, when the first delivery was read late. */
static bool is_new(const struct subscriber_batch *b)
{
    for (size_t i = 0; i < b->n; i++)
        if (b->v[i].deliveries != 1)
            return false;
    return true;
}

static void take_early(struct subscriber *s, const struct link_answer *a, const struct subscriber_batch *b)
{
    AUTO_EARLY struct early *x = xcalloc(1, sizeof *x);
    int64_t now = clk_now_ms();
    buf_add(&x->list, a->v[0].p, a->v[0].n);
    buf_add(&x->bodies, a->v[1].p, a->v[1].n);
    if (a->n == 3)
        buf_add(&x->traces, a->v[2].p, a->v[2].n);
    memcpy(x->epoch, s->epoch, sizeof x->epoch);
    x->n = b->n;
    x->whose = xcalloc(x->n, sizeof *x->whose);
    x->sent_ms = now;
    x->whole = x->n <= WIRE_MAX_RANGES && (now - s->since_ms) * 4 < s->lease_ms && is_new(b);
    if (s->next_request + (uint32_t)x->n < s->next_request)
        s->next_request = FIRST_REQUEST;
    x->request = s->next_request;
    s->next_request += (uint32_t)x->n;
    acknowledge(s, x);
    *s->last = x;
    s->last = &TAKE(x)->next;
}

/* An answer to an acknowledgement; false: it is to something else. */
static bool take_answer(struct subscriber *s, const struct link_answer *a)
{
    bool done = a->h.verb == WIRE_DONE && a->n == 1 && a->v[0].n == 8;
    for (struct early *x = s->early; x && (done || a->h.verb == WIRE_REFUSED); x = x->next) {
        uint32_t i = a->h.request - x->request;
        if (i >= x->n || x->whose[i] != UNKNOWN)
            continue;
        answered(x, i, done && le_u64(a->v[0].p) == (x->whole ? x->n : 1) ? OURS : NOT_OURS);
        if (done && x->sent_ms > s->since_ms)
            s->since_ms = x->sent_ms; /* what comes behind this was sent later */
        return done;
    }
    return false;
}

/* Told that it was not listened to for a while: what has no answer by now was not read. */
static void ask_again(struct subscriber *s)
{
    for (struct early *x = s->early; x; x = x->next)
        acknowledge(s, x);
}

/* What is not answered will not be. */
static void give_up_answers(struct subscriber *s)
{
    for (struct early *x = s->early; x; x = x->next)
        x->answered = x->n;
}

/* The next batch that is known to be ours. */
static bool give_early(struct subscriber *s, struct subscriber_batch *ret)
{
    free_early(s->given);
    s->given = NULL;
    for (struct early *x; (x = s->early) && x->answered == x->n;) {
        size_t kept = 0;
        take_batch(s, (struct wire_frame[]){{x->list.p, x->list.n}, {x->bodies.p, x->bodies.n}, {x->traces.p, x->traces.n}}, ret);
        for (size_t i = 0; i < x->n; i++)
            if (x->whose[i] == OURS)
                s->v[kept++] = s->v[i];
        ret->n = kept;
        memcpy(ret->epoch, x->epoch, sizeof ret->epoch);
        s->early = x->next;
        if (!s->early)
            s->last = &s->early;
        if (kept) {
            s->given = x;
            return true;
        }
        free_early(x);
    }
    return false;
}

bool subscriber_owes(struct subscriber *s)
{
    struct link_answer a;
    if (!s->first || s->finishing)
        return s->early != NULL;
    s->finishing = true;
    link_watch(s->link, -1);
    for (int64_t until = clk_now_ms() + OWED_MS, left; (left = until - clk_now_ms()) > 0;) {
        const struct early *x = s->early;
        while (x && x->answered == x->n)
            x = x->next;
        if (!x || link_was_renewed(s->link))
            break;
        if (link_receive(s->link, left, &a))
            take_answer(s, &a);
    }
    give_up_answers(s);
    return s->early != NULL;
}

/* ---- the next batch ---- */

int subscriber_next(struct subscriber *s, int64_t ms, struct subscriber_batch *ret, struct err *e)
{
    int64_t until = clk_now_ms() + ms;
    struct subscriber_batch came;
    struct link_answer a;
    struct link_refusal why;
    for (;;) {
        int64_t now = clk_now_ms();
        bool renewed = link_was_renewed(s->link);
        if (renewed)
            give_up_answers(s);
        if (give_early(s, ret))
            return 1;
        if (s->finishing)
            return 0;
        if (renewed || now >= s->subscribe_ms)
            subscribe(s, now);
        int64_t left = (until < s->subscribe_ms ? until : s->subscribe_ms) - now;
        if (!link_receive(s->link, left > 0 ? left : 0, &a)) {
            if (clk_now_ms() >= until || link_was_woken(s->link))
                return 0;
            continue;
        }
        if (take_answer(s, &a))
            continue;
        if (a.h.verb == WIRE_DELIVER && take_delivery(s, &a, &came)) {
            s->subscribe_ms = clk_now_ms() + AGAIN_MS;
            if (s->first) {
                take_early(s, &a, &came);
                continue;
            }
            *ret = came;
            return 1;
        }
        if (a.h.verb == WIRE_SUBSCRIBED && a.n == 2 && a.v[0].n == WIRE_EPOCH_BYTES && a.v[1].n == 8) {
            memcpy(s->epoch, a.v[0].p, WIRE_EPOCH_BYTES);
            s->lease_ms = le_u32(a.v[1].p);
        } else if (a.h.verb == WIRE_REFUSED) {
            link_refusal(&a, &why);
            if (a.h.request == SUBSCRIBE_REQUEST && s->wants_traces && !strcmp(why.code, "protocol"))
                s->wants_traces = false; /* the broker is of an earlier version */
            else if (a.h.request == SUBSCRIBE_REQUEST && !why.retry_after_ms)
                return err_set(e, ERR_REFUSED, "refused: %s: %s", why.code, why.text);
            if (!a.h.request && !strcmp(why.code, "busy"))
                ask_again(s);
            s->subscribe_ms = clk_now_ms() + why.retry_after_ms; /* a new broker does not know us */
        }
    }
}

static void settle(struct subscriber *s, enum wire_verb verb, const struct wire_range *v, size_t n, const struct wire_frame *more,
                   size_t n_more)
{
    AUTO_BUF struct buf ranges = {0};
    if (s->first)
        return;
    for (size_t at = 0; at < n; at += WIRE_MAX_RANGES) {
        struct wire_frame f[3];
        ranges.n = 0;
        for (size_t i = at; i < n && i < at + WIRE_MAX_RANGES; i++) {
            le_add_u64(&ranges, v[i].first);
            le_add_u64(&ranges, v[i].last);
        }
        f[0] = (struct wire_frame){ranges.p, ranges.n};
        for (size_t i = 0; i < n_more; i++)
            f[i + 1] = more[i];
        send(s, verb, 0, f, 1 + n_more);
    }
}

void subscriber_ack(struct subscriber *s, const struct wire_range *v, size_t n)
{
    settle(s, WIRE_ACK, v, n, NULL, 0);
}

void subscriber_ack_rows(struct subscriber *s, const struct wire_range *v, const uint32_t *rows, size_t n)
{
    AUTO_BUF struct buf b = {0};
    for (size_t at = 0, some; at < n; at += some) {
        some = n - at < WIRE_MAX_RANGES ? n - at : WIRE_MAX_RANGES;
        b.n = 0;
        for (size_t i = at; i < at + some; i++)
            le_add_u32(&b, rows[i]);
        settle(s, WIRE_ACK, v + at, some, &(struct wire_frame){b.p, b.n}, 1);
    }
}

void subscriber_extend(struct subscriber *s, const struct wire_range *v, size_t n)
{
    settle(s, WIRE_EXTEND, v, n, NULL, 0);
}

void subscriber_nack(struct subscriber *s, const struct wire_range *v, size_t n, uint32_t delay_ms, const char *why)
{
    AUTO_BUF struct buf delay = {0};
    le_add_u32(&delay, delay_ms);
    settle(s, WIRE_NACK, v, n, (struct wire_frame[]){{delay.p, delay.n}, {why, strnlen(why, WIRE_MAX_REASON)}}, 2);
}

uint32_t subscriber_lease_ms(const struct subscriber *s)
{
    return s->lease_ms;
}
