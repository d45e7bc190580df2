#include "publisher.h"

#include "base/clk.h"
#include "base/mem.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

enum {
    IN_FLIGHT = 16, /* requests */
    BATCH_MESSAGES = 500,
    BATCH_BYTES = 256 << 10,
    RESEND_MS = 2000, /* without an answer; doubles */
    RESEND_MAX_MS = 30000,
    DESCRIBE_REQUEST = 0xffffffff,
};

struct request {
    uint32_t id;     /* 0: free */
    uint64_t number; /* of its first message */
    size_t n;
    struct buf lengths, bytes;
    struct buf traces; /* WIRE_TRACE_BYTES for each message; n 0: none has one */
    struct buf key;    /* of all its messages; n 0: none */
    int64_t due_ms;    /* to be sent (again) then */
    int64_t wait_ms;
    bool sent;
};

struct publisher {
    struct link *link;
    char *stream;
    uint64_t id, next_number, confirmed;
    uint32_t next_request;
    unsigned char trace[WIRE_TRACE_BYTES];     /* of the next message */
    bool has_trace, no_traces;                 /* no_traces: the broker is of an earlier version */
    struct buf key;                            /* of the next message */
    struct request requests[IN_FLIGHT], *open; /* open: is filled */
    uint64_t max_message_bytes;
    size_t batch_messages;
    bool described;
    int64_t describe_ms;
    struct err fatal;
    uint64_t n_deferred;
    struct link_refusal deferral;
};

int publisher_open(const char *endpoint, const struct link_keys *keys, const char *stream, struct publisher **ret, struct err *e)
{
    AUTO_PUBLISHER struct publisher *p = xcalloc(1, sizeof *p);
    int r = link_open(endpoint, keys, &p->link, e);
    if (r < 0)
        return r;
    p->stream = xstrdup(stream);
    do
        randombytes_buf(&p->id, sizeof p->id);
    while (!p->id);
    p->next_number = p->next_request = 1;
    p->batch_messages = BATCH_MESSAGES;
    *ret = TAKE(p);
    return 0;
}

void publisher_close(struct publisher *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < IN_FLIGHT; i++) {
        buf_fini(&p->requests[i].lengths);
        buf_fini(&p->requests[i].bytes);
        buf_fini(&p->requests[i].traces);
        buf_fini(&p->requests[i].key);
    }
    buf_fini(&p->key);
    link_close(p->link);
    free(p->stream);
    free(p);
}

uint64_t publisher_confirmed(const struct publisher *p)
{
    return p->confirmed;
}

uint64_t publisher_unconfirmed(const struct publisher *p)
{
    return p->next_number - 1 - p->confirmed;
}

static void release(struct request *r)
{
    r->id = 0;
    r->lengths.n = r->bytes.n = r->traces.n = r->key.n = 0;
}

/* One says it of all then. */
static bool same_traces(const struct request *r)
{
    return r->traces.n && !memcmp(r->traces.p, r->traces.p + WIRE_TRACE_BYTES, r->traces.n - WIRE_TRACE_BYTES);
}

static void send(struct publisher *p, struct request *r, int64_t now)
{
    AUTO_BUF struct buf header = {0}, ids = {0};
    wire_add_header(&header, WIRE_PUBLISH, 0, r->id);
    le_add_u64(&ids, p->id);
    le_add_u64(&ids, r->number);
    struct wire_frame v[] = {{header.p, header.n},     {p->stream, strlen(p->stream)},
                             {ids.p, ids.n},           {r->lengths.p, r->lengths.n},
                             {r->bytes.p, r->bytes.n}, {r->traces.p, same_traces(r) ? WIRE_TRACE_BYTES : r->traces.n},
                             {r->key.p, r->key.n}};
    r->sent |= link_send(p->link, v, r->key.n ? 7 : r->traces.n ? 6 : 5);
    r->due_ms = now + r->wait_ms;
    r->wait_ms = r->wait_ms * 2 < RESEND_MAX_MS ? r->wait_ms * 2 : RESEND_MAX_MS;
}

static void describe(struct publisher *p, int64_t now)
{
    AUTO_BUF struct buf header = {0};
    if (p->described || now < p->describe_ms)
        return;
    wire_add_header(&header, WIRE_DESCRIBE, 0, DESCRIBE_REQUEST);
    link_send(p->link, (struct wire_frame[]){{header.p, header.n}, {p->stream, strlen(p->stream)}}, 2);
    p->describe_ms = now + RESEND_MS;
}

static void close_open(struct publisher *p, int64_t now)
{
    struct request *r = p->open;
    if (!r || !r->n)
        return;
    if (p->no_traces)
        r->traces.n = 0;
    p->open = NULL;
    r->wait_ms = RESEND_MS;
    r->due_ms = now;
    send(p, r, now);
}

static struct request *find(struct publisher *p, uint32_t id)
{
    for (size_t i = 0; i < IN_FLIGHT; i++)
        if (id && p->requests[i].id == id && p->requests[i].sent)
            return &p->requests[i];
    return NULL;
}

