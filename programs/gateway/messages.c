/* Messages for a stream, over HTTP: a line each (application/x-ndjson), an element each of an array (application/json, as large as
 * a request's body may be, and whole before the first is published), or the body is one. They are published in batches while the
 * body still comes, a few under way at once; the answer has a line for each message, in order. A batch is stored as a whole or
 * refused as a whole (docs/wire.md). */
#include "broker_link.h"
#include "gateway.h"
#include "handlers.h"
#include "json_array.h"
#include "orders.h"
#include "problem.h"
#include "request.h"

#include "base/le.h"
#include "base/mem.h"
#include "base/trace_context.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    BATCH_BYTES = 256 << 10,
    BATCH_MESSAGES = 4096,
    AT_ONCE = 8,            /* batches under way */
    MAX_MESSAGES = 1000000, /* of a request: its answer is kept until its end */
};

/* What became of n messages that follow one another. */
struct part {
    uint32_t n;
    bool done;
    uint64_t first; /* sequence of the first that was stored */
    uint32_t known; /* of them, in front of those */
    char code[16];  /* "": stored */
    uint32_t retry_after_ms;
};

struct messages {
    struct request *rq; /* NULL: the client is gone */
    char *stream;       /* TENANT/STREAM */
    bool lines, array, ended;
    uint64_t publisher, next_number;
    unsigned char trace[TRACE_PACKED_BYTES]; /* of the request's traceparent */
    bool traced;
    uint64_t max_message_bytes;
    uint32_t max_messages;
    struct buf line; /* the beginning of one that is not all there */
    bool too_long;   /* the rest of it is passed over */
    struct buf lengths, bytes;
    uint32_t n; /* in the batch that is being filled */
    struct part **parts;
    size_t n_parts, n_under_way, n_messages;
};

struct under_way {
    struct messages *m;
    struct part *part;
};

static void messages_free(struct messages *m)
{
    for (size_t i = 0; i < m->n_parts; i++)
        free(m->parts[i]);
    free(m->parts);
    buf_fini(&m->line);
    buf_fini(&m->lengths);
    buf_fini(&m->bytes);
    free(m->stream);
    free(m);
}

/* The client may go while batches are under way: their answers find it gone. */
static void leave(struct request *rq)
{
    struct messages *m = rq->data;
    m->rq = NULL;
    if (!m->n_under_way)
        messages_free(m);
}

static struct part *add_part(struct messages *m, uint32_t n, const char *code)
{
    struct part *p = xcalloc(1, sizeof *p);
    *p = (struct part){.n = n, .done = *code != 0};
    snprintf(p->code, sizeof p->code, "%s", code);
    m->parts = xgrow(m->parts, m->n_parts, sizeof *m->parts);
    m->parts[m->n_parts++] = p;
    m->n_messages += n;
    return p;
}

/* ---- the answer ---- */

/* When all were refused for one reason, that is the request's status; NULL: some were not. */
static const struct part *refused_alike(const struct messages *m)
{
    const struct part *first = m->n_parts ? m->parts[0] : NULL;
    for (size_t i = 0; i < m->n_parts; i++)
        if (!*m->parts[i]->code || strcmp(m->parts[i]->code, first->code))
            return NULL;
    return first;
}

static void add_lines(struct buf *b, const struct part *p)
{
    for (uint32_t i = 0; i < p->n; i++) {
        if (*p->code)
            buf_addf(b, "{\"seq\":null,\"error\":\"%s\",\"retry_after_ms\":%u}\n", p->code, p->retry_after_ms);
        else if (i < p->known)
            buf_adds(b, "{\"seq\":null,\"known\":true}\n");
        else
            buf_addf(b, "{\"seq\":%llu}\n", (unsigned long long)(p->first + i - p->known));
    }
}

static void answer(struct messages *m)
{
    struct request *rq = m->rq;
    struct buf b = {0};
    const struct part *refused = refused_alike(m);
    if (!m->n_parts) {
        request_refuse(rq, "unprocessable", "there is no message in the body");
    } else if (refused && refused->retry_after_ms) {
        request_refuse_for(rq, refused->code, (refused->retry_after_ms + 999) / 1000, "the broker took none of the messages");
    } else if (refused) {
        request_refuse(rq, refused->code, "the broker took none of the messages");
    } else {
        for (size_t i = 0; i < m->n_parts; i++)
            add_lines(&b, m->parts[i]);
        request_answer(rq, MHD_HTTP_OK, "application/x-ndjson", &b);
    }
}

/* ---- publishing ---- */

static void on_published(void *arg, const struct broker_answer *a)
{
    struct under_way *u = arg;
    struct messages *m = u->m;
    struct part *p = u->part;
    free(u);
    p->done = true;
    p->first = a->first;
    p->known = a->known;
    snprintf(p->code, sizeof p->code, "%s", a->ok ? "" : a->code);
    p->retry_after_ms = a->retry_after_ms;
    m->n_under_way--;
    if (!m->rq) {
        if (!m->n_under_way)
            messages_free(m);
        return;
    }
    if (m->ended && !m->n_under_way)
        answer(m);
    if (!m->ended || !m->n_under_way)
        request_go_on(m->rq);
}

static void publish(struct messages *m)
{
    if (!m->n)
        return;
    struct under_way *u = xmalloc(sizeof *u);
    *u = (struct under_way){m, add_part(m, m->n, "")};
    if (broker_publish(m->rq->g->broker, m->stream, m->publisher, m->next_number, &m->lengths, &m->bytes,
                       m->traced ? m->trace : NULL, on_published, u)) {
        m->n_under_way++;
    } else {
        u->part->done = true;
        snprintf(u->part->code, sizeof u->part->code, "unavailable");
        u->part->retry_after_ms = 1000;
        free(u);
    }
    m->next_number += m->n;
    m->n = 0;
    buf_reset(&m->lengths);
    buf_reset(&m->bytes);
}

