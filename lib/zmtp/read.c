#include "parts.h"

#include "base/clk.h"

#include <errno.h>
#include <sys/socket.h>

enum {
    READS_PER_TURN = 4,
    MAX_COMMAND = 4096,     /* of a handshake, and of PING */
    MAX_FRAMES_SENT = 1024, /* of a message, before its connection is ended */
    KEEP_IDLE_BYTES = 4096, /* of messages */
    LEAST_READ = 4 << 10,
    MIN_BODY = 16 << 10, /* a frame from which on it is read to where it stays */
    FRAME_COST = 256,    /* of its owner's share, besides its bytes */
};

static void begin_message(struct zmtp_conn *c)
{
    c->msg.n = c->n_frames = c->msg.data.n = 0;
    c->msg.too_many = c->wants_more = false;
    if (c->msg.data.cap > KEEP_IDLE_BYTES)
        buf_fini(&c->msg.data);
}

static void end_frame(struct zmtp_conn *c, bool more)
{
    c->wants_more = more;
    if (more)
        return;
    for (size_t i = 0; i < c->msg.n; i++)
        c->msg.f[i].p = c->msg.data.p ? c->msg.data.p + c->off[i] : "";
    c->s->ops->on_message(c->s->arg, c, &c->msg);
    begin_message(c);
}

static void on_frame(struct zmtp_conn *c, bool more, const unsigned char *p, size_t n)
{
    if (c->n_frames >= MAX_FRAMES_SENT || n > c->s->max_message || c->msg.data.n + n > c->s->max_message) {
        conn_end(c, MALFORMED,
                 c->n_frames >= MAX_FRAMES_SENT ? "a message of more than 1,024 frames" : "a message larger than any may be");
        return;
    }
    if (c->n_frames++ < ZMTP_MAX_FRAMES) {
        c->off[c->msg.n] = c->msg.data.n;
        c->msg.f[c->msg.n++].n = n;
        buf_add(&c->msg.data, p, n);
    } else {
        c->msg.too_many = true;
    }
    end_frame(c, more);
}

/* The first n bytes of a frame of `size`; the rest is read behind them. */
static void begin_body(struct zmtp_conn *c, bool more, const unsigned char *p, size_t n, size_t size)
{
    c->n_frames++;
    c->off[c->msg.n] = c->msg.data.n;
    c->msg.f[c->msg.n++].n = size;
    buf_add(&c->msg.data, p, n);
    c->body_left = size - n;
    c->body_more = more;
}

static void on_boxed(struct zmtp_conn *c, unsigned char *p, size_t n)
{
    unsigned char flags;
    if (!curve_unseal(c->curve, p, n, &flags, &p, &n))
        conn_end(c, MALFORMED, "a CURVE message that is not genuine");
    else if (flags & BOX_COMMAND)
        conn_on_command(c, p, n);
    else
        on_frame(c, flags & BOX_MORE, p, n);
}

/* One frame of p[0..n): how many bytes it took, or 0 when it is not whole (c->want says how much is). */
static size_t take_frame(struct zmtp_conn *c, unsigned char *p, size_t n)
{
    const unsigned flags = p[0];
    const size_t header = flags & F_LONG ? 9 : 2;
    uint64_t size = 0;
    if (flags & ~7U) {
        conn_end(c, MALFORMED, "it does not speak ZMTP 3");
        return 0;
    }
    if (n < header) {
        c->want = header;
        return 0;
    }
    for (size_t i = 1; i < header; i++)
        size = size << 8 | p[i];
    const bool handshake = c->state != OPEN;
    const uint64_t most = handshake || (flags & F_COMMAND && !c->curve) ? MAX_COMMAND : c->s->max_message + CURVE_BOX_OVERHEAD;
    if (size > most || (handshake && !(flags & F_COMMAND))) {
        conn_end(c, MALFORMED, handshake ? "it does not shake hands" : "a frame larger than any may be");
        return 0;
    }
    if (n < header + size) {
        const bool plain = !handshake && !c->curve && !(flags & F_COMMAND);
        if (plain && size >= MIN_BODY && c->n_frames < ZMTP_MAX_FRAMES && c->msg.data.n + size <= c->s->max_message) {
            begin_body(c, flags & F_MORE, p + header, n - header, (size_t)size);
            return n;
        }
        c->want = header + (size_t)size;
        return 0;
    }
    if (handshake || (!c->curve && flags & F_COMMAND))
        conn_on_command(c, p + header, (size_t)size);
    else if (c->curve)
        on_boxed(c, p + header, (size_t)size);
    else
        on_frame(c, flags & F_MORE, p + header, (size_t)size);
    return header + (size_t)size;
}

static size_t parse(struct zmtp_conn *c, unsigned char *p, size_t n)
{
    size_t at = 0;
    c->want = 0;
    while (at < n && !c->dead && !c->paused_until_ms && conn_may_go_on(c)) {
        size_t took = c->state == GREET ? conn_take_greeting(c, p + at, n - at) : take_frame(c, p + at, n - at);
        if (!took)
            break;
        at += took;
        conn_charge(c, took + FRAME_COST);
    }
    return at;
}