static void take(struct publisher *p, const struct link_answer *a, int64_t now)
{
    struct request *r = find(p, a->h.request);
    struct link_refusal why;
    if (a->h.verb == WIRE_DESCRIBED && a->n == 1 && a->v[0].n == 20) {
        const char *v = a->v[0].p;
        uint32_t most = le_u32(v + 8);
        p->max_message_bytes = le_u64(v);
        p->batch_messages = most < BATCH_MESSAGES ? most : BATCH_MESSAGES;
        p->described = true;
    } else if (a->h.verb == WIRE_CONFIRM && r) {
        p->confirmed += r->n;
        release(r);
    } else if (a->h.verb == WIRE_REFUSED) {
        link_refusal(a, &why);
        bool all = a->h.request == 0 && !strcmp(why.code, "busy");
        bool ours = r || a->h.request == DESCRIBE_REQUEST;
        if (all) {
            for (size_t i = 0; i < IN_FLIGHT; i++)
                p->requests[i].due_ms = now;
        } else if (r && why.retry_after_ms) {
            r->due_ms = now + why.retry_after_ms;
            r->wait_ms = RESEND_MS;
            p->n_deferred++;
            p->deferral = why;
        } else if (r && r->traces.n && !strcmp(why.code, "protocol")) {
            p->no_traces = true; /* what else is on its way is refused alike */
            r->traces.n = 0;
            r->due_ms = now;
        } else if (ours) {
            err_set(&p->fatal, ERR_REFUSED, "refused: %s: %s", why.code, why.text);
        }
    }
}

static int64_t next_due(const struct publisher *p, int64_t until)
{
    int64_t due = p->described || p->describe_ms > until ? until : p->describe_ms;
    for (size_t i = 0; i < IN_FLIGHT; i++) {
        const struct request *r = &p->requests[i];
        if (r->id && r != p->open && r->due_ms < due)
            due = r->due_ms;
    }
    return due;
}

int publisher_pump(struct publisher *p, int64_t ms, struct err *e)
{
    int64_t now = clk_now_ms(), until = now + ms;
    struct link_answer a;
    describe(p, now);
    for (size_t i = 0; i < IN_FLIGHT; i++) {
        struct request *r = &p->requests[i];
        if (r->id && r != p->open && r->due_ms <= now)
            send(p, r, now);
    }
    int64_t due = next_due(p, until);
    if (link_receive(p->link, due > now ? due - now : 0, &a)) {
        now = clk_now_ms();
        do
            take(p, &a, now);
        while (link_receive(p->link, 0, &a));
    }
    if (link_was_renewed(p->link)) {
        p->no_traces = false;
        for (size_t i = 0; i < IN_FLIGHT; i++)
            p->requests[i].due_ms = now; /* what the old broker had not answered */
    }
    if (p->fatal.code && e)
        *e = p->fatal;
    return p->fatal.code;
}

static int late(struct err *e)
{
    return err_set(e, -ETIMEDOUT, "the broker does not answer, or takes no more for now");
}

static struct request *open_one(struct publisher *p)
{
    for (size_t i = 0; i < IN_FLIGHT && !p->open; i++)
        if (!p->requests[i].id) {
            p->open = &p->requests[i];
            p->open->id = p->next_request;
            p->open->number = p->next_number;
            p->open->n = 0;
            p->open->sent = false;
            p->next_request = p->next_request + 1 == DESCRIBE_REQUEST ? 1 : p->next_request + 1;
        }
    return p->open;
}

void publisher_set_trace(struct publisher *p, const unsigned char *trace)
{
    p->has_trace = trace != NULL;
    if (trace)
        memcpy(p->trace, trace, sizeof p->trace);
}

/* Of a message that is added now. */
static void add_trace(const struct publisher *p, struct request *r)
{
    static const unsigned char none[WIRE_TRACE_BYTES];
    if (p->no_traces || (!p->has_trace && !r->traces.n))
        return;
    while (r->traces.n < r->n * WIRE_TRACE_BYTES) /* those before have none */
        buf_add(&r->traces, none, WIRE_TRACE_BYTES);
    buf_add(&r->traces, p->has_trace ? p->trace : none, WIRE_TRACE_BYTES);
}

int publisher_set_key(struct publisher *p, const void *key, size_t n)
{
    if (n > WIRE_MAX_KEY)
        return -EMSGSIZE;
    p->key.n = 0;
    buf_add(&p->key, key, n);
    return 0;
}

static bool has_key(const struct request *r, const struct buf *key)
{
    return r->key.n == key->n && (!key->n || !memcmp(r->key.p, key->p, key->n));
}

int publisher_put(struct publisher *p, const void *message, size_t n, int64_t timeout_ms, struct err *e)
{
    int64_t began = clk_now_ms();
    if (p->open && p->open->n && !has_key(p->open, &p->key)) /* a request has one */
        close_open(p, began);
    while (!p->described || !open_one(p)) {
        int64_t left = timeout_ms < 0 ? RESEND_MS : began + timeout_ms - clk_now_ms();
        int r = left > 0 ? publisher_pump(p, left, e) : late(e);
        if (r < 0)
            return r;
    }
    if (n > p->max_message_bytes)
        return err_set(e, ERR_LIMIT, "a message of %zu bytes; max_message_bytes of the stream is %llu", n,
                       (unsigned long long)p->max_message_bytes);
    struct request *r = p->open;
    if (!r->n) {
        r->key.n = 0;
        buf_add(&r->key, p->key.p, p->key.n);
    }
    add_trace(p, r);
    le_add_u32(&r->lengths, (uint32_t)n);
    buf_add(&r->bytes, message, n);
    r->n++;
    p->next_number++;
    if (r->n < p->batch_messages && r->bytes.n < BATCH_BYTES)
        return 0;
    close_open(p, clk_now_ms());
    return publisher_pump(p, 0, e);
}

int publisher_flush(struct publisher *p, int64_t timeout_ms, struct err *e)
{
    int64_t began = clk_now_ms();
    int r = 0;
    close_open(p, began);
    while (r == 0 && publisher_unconfirmed(p)) {
        int64_t left = timeout_ms < 0 ? RESEND_MS : began + timeout_ms - clk_now_ms();
        r = left > 0 ? publisher_pump(p, left, e) : late(e);
    }
    return r;
}

uint64_t publisher_deferred(const struct publisher *p, struct link_refusal *ret_last)
{
    *ret_last = p->deferral;
    return p->n_deferred;
}