/* One that is refused without the broker. The numbers of those behind it go on. */
static void refuse_one(struct messages *m, const char *code)
{
    publish(m);
    add_part(m, 1, code);
    m->next_number++;
}

static void add_message(struct messages *m, const char *p, size_t n)
{
    if (n > m->max_message_bytes) {
        refuse_one(m, "size");
        return;
    }
    if (m->n_messages + m->n == MAX_MESSAGES) {
        refuse_one(m, "too_large");
        return;
    }
    if (m->n == m->max_messages || (m->n && m->bytes.n + n > BATCH_BYTES))
        publish(m);
    le_add_u32(&m->lengths, (uint32_t)n);
    buf_add(&m->bytes, p, n);
    m->n++;
}

/* ---- the body ---- */

static void add_line(struct messages *m, const char *p, size_t n)
{
    if (n && p[n - 1] == '\r')
        n--;
    if (n)
        add_message(m, p, n);
}

/* Of a line that is too long, no more is kept than shows that it is. */
static void keep_beginning(struct messages *m, const char *p, size_t n)
{
    if (m->too_long)
        return;
    if (m->line.n + n > m->max_message_bytes + 1) {
        m->too_long = true;
        buf_reset(&m->line);
    } else {
        buf_add(&m->line, p, n);
    }
}

static void end_line(struct messages *m, const char *p, size_t n)
{
    if (m->too_long) {
        refuse_one(m, "size");
    } else if (m->line.n) {
        buf_add(&m->line, p, n);
        add_line(m, m->line.p, m->line.n);
    } else {
        add_line(m, p, n);
    }
    m->too_long = false;
    buf_reset(&m->line);
}

void messages_body(struct request *rq, const char *p, size_t n)
{
    struct messages *m = rq->data;
    const char *lf;
    if (m->array) {
        if (m->line.n + n > REQUEST_BODY_MAX)
            request_refuse(rq, "too_large", "an array may have %d bytes; send lines (application/x-ndjson)", REQUEST_BODY_MAX);
        else
            buf_add(&m->line, p, n);
        return;
    }
    while (m->lines && (lf = memchr(p, '\n', n))) {
        end_line(m, p, (size_t)(lf - p));
        n -= (size_t)(lf + 1 - p);
        p = lf + 1;
    }
    keep_beginning(m, p, n);
    if (m->n_under_way >= AT_ONCE)
        request_wait(rq);
}

static void on_element(void *arg, const char *p, size_t n)
{
    add_message(arg, p, n);
}

void messages_end(struct request *rq)
{
    struct messages *m = rq->data;
    if (m->array && !json_array_split(m->line.p ? m->line.p : "", m->line.n, NULL, NULL)) {
        request_refuse(rq, "unprocessable", "the body is no JSON array");
        return;
    }
    if (m->array)
        json_array_split(m->line.p, m->line.n, on_element, m);
    else if (m->line.n || m->too_long || (!m->lines && !m->n_parts))
        end_line(m, "", 0);
    publish(m);
    m->ended = true;
    if (m->n_under_way)
        request_wait(rq);
    else
        answer(m);
}

/* ---- before ---- */

static void on_described(void *arg, const struct broker_answer *a)
{
    struct messages *m = arg;
    struct request *rq = m->rq;
    if (a->ok) {
        m->max_message_bytes = a->max_message_bytes;
        m->max_messages = a->max_messages < BATCH_MESSAGES ? a->max_messages : BATCH_MESSAGES;
    } else if (!strcmp(a->code, "unknown") || !strcmp(a->code, "auth")) {
        request_refuse(rq, "not_found", "there is no such stream");
    } else if (a->retry_after_ms) {
        request_refuse_for(rq, a->code, (a->retry_after_ms + 999) / 1000, "%s", a->text);
    } else {
        request_refuse(rq, a->code, "%s", a->text);
    }
    request_go_on(rq);
}

static bool read_ids(struct messages *m)
{
    int64_t publisher, number;
    if (!uri_number(&m->rq->uri, "publisher", 0, 1, INT64_MAX, &publisher) ||
        !uri_number(&m->rq->uri, "number", 1, 1, INT64_MAX / 2, &number)) {
        request_refuse(m->rq, "bad_request", "publisher and number are numbers from 1 on (docs/wire.md, ids)");
        return false;
    }
    m->publisher = (uint64_t)publisher;
    m->next_number = (uint64_t)number;
    return true;
}

void messages_begin(struct request *rq)
{
    const char *type = request_header(rq, MHD_HTTP_HEADER_CONTENT_TYPE);
    struct messages *m = xcalloc(1, sizeof *m);
    m->rq = rq;
    m->lines = type && (!strncasecmp(type, "application/x-ndjson", 20) || !strncasecmp(type, "application/jsonl", 17));
    m->array = type && !strncasecmp(type, "application/json", 16) && !m->lines;
    m->stream = xasprintf("%s/%s", rq->tenant, rq->stream);
    AUTO_FREE char *trace = request_trace(rq), *parent = trace ? xstrndup(trace, strcspn(trace, " ")) : NULL;
    m->traced = trace_parent_pack(parent, m->trace);
    rq->data = m;
    rq->free_data = leave;
    if (!read_ids(m))
        return;
    if (broker_describe(rq->g->broker, m->stream, on_described, m))
        request_wait(rq);
    else
        request_refuse_for(rq, "unavailable", 1, "the broker does not answer; it is being started again");
}
