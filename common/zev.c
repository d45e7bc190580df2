#include "zev.h"
#include "mem.h"

#include <errno.h>
#include <event2/event.h>
#include <zmq.h>

struct zev {
    void *socket;
    struct event *fd_ev, *again_ev;
    void (*fn)(void *arg);
    void *arg;
};

static void look(evutil_socket_t fd, short what, void *arg)
{
    struct zev *z = arg;
    int events = 0;
    size_t n = sizeof events;
    (void)fd;
    (void)what;
    if (zmq_getsockopt(z->socket, ZMQ_EVENTS, &events, &n) < 0 || !(events & ZMQ_POLLIN))
        return;
    event_active(z->again_ev, EV_TIMEOUT, 0); /* looks once more next turn, whatever happens in there */
    z->fn(z->arg);
}

int zev_new(struct event_base *base, void *socket, void (*fn)(void *arg), void *arg, struct zev **ret, struct err *e)
{
    int fd;
    size_t n = sizeof fd;
    if (zmq_getsockopt(socket, ZMQ_FD, &fd, &n) < 0)
        return err_sys(e, -errno, "a ZeroMQ socket has no descriptor");
    struct zev *z = xcalloc(1, sizeof *z);
    *z = (struct zev){.socket = socket, .fn = fn, .arg = arg};
    z->fd_ev = event_new(base, fd, EV_READ | EV_PERSIST, look, z);
    z->again_ev = event_new(base, -1, 0, look, z);
    event_add(z->fd_ev, NULL);
    event_active(z->again_ev, EV_TIMEOUT, 0);
    *ret = z;
    return 0;
}

void zev_free(struct zev *z)
{
    if (!z)
        return;
    event_free(z->fd_ev);
    event_free(z->again_ev);
    free(z);
}

void zev_touch(struct zev *z)
{
    event_active(z->again_ev, EV_TIMEOUT, 0);
}
