#include "broker_link.h"

#include "base/le.h"
#include "base/mem.h"
#include "zmtp/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* MAX_BACKLOG: of bytes that the broker has not taken; more are refused rather than kept. */
enum { MAX_ANSWER = 1 << 20, MAX_BACKLOG = 64 << 20, MAX_UNDER_WAY = 1 << 16 };

struct ask {
    uint32_t id; /* 0: free */
    broker_answer_fn *fn;
    void *arg;
};

/* Requests are numbered; number n is in slot n modulo their count. */
struct broker_link {
    struct zmtp_client *client;
    struct ask *asks;
    uint32_t next;
    size_t n;
};

static void finish(struct broker_link *l, struct ask *a, const struct broker_answer *answer)
{
    struct ask it = *a;
    a->id = 0;
    l->n--;
    it.fn(it.arg, answer);
}

static bool read_answer(const struct wire_header *h, const struct wire_frame *v, size_t n, struct broker_answer *a, char text[256])
{
    static char code[32];
    const char *p = n > 1 ? v[1].p : NULL;
    if (h->verb == WIRE_CONFIRM && n == 2 && v[1].n == 16) {
        *a = (struct broker_answer){.ok = true, .first = le_u64(p), .stored = le_u32(p + 8), .known = le_u32(p + 12)};
        return true;
    }
    if (h->verb == WIRE_DESCRIBED && n == 2 && v[1].n == 20) {
        *a = (struct broker_answer){
            .ok = true, .max_message_bytes = le_u64(p), .max_messages = le_u32(p + 8), .max_request_bytes = le_u64(p + 12)};
        return true;
    }
    if (h->verb != WIRE_REFUSED || n != 4 || v[2].n != 4)
        return false;
    snprintf(code, sizeof code, "%.*s", (int)v[1].n, (const char *)v[1].p);
    snprintf(text, 256, "%.*s", (int)(v[3].n < 255 ? v[3].n : 255), (const char *)v[3].p);
    *a = (struct broker_answer){.code = code, .text = text, .retry_after_ms = le_u32(v[2].p)};
    return true;
}

static void on_message(void *arg, const struct wire_frame *v, size_t n)
{
    struct broker_link *l = arg;
    struct wire_header h;
    struct broker_answer a;
    char text[256];
    if (!n || !wire_header(&v[0], &h))
        return;
    if (h.verb == WIRE_REFUSED && h.request == 0) { /* answers lay unread: what is under way was not listened to */
        for (size_t i = 0; i < MAX_UNDER_WAY; i++)
            if (l->asks[i].id)
                finish(l, &l->asks[i],
                       &(struct broker_answer){.code = "busy", .text = "the broker is busy", .retry_after_ms = 1000});
        return;
    }
    struct ask *at = &l->asks[h.request % MAX_UNDER_WAY];
    if (h.request && at->id == h.request && read_answer(&h, v, n, &a, text))
        finish(l, at, &a);
}

static void on_down(void *arg)
{
    struct broker_link *l = arg;
    static const struct broker_answer gone = {.code = "unavailable", .text = "the broker went away", .retry_after_ms = 1000};
    for (size_t i = 0; i < MAX_UNDER_WAY && l->n; i++)
        if (l->asks[i].id)
            finish(l, &l->asks[i], &gone);
}

struct broker_link *broker_link_new(struct event_base *base, const char *socket_path)
{
    struct broker_link *l = xcalloc(1, sizeof *l);
    l->asks = xcalloc(MAX_UNDER_WAY, sizeof *l->asks);
    l->client = zmtp_client_new(base, socket_path, MAX_ANSWER, &(struct zmtp_client_ops){NULL, on_message, on_down, l});
    return l;
}

void broker_link_free(struct broker_link *l)
{
    if (!l)
        return;
    zmtp_client_free(l->client);
    free(l->asks);
    free(l);
}

bool broker_link_is_up(const struct broker_link *l)
{
    return zmtp_client_is_up(l->client);
}

/* A free number; 0: there is none, or the broker takes nothing now. */
static uint32_t number(struct broker_link *l)
{
    if (!zmtp_client_is_up(l->client) || zmtp_client_backlog(l->client) > MAX_BACKLOG)
        return 0;
    uint32_t id = ++l->next ? l->next : ++l->next;
    return l->asks[id % MAX_UNDER_WAY].id ? 0 : id;
}

static bool ask(struct broker_link *l, uint32_t id, const struct wire_frame *v, size_t n, broker_answer_fn *fn, void *arg)
{
    l->asks[id % MAX_UNDER_WAY] = (struct ask){id, fn, arg};
    l->n++;
    return zmtp_client_send(l->client, v, n);
}

bool broker_describe(struct broker_link *l, const char *stream, broker_answer_fn *fn, void *arg)
{
    AUTO_BUF struct buf header = {0};
    uint32_t id = number(l);
    if (!id)
        return false;
    wire_add_header(&header, WIRE_DESCRIBE, 0, id);
    return ask(l, id, (struct wire_frame[]){{header.p, header.n}, {stream, strlen(stream)}}, 2, fn, arg);
}

bool broker_publish(struct broker_link *l, const char *stream, uint64_t publisher, uint64_t first, const struct buf *lengths,
                    const struct buf *bytes, const unsigned char *trace, broker_answer_fn *fn, void *arg)
{
    AUTO_BUF struct buf header = {0};
    AUTO_BUF struct buf ids = {0};
    uint32_t id = number(l);
    if (!id)
        return false;
    wire_add_header(&header, WIRE_PUBLISH, 0, id);
    if (publisher) {
        le_add_u64(&ids, publisher);
        le_add_u64(&ids, first);
    }
    struct wire_frame v[] = {{header.p, header.n},     {stream, strlen(stream)}, {ids.p, ids.n},
                             {lengths->p, lengths->n}, {bytes->p, bytes->n},     {trace, WIRE_TRACE_BYTES}};
    return ask(l, id, v, trace ? 6 : 5, fn, arg);
}
