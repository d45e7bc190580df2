#include "slow.h"

#include "base/log.h"
#include "base/mem.h"

#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>

struct slow_connection {
    struct slow *owner;
    struct MHD_Connection *connection;
    struct slow_connection *next, *prev;
    enum { IDLE, HEADER, BODY, ANSWER } doing;
    bool suspended;
    int64_t since_ms, bytes;
};

struct slow {
    struct slow_connection *first;
    int64_t idle_ms, min_bytes_per_s;
};

struct slow *slow_new(int64_t idle_ms, int64_t min_bytes_per_s)
{
    struct slow *s = xcalloc(1, sizeof *s);
    *s = (struct slow){NULL, idle_ms, min_bytes_per_s};
    return s;
}

void slow_free(struct slow *s)
{
    while (s && s->first)
        slow_remove(s->first);
    free(s);
}

struct slow_connection *slow_add(struct slow *s, struct MHD_Connection *c, int64_t now_ms)
{
    struct slow_connection *x = xcalloc(1, sizeof *x);
    *x = (struct slow_connection){.owner = s, .connection = c, .next = s->first, .since_ms = now_ms};
    if (s->first)
        s->first->prev = x;
    s->first = x;
    return x;
}

void slow_remove(struct slow_connection *x)
{
    if (!x)
        return;
    if (x->next)
        x->next->prev = x->prev;
    if (x->prev)
        x->prev->next = x->next;
    else
        x->owner->first = x->next;
    free(x);
}

static struct slow_connection *context(struct MHD_Connection *c)
{
    const union MHD_ConnectionInfo *i = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return i ? i->socket_context : NULL;
}

void slow_header(struct MHD_Connection *c, int64_t now_ms)
{
    struct slow_connection *x = context(c);
    (void)now_ms; /* the line belongs to the time of the header */
    if (x)
        x->doing = HEADER;
}

void slow_progress(struct MHD_Connection *c, int64_t now_ms, size_t n)
{
    struct slow_connection *x = context(c);
    if (!x)
        return;
    if (x->doing != BODY) {
        x->doing = BODY;
        x->since_ms = now_ms;
        x->bytes = 0;
    }
    x->bytes += (int64_t)n;
}

void slow_answer(struct MHD_Connection *c, int64_t now_ms, int64_t bytes)
{
    struct slow_connection *x = context(c);
    if (!x)
        return;
    x->doing = ANSWER;
    x->since_ms = now_ms;
    x->bytes = bytes;
}

void slow_idle(struct MHD_Connection *c, int64_t now_ms)
{
    struct slow_connection *x = context(c);
    if (!x)
        return;
    x->doing = IDLE;
    x->since_ms = now_ms;
}

void slow_suspended(struct MHD_Connection *c, int64_t now_ms, int suspended)
{
    struct slow_connection *x = context(c);
    if (!x || x->suspended == (suspended != 0))
        return;
    x->suspended = suspended;
    if (!suspended) { /* the platform's time is not the client's */
        x->since_ms = now_ms;
        if (x->doing == BODY)
            x->bytes = 0;
    }
}

static bool is_slow(const struct slow *s, const struct slow_connection *x, int64_t now_ms)
{
    int64_t ms = now_ms - x->since_ms;
    if (x->suspended || ms <= s->idle_ms)
        return false;
    if (x->doing == BODY)
        return x->bytes * 1000 < s->min_bytes_per_s * ms;
    if (x->doing == ANSWER)
        return x->bytes >= 0 && (ms - s->idle_ms) * s->min_bytes_per_s > x->bytes * 1000;
    return true;
}

void slow_sweep(struct slow *s, int64_t now_ms)
{
    for (struct slow_connection *x = s->first; x; x = x->next) {
        if (!is_slow(s, x, now_ms))
            continue;
        const union MHD_ConnectionInfo *i = MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        if (i)
            shutdown(i->connect_fd, SHUT_RDWR); /* libmicrohttpd sees its end, and frees it */
    }
}

void slow_resume_all(struct slow *s)
{
    for (struct slow_connection *x = s->first; x; x = x->next)
        if (x->suspended)
            MHD_resume_connection(x->connection);
}