/* Keeps what was read and not taken; counts what is incomplete, and since when. */
static void keep(struct zmtp_conn *c, size_t took, const unsigned char *scratch, size_t n)
{
    if (scratch && took < n)
        buf_add(&c->in, scratch + took, n - took);
    else if (!scratch && took && c->in.n)
        buf_consume(&c->in, took);
    if (!c->in.n && c->in.cap > 0)
        buf_fini(&c->in);
    bool partial = c->in.n > 0 || c->wants_more || c->body_left;
    if (!partial)
        c->partial_ms = 0;
    else if (!c->partial_ms || took)
        c->partial_ms = clk_now_ms();
    conn_count_partial(c);
}

static void stop_reading(struct zmtp_conn *c, int64_t until_ms)
{
    c->paused_until_ms = until_ms;
    event_del(c->read_ev);
}

/* How many bytes, or what recv said. */
static ssize_t read_body(struct zmtp_conn *c)
{
    struct buf *b = &c->msg.data;
    size_t room = b->cap > b->n + 1 ? b->cap - b->n - 1 : 0;
    if (room < MIN_READ && room < c->body_left) { /* it grows with what came, not with what was announced */
        size_t more = b->n > SCRATCH ? b->n : SCRATCH;
        buf_reserve(b, (more < c->body_left ? more : c->body_left) + 1);
        room = b->cap - b->n - 1;
    }
    ssize_t n = recv(c->fd, b->p + b->n, room < c->body_left ? room : c->body_left, MSG_DONTWAIT);
    if (n <= 0)
        return n;
    b->n += (size_t)n;
    c->body_left -= (size_t)n;
    conn_charge(c, (size_t)n);
    if (!c->body_left)
        end_frame(c, c->body_more);
    return n;
}

static bool read_once(struct zmtp_conn *c)
{
    struct zmtp_server *s = c->s;
    const bool body = c->body_left > 0;
    unsigned char *p = s->scratch;
    size_t room = c->room;
    if (c->in.n && !body) {
        size_t missing = c->want > c->in.n ? c->want - c->in.n : 1;
        room = missing > MIN_READ ? missing : MIN_READ;
        if (room > SCRATCH)
            room = SCRATCH; /* memory for what came, not for what was announced */
        buf_reserve(&c->in, room + 1);
        p = (unsigned char *)c->in.p + c->in.n;
    }
    ssize_t n = body ? read_body(c) : recv(c->fd, p, room, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0) {
        conn_mark_dead(c);
        return false;
    }
    c->heard_ms = clk_now_ms();
    if (body) {
        if (!c->dead)
            keep(c, c->body_left ? 0 : 1, NULL, 0);
    } else if (p == s->scratch) {
        size_t took = parse(c, p, (size_t)n);
        c->room = conn_may_go_on(c) ? c->room * 2 : took;
        c->room = c->room > SCRATCH ? SCRATCH : c->room < LEAST_READ ? LEAST_READ : c->room;
        if (!c->dead)
            keep(c, took, p, (size_t)n);
    } else {
        c->in.n += (size_t)n;
        c->in.p[c->in.n] = 0;
        size_t took = c->in.n >= c->want ? parse(c, (unsigned char *)c->in.p, c->in.n) : 0;
        if (!c->dead)
            keep(c, took, NULL, 0);
    }
    if (c->dead || c->paused_until_ms)
        return false;
    if (!conn_may_go_on(c)) {
        conn_wait_for_turn(c);
        return false;
    }
    if (c->owner && c->owner->partial > server_max_partial(s) && c->partial_ms) {
        c->no_room = true;
        stop_reading(c, clk_now_ms() + TICK_MS);
        return false;
    }
    return body || c->body_left || (size_t)n == room;
}

void conn_on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct zmtp_conn *c = arg;
    (void)fd;
    (void)what;
    if (!conn_may_go_on(c))
        conn_wait_for_turn(c);
    for (int i = 0; i < READS_PER_TURN && !c->dead && !c->waiting && read_once(c); i++) {
    }
}

void zmtp_pause(struct zmtp_conn *c, int ms)
{
    if (!c->dead && ms > 0)
        stop_reading(c, clk_now_ms() + ms);
}

void conn_resume(struct zmtp_conn *c)
{
    c->paused_until_ms = 0;
    c->no_room = false;
    c->heard_ms = clk_now_ms(); /* while it was not read it could not be heard */
    size_t took = c->in.n && c->in.n >= c->want ? parse(c, (unsigned char *)c->in.p, c->in.n) : 0;
    if (c->dead)
        return;
    keep(c, took, NULL, 0);
    if (c->paused_until_ms)
        return;
    if (conn_may_go_on(c))
        event_add(c->read_ev, NULL);
    else
        conn_wait_for_turn(c);
}
