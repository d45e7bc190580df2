#include "parts.h"

#include <errno.h>
#include <sys/socket.h>

enum {
    MAX_UNREAD = 64 << 20, /* of a connection: what the largest window may hold */
    MAX_UNREAD_MESSAGES = 2048,
    MAX_OWNER_UNREAD = 256 << 20, /* of all connections of an owner */
    OWNER_FULL = 32 << 20,
    KEEP_BYTES = 64 << 10, /* of output: a larger buffer is freed when it is empty */
};

void conn_flush(struct zmtp_conn *c)
{
    const size_t before = c->out.n - c->out_at;
    while (!c->dead && c->out_at < c->out.n) {
        ssize_t n = send(c->fd, c->out.p + c->out_at, c->out.n - c->out_at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            event_add(c->write_ev, NULL);
            break;
        }
        if (n < 0) {
            conn_mark_dead(c);
            break;
        }
        c->out_at += (size_t)n;
    }
    if (c->out_at == c->out.n) {
        c->out.n = c->out_at = 0;
        if (c->out.cap > KEEP_BYTES)
            buf_fini(&c->out);
    } else if (c->out_at > SCRATCH) {
        buf_consume(&c->out, c->out_at);
        c->out_at = 0;
    }
    if (c->owner) {
        size_t unread = c->out.n - c->out_at;
        c->owner->unread += unread - c->out_counted;
        c->out_counted = unread;
    }
    c->out_messages = before ? c->out_messages * (c->out.n - c->out_at) / before : 0;
    if (c->full && !c->dead && c->out.n - c->out_at < FULL / 4) {
        c->full = false;
        if (c->s->ops->on_drain)
            c->s->ops->on_drain(c->s->arg, c);
    }
}

void server_on_flush(evutil_socket_t fd, short what, void *arg)
{
    struct zmtp_server *s = arg;
    (void)fd;
    (void)what;
    while (s->dirty) {
        struct zmtp_conn *c = s->dirty;
        s->dirty = c->next_dirty;
        c->dirty = false;
        conn_flush(c);
    }
}

void conn_on_writable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    conn_flush(arg);
}

void conn_flush_soon(struct zmtp_conn *c)
{
    if (c->dirty || c->dead)
        return;
    c->dirty = true;
    c->next_dirty = c->s->dirty;
    c->s->dirty = c;
    event_active(c->s->flush_ev, EV_TIMEOUT, 0);
}

static void add_frame_header(struct buf *b, unsigned flags, size_t n)
{
    unsigned char h[9] = {(unsigned char)(flags | (n > 255 ? F_LONG : 0)), (unsigned char)n};
    for (int i = 0; n > 255 && i < 8; i++)
        h[1 + i] = (unsigned char)((uint64_t)n >> (56 - 8 * i));
    buf_add(b, h, n > 255 ? 9 : 2);
}

void conn_add_frame(struct zmtp_conn *c, unsigned flags, const void *p, size_t n)
{
    if (c->curve && c->curve->state == CURVE_OPEN && c->state == OPEN) {
        add_frame_header(&c->out, 0, n + CURVE_BOX_OVERHEAD);
        curve_seal(c->curve, (unsigned char)((flags & F_MORE ? BOX_MORE : 0) | (flags & F_COMMAND ? BOX_COMMAND : 0)), p, n,
                   &c->out);
        return;
    }
    add_frame_header(&c->out, flags, n);
    buf_add(&c->out, p, n);
}

int zmtp_send(struct zmtp_conn *c, const struct wire_frame *v, size_t n)
{
    if (c->dead || c->state != OPEN)
        return -EAGAIN;
    size_t unread = c->out.n - c->out_at;
    if (unread && (unread > MAX_UNREAD || c->out_messages >= MAX_UNREAD_MESSAGES || c->owner->unread > MAX_OWNER_UNREAD)) {
        c->full = true;
        return -EAGAIN;
    }
    c->out_messages++;
    for (size_t i = 0; i < n; i++)
        conn_add_frame(c, i + 1 < n ? F_MORE : 0, v[i].p, v[i].n);
    c->owner->unread += c->out.n - c->out_at - c->out_counted;
    c->out_counted = c->out.n - c->out_at;
    conn_flush_soon(c);
    return 0;
}

bool zmtp_is_full(struct zmtp_conn *c)
{
    size_t unread = c->out.n - c->out_at;
    bool full = unread > FULL || (unread && c->owner->unread > OWNER_FULL);
    c->full |= full;
    return full;
}
