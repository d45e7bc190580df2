#include "client.h"

#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <string.h>

enum {
    GREETING = 64,
    AGAIN_MS = 200,
    MORE = 1, /* of a frame's flags */
    LONG = 2,
    COMMAND = 4,
};

struct zmtp_client {
    struct event_base *base;
    char *path;
    size_t max_message;
    struct zmtp_client_ops ops;
    struct bufferevent *bev;
    struct event *timer;
    enum { GREET, HANDSHAKE, OPEN } state;
    struct buf message; /* the frames of one that is not complete yet */
    size_t ends[WIRE_MAX_FRAMES], n_frames;
};

static void again(struct zmtp_client *c)
{
    struct timeval tv = {0, AGAIN_MS * 1000};
    bool was_open = c->state == OPEN;
    if (c->bev)
        bufferevent_free(c->bev);
    c->bev = NULL;
    c->state = GREET;
    c->n_frames = 0;
    buf_reset(&c->message);
    event_add(c->timer, &tv);
    if (was_open)
        c->ops.on_down(c->ops.arg);
}

static void add_frame(struct evbuffer *out, unsigned flags, const void *p, size_t n)
{
    unsigned char head[9] = {(unsigned char)flags, (unsigned char)n};
    if (n > 255) {
        head[0] |= LONG;
        for (int i = 0; i < 8; i++)
            head[1 + i] = (unsigned char)((uint64_t)n >> (56 - 8 * i));
    }
    evbuffer_add(out, head, n > 255 ? 9 : 2);
    evbuffer_add(out, p, n);
}

static void greet(struct zmtp_client *c)
{
    static const char ready[] = "\5READY\13Socket-Type\0\0\0\6DEALER\10Identity\0\0\0\0";
    struct evbuffer *out = bufferevent_get_output(c->bev);
    char g[GREETING] = {0};
    g[0] = (char)0xff;
    g[9] = 0x7f;
    g[10] = 3;
    memcpy(g + 12, "NULL", 4);
    evbuffer_add(out, g, sizeof g);
    add_frame(out, COMMAND, ready, sizeof ready - 1);
}

/* ---- reading ---- */

static bool read_greeting(struct evbuffer *in)
{
    unsigned char g[GREETING];
    evbuffer_remove(in, g, sizeof g);
    return g[0] == 0xff && (g[9] & 1) && g[10] >= 3 && !memcmp(g + 12, "NULL", 5);
}

static bool take_command(struct zmtp_client *c, const unsigned char *p, size_t n)
{
    if (c->state == HANDSHAKE) {
        if (n < 6 || memcmp(p, "\5READY", 6))
            return false;
        c->state = OPEN;
        if (c->ops.on_up)
            c->ops.on_up(c->ops.arg);
        return true;
    }
    if (n >= 7 && !memcmp(p, "\4PING", 5)) { /* time to live, then what the answer has to carry */
        AUTO_BUF struct buf pong = {0};
        buf_adds(&pong, "\4PONG");
        buf_add(&pong, p + 7, n - 7);
        add_frame(bufferevent_get_output(c->bev), COMMAND, pong.p, pong.n);
    }
    return true;
}

/* A message is complete. False: the connection is another one, or none, now. */
static bool deliver(struct zmtp_client *c)
{
    struct bufferevent *bev = c->bev;
    struct wire_frame v[WIRE_MAX_FRAMES];
    size_t n = c->n_frames, from = 0;
    for (size_t i = 0; i < n; i++) {
        v[i] = (struct wire_frame){c->message.p + from, c->ends[i] - from};
        from = c->ends[i];
    }
    c->n_frames = 0;
    c->ops.on_message(c->ops.arg, v, n);
    if (c->bev != bev)
        return false;
    buf_reset(&c->message);
    return true;
}

static bool take_frame(struct zmtp_client *c, unsigned flags, const unsigned char *p, size_t n)
{
    if (flags & COMMAND)
        return take_command(c, p, n);
    if (c->state != OPEN || c->n_frames == WIRE_MAX_FRAMES || c->message.n + n > c->max_message)
        return false;
    buf_reserve(&c->message, n + 1); /* a frame may be empty */
    buf_add(&c->message, p, n);
    c->ends[c->n_frames++] = c->message.n;
    return flags & MORE || deliver(c);
}

/* 1: there was a frame; 0: it is not all there; -1: the connection is of no use. */
static int read_frame(struct zmtp_client *c, struct evbuffer *in)
{
    unsigned char head[9];
    ssize_t got = evbuffer_copyout(in, head, sizeof head);
    size_t n_head = got > 0 && head[0] & LONG ? 9 : 2;
    if (got < (ssize_t)n_head)
        return 0;
    uint64_t n = head[1];
    for (size_t i = 2; i < n_head; i++)
        n = n << 8 | head[i];
    if (n > c->max_message)
        return -1;
    if (evbuffer_get_length(in) < n_head + n)
        return 0;
    evbuffer_drain(in, n_head);
    AUTO_BUF struct buf body = {0};
    buf_reserve(&body, n + 1);
    evbuffer_remove(in, body.p, n);
    return take_frame(c, head[0], (const unsigned char *)body.p, n) ? 1 : -1;
}

static void on_read(struct bufferevent *bev, void *arg)
{
    struct zmtp_client *c = arg;
    struct evbuffer *in = bufferevent_get_input(bev);
    if (c->state == GREET) {
        if (evbuffer_get_length(in) < GREETING)
            return;
        if (!read_greeting(in)) {
            again(c);
            return;
        }
        c->state = HANDSHAKE;
    }
    int r;
    do
        r = read_frame(c, in);
    while (r > 0 && c->bev == bev);
    if (r < 0 && c->bev == bev)
        again(c);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
    (void)bev;
    if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
        again(arg);
}

/* ---- life ---- */

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct zmtp_client *c = arg;
    (void)fd;
    (void)what;
    int sock = fd_unix_connect(c->path, false);
    if (sock < 0) {
        again(c);
        return;
    }
    c->bev = bufferevent_socket_new(c->base, sock, BEV_OPT_CLOSE_ON_FREE);
    bufferevent_setcb(c->bev, on_read, NULL, on_event, c);
    bufferevent_enable(c->bev, EV_READ | EV_WRITE);
    greet(c);
}

struct zmtp_client *zmtp_client_new(struct event_base *base, const char *path, size_t max_message,
                                    const struct zmtp_client_ops *ops)
{
    struct timeval at_once = {0, 0};
    struct zmtp_client *c = xcalloc(1, sizeof *c);
    *c = (struct zmtp_client){.base = base, .path = xstrdup(path), .max_message = max_message, .ops = *ops};
    c->timer = event_new(base, -1, 0, on_timer, c);
    event_add(c->timer, &at_once);
    return c;
}

void zmtp_client_free(struct zmtp_client *c)
{
    if (!c)
        return;
    if (c->bev)
        bufferevent_free(c->bev);
    event_free(c->timer);
    buf_fini(&c->message);
    free(c->path);
    free(c);
}

bool zmtp_client_is_up(const struct zmtp_client *c)
{
    return c->state == OPEN;
}

bool zmtp_client_send(struct zmtp_client *c, const struct wire_frame *v, size_t n)
{
    if (c->state != OPEN)
        return false;
    struct evbuffer *out = bufferevent_get_output(c->bev);
    for (size_t i = 0; i < n; i++)
        add_frame(out, i + 1 < n ? MORE : 0, v[i].p, v[i].n);
    return true;
}

size_t zmtp_client_backlog(const struct zmtp_client *c)
{
    return c->bev ? evbuffer_get_length(bufferevent_get_output(c->bev)) : 0;
}
