#include "peer.h"
#include "timer.h"

#include "base/fd.h"
#include "base/mem.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <string.h>

enum { AGAIN_MS = 200, MAX_LINE = 64 << 20 };

struct peer {
    struct event_base *base;
    char *path;
    struct peer_ops ops;
    struct bufferevent *bev;
    struct event *timer;
};

static void again(struct peer *p)
{
    if (p->bev) {
        bufferevent_free(p->bev);
        p->bev = NULL;
        p->ops.on_down(p->ops.arg);
    }
    timer_set(p->timer, AGAIN_MS);
}

static void on_read(struct bufferevent *bev, void *arg)
{
    struct peer *p = arg;
    struct evbuffer *in = bufferevent_get_input(bev);
    size_t n;
    for (char *line; (line = evbuffer_readln(in, &n, EVBUFFER_EOL_LF));) {
        AUTO_BSON bson_t *doc = json_parse(line, n, NULL);
        if (doc)
            p->ops.on_line(p->ops.arg, doc);
        free(line);
    }
    if (evbuffer_get_length(in) > MAX_LINE)
        again(p);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
    (void)bev;
    if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
        again(arg);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct peer *p = arg;
    (void)fd;
    (void)what;
    int sock = fd_unix_connect(p->path, false);
    if (sock < 0) {
        again(p);
        return;
    }
    p->bev = bufferevent_socket_new(p->base, sock, BEV_OPT_CLOSE_ON_FREE);
    bufferevent_setcb(p->bev, on_read, NULL, on_event, p);
    bufferevent_enable(p->bev, EV_READ | EV_WRITE);
    if (p->ops.on_up)
        p->ops.on_up(p->ops.arg);
}

struct peer *peer_new(struct event_base *base, const char *path, const struct peer_ops *ops)
{
    struct peer *p = xcalloc(1, sizeof *p);
    *p = (struct peer){.base = base, .path = xstrdup(path), .ops = *ops};
    p->timer = event_new(base, -1, 0, on_timer, p);
    timer_set(p->timer, 0);
    return p;
}

void peer_free(struct peer *p)
{
    if (!p)
        return;
    if (p->bev)
        bufferevent_free(p->bev);
    event_free(p->timer);
    free(p->path);
    free(p);
}

bool peer_send(struct peer *p, const char *line, size_t n)
{
    if (!p || !p->bev)
        return false;
    bufferevent_write(p->bev, line, n);
    bufferevent_write(p->bev, "\n", 1);
    return true;
}

bool peer_is_up(const struct peer *p)
{
    return p && p->bev;
}
