#include "subscriber.h"

#include "common/clk.h"
#include "common/mem.h"

#include <stdio.h>
#include <string.h>

enum { TAG = 1, SUBSCRIBE_REQUEST = 1, AGAIN_MS = 5000 };

struct subscriber {
    struct link *link;
    char *stream, *subscription;
    uint32_t max_messages, lease_ms;
    uint64_t max_bytes;
    unsigned char epoch[WIRE_EPOCH_BYTES]; /* of what is delivered next */
    int64_t subscribe_ms;                  /* to be sent (again) then */
    struct subscriber_message *v;
    size_t cap;
};

int subscriber_open(const char *endpoint, const struct link_keys *keys, const char *stream, const char *subscription,
                    uint32_t max_messages, uint64_t max_bytes, struct subscriber **ret, struct err *e)
{
    struct subscriber *s = xcalloc(1, sizeof *s);
    int r = link_open(endpoint, keys, &s->link, e);
    if (r < 0) {
        free(s);
        return r;
    }
    s->stream = xstrdup(stream);
    s->subscription = xstrdup(subscription);
    s->max_messages = max_messages;
    s->max_bytes = max_bytes;
    *ret = s;
    return 0;
}

static void send(struct subscriber *s, enum wire_verb verb, uint32_t request, const struct wire_frame *more, size_t n)
{
    AUTO_BUF struct buf header = {0};
    struct wire_frame v[WIRE_MAX_FRAMES];
    wire_add_header(&header, verb, TAG, request);
    v[0] = (struct wire_frame){header.p, header.n};
    for (size_t i = 0; i < n; i++)
        v[i + 1] = more[i];
    link_send(s->link, v, n + 1);
}

void subscriber_close(struct subscriber *s)
{
    struct link_answer a;
    if (!s)
        return;
    send(s, WIRE_UNSUBSCRIBE, 2, NULL, 0);
    for (int64_t until = clk_now_ms() + 200; clk_now_ms() < until;)
        if (link_receive(s->link, 50, &a) && a.h.request == 2)
            break;
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
    AUTO_BUF struct buf window = {0};
    le_add_u32(&window, s->max_messages);
    le_add_u64(&window, s->max_bytes);
    struct wire_frame v[] = {{s->stream, strlen(s->stream)}, {s->subscription, strlen(s->subscription)}, {window.p, window.n}};
    send(s, WIRE_SUBSCRIBE, SUBSCRIBE_REQUEST, v, 3);
    s->subscribe_ms = now + AGAIN_MS;
}

/* False when the frames do not fit together. */
static bool take_batch(struct subscriber *s, const struct link_answer *a, struct subscriber_batch *ret)
{
    if (a->n != 2 || a->v[0].n % WIRE_DELIVERY_BYTES)
        return false;
    const char *list = a->v[0].p, *p = a->v[1].p;
    size_t n = a->v[0].n / WIRE_DELIVERY_BYTES, left = a->v[1].n;
    if (n > s->cap) {
        s->cap = n;
        s->v = xrealloc(s->v, n * sizeof *s->v);
    }
    for (size_t i = 0; i < n; i++, list += WIRE_DELIVERY_BYTES) {
        uint32_t len = le_u32(list + 20);
        if (len > left)
            return false;
        s->v[i] = (struct subscriber_message){le_u64(list), (int64_t)le_u64(list + 8), le_u32(list + 16), p, len};
        p += len;
        left -= len;
    }
    *ret = (struct subscriber_batch){s->v, n, {0}};
    memcpy(ret->epoch, s->epoch, sizeof ret->epoch);
    return n > 0;
}

int subscriber_next(struct subscriber *s, int64_t ms, struct subscriber_batch *ret, struct err *e)
{
    int64_t until = clk_now_ms() + ms;
    struct link_answer a;
    struct link_refusal why;
    for (;;) {
        int64_t now = clk_now_ms();
        if (link_was_renewed(s->link) || now >= s->subscribe_ms)
            subscribe(s, now);
        int64_t left = (until < s->subscribe_ms ? until : s->subscribe_ms) - now;
        if (!link_receive(s->link, left > 0 ? left : 0, &a)) {
            if (clk_now_ms() >= until || link_was_woken(s->link))
                return 0;
            continue;
        }
        if (a.h.verb == WIRE_DELIVER && take_batch(s, &a, ret)) {
            s->subscribe_ms = clk_now_ms() + AGAIN_MS;
            return 1;
        }
        if (a.h.verb == WIRE_SUBSCRIBED && a.n == 2 && a.v[0].n == WIRE_EPOCH_BYTES && a.v[1].n == 8) {
            memcpy(s->epoch, a.v[0].p, WIRE_EPOCH_BYTES);
            s->lease_ms = le_u32(a.v[1].p);
        } else if (a.h.verb == WIRE_REFUSED) {
            link_refusal(&a, &why);
            if (a.h.request == SUBSCRIBE_REQUEST && !why.retry_after_ms)
                return err_set(e, ERR_REFUSED, "refused: %s: %s", why.code, why.text);
            s->subscribe_ms = clk_now_ms() + why.retry_after_ms; /* a new broker does not know us */
        }
    }
}

static void settle(struct subscriber *s, enum wire_verb verb, const struct wire_range *v, size_t n, const struct wire_frame *more,
                   size_t n_more)
{
    AUTO_BUF struct buf ranges = {0};
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
