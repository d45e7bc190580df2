#include "answers.h"

#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { TELL_MS = 10000 };

/* CONFIRM or DONE. */
struct answer {
    struct session *session; /* NULL: it is gone */
    uint8_t verb;
    uint16_t consumer;
    uint32_t request;
    uint64_t first; /* of DONE: how many */
    uint32_t stored, known;
};

int answer_send(struct session *s, const struct wire_frame *v, size_t n)
{
    int r = zmtp_send(s->conn, v, n);
    int64_t *told_ms = s->tenant ? &s->tenant->told_deaf_ms : &s->b->told_deaf_ms;
    if (r < 0 && !s->deaf && (!*told_ms || s->b->now_ms - *told_ms >= TELL_MS)) {
        *told_ms = s->b->now_ms;
        log_warn("deaf", s->tenant ? s->tenant->id : NULL, NULL,
                 "peer %s does not read its answers; its requests are not acted upon until it does", zmtp_user(s->conn));
    }
    s->deaf = r < 0;
    return r;
}

void answer_refuse(struct session *s, const struct wire_header *h, enum wire_code code, int64_t retry_after_ms, const char *fmt,
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
    answer_send(s, v, 4);
    log_debug("refused", s->tenant ? s->tenant->id : NULL, NULL, "peer %s: %s: %s", zmtp_user(s->conn), name, text);
}

void answer_done(struct session *s, const struct wire_header *h, uint64_t n)
{
    if (!h->request)
        return; /* the peer wants no answer */
    struct answer a = {.session = s, .verb = WIRE_DONE, .consumer = h->consumer, .request = h->request, .first = n};
    buf_add(&s->b->answers, &a, sizeof a);
    broker_turn_soon(s->b);
}

void answer_confirm(struct session *s, const struct wire_header *h, uint64_t first, uint32_t stored, uint32_t known)
{
    struct answer a = {.session = s, .verb = WIRE_CONFIRM, .request = h->request, .first = first, .stored = stored, .known = known};
    buf_add(&s->b->answers, &a, sizeof a);
}

void answers_leave(struct broker *b)
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
        answer_send(v[i].session, f, 2);
    }
    b->answers.n = 0;
}

void answers_forget(struct session *s)
{
    struct answer *v = (struct answer *)s->b->answers.p;
    for (size_t i = 0; i < s->b->answers.n / sizeof *v; i++)
        if (v[i].session == s)
            v[i].session = NULL;
}
