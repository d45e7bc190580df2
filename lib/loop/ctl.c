#include "ctl.h"
#include "base/fd.h"
#include "base/mem.h"
#include "timer.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_LINE = 1 << 20, ACCEPT_PAUSE_MS = 100, RESERVE_S = 2 };

struct ctl {
    struct event_base *base;
    struct ctl_conn *conns; /* open connections */
    struct ctl_ops ops;
    char *path;
    uid_t owner;
    int fd, reserve_fd;
    struct event *ev, *again_ev;
};

struct ctl_conn {
    struct ctl *ctl;
    struct ctl_conn *next, **at;
    struct bufferevent *bev; /* NULL: the other end is gone */
    bool on_reserve;         /* it has the reserve descriptor: closed once answered, for the next one */
    bool is_answered;
    int held;
    void *data;
};

void ctl_send(struct ctl_conn *c, struct buf *b)
{
    buf_adds(b, "\n");
    c->is_answered = true;
    if (c->bev)
        bufferevent_write(c->bev, b->p, b->n);
}

void ctl_answer(struct ctl_conn *c, const struct err *e)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_bool(&b, "ok", !e);
    if (e)
        json_str(&b, "error", e->msg);
    json_end(&b, '}');
    ctl_send(c, &b);
}

void ctl_hold(struct ctl_conn *c)
{
    c->held++;
}

void ctl_release(struct ctl_conn *c)
{
    if (--c->held == 0 && !c->bev)
        free(c);
}

void ctl_set_data(struct ctl_conn *c, void *data)
{
    c->data = data;
}

void *ctl_data(const struct ctl_conn *c)
{
    return c->data;
}

size_t ctl_backlog(const struct ctl_conn *c)
{
    return c->bev ? evbuffer_get_length(bufferevent_get_output(c->bev)) : 0;
}

/* If the reserve was used, this connection's descriptor becomes the reserve. Were it closed and another one opened, somebody else
 * could get the number in between. (And bufferevent_free closes later than it returns.) */
static void close_conn(struct ctl_conn *c)
{
    struct ctl *ctl = c->ctl;
    int fd = bufferevent_getfd(c->bev);
    *c->at = c->next;
    if (c->next)
        c->next->at = c->at;
    bufferevent_disable(c->bev, EV_READ | EV_WRITE);
    bufferevent_free(c->bev);
    c->bev = NULL;
    if (ctl->reserve_fd < 0 && shutdown(fd, SHUT_RDWR) == 0)
        ctl->reserve_fd = fd;
    else
        close(fd);
}

static void end(struct ctl_conn *c)
{
    struct ctl *ctl = c->ctl;
    c->held++;
    if (ctl->ops.gone)
        ctl->ops.gone(ctl->ops.arg, c);
    close_conn(c);
    ctl_release(c);
}

/* The socket's mode says the same; but a mode, and a directory, can be changed. */
static bool is_of(const struct ctl_conn *c, int64_t uid)
{
    struct ucred peer;
    socklen_t n = sizeof peer;
    return c->bev && getsockopt(bufferevent_getfd(c->bev), SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 && peer.uid == uid;
}

bool ctl_is_guest(const struct ctl_conn *c)
{
    const struct ctl *ctl = c->ctl;
    return ctl->ops.guest_ops && ctl->ops.guest >= 0 && is_of(c, ctl->ops.guest);
}

static bool may_order(const struct ctl_conn *c, const bson_t *rq)
{
    if (is_of(c, 0) || is_of(c, c->ctl->owner))
        return true;
    const struct ctl_ops *o = &c->ctl->ops;
    bool is_other = o->other_ops && o->other >= 0 && is_of(c, o->other), may = false;
    for (const char *const *op = ctl_is_guest(c) ? o->guest_ops : is_other ? o->other_ops : NULL; op && !may && *op; op++)
        may = !strcmp(*op, json_get_str(rq, "op", ""));
    return may;
}

static void on_read(struct bufferevent *bev, void *arg)
{
    struct ctl_conn *c = arg;
    struct ctl *ctl = c->ctl;
    struct evbuffer *in = bufferevent_get_input(bev);
    for (char *line; (line = evbuffer_readln(in, NULL, EVBUFFER_EOL_LF));) {
        struct err e = {0};
        bson_t *rq = json_parse(line, strlen(line), &e);
        int r = !rq                 ? ERR_FORMAT
                : !may_order(c, rq) ? err_set(&e, ERR_REFUSED, "only the provider may give orders here")
                                    : ctl->ops.serve(ctl->ops.arg, c, rq, &e);
        if (r <= 0)
            ctl_answer(c, r < 0 ? &e : NULL);
        if (rq)
            bson_destroy(rq);
        free(line);
    }
    if (evbuffer_get_length(in) > MAX_LINE)
        end(c);
}

static void on_written(struct bufferevent *bev, void *arg)
{
    struct ctl_conn *c = arg;
    (void)bev;
    if (c->on_reserve && c->is_answered && !c->held)
        end(c);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
    struct ctl_conn *c = arg;
    (void)bev;
    if ((what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) || !c->held)
        end(c);
    else
        bufferevent_enable(c->bev, EV_READ); /* it timed out while an answer is still to come */
}

static void keep_reserve(struct ctl *ctl)
{
    if (ctl->reserve_fd < 0)
        ctl->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void on_accept_again(evutil_socket_t fd, short what, void *arg)
{
    struct ctl *ctl = arg;
    (void)fd;
    (void)what;
    keep_reserve(ctl);
    event_add(ctl->ev, NULL);
}

static void on_accept(evutil_socket_t fd, short what, void *arg)
{
    struct ctl *ctl = arg;
    (void)what;
    bool on_reserve = false;
    int s = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (s < 0 && (errno == EMFILE || errno == ENFILE) && ctl->reserve_fd >= 0) {
        on_reserve = true;
        close(fd_take(&ctl->reserve_fd)); /* what it is for: to answer also when no descriptors are left */
        s = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    }
    if (s < 0) { /* a pause, since the connection that waits would make us spin */
        event_del(ctl->ev);
        timer_set(ctl->again_ev, ACCEPT_PAUSE_MS);
        return;
    }
    struct ctl_conn *c = xcalloc(1, sizeof *c);
    *c = (struct ctl_conn){.ctl = ctl,
                           .next = ctl->conns,
                           .at = &ctl->conns,
                           .bev = bufferevent_socket_new(ctl->base, s, 0),
                           .on_reserve = on_reserve};
    if (c->next)
        c->next->at = &c->next;
    ctl->conns = c;
    bufferevent_setcb(c->bev, on_read, on_written, on_event, c);
    if (on_reserve)
        bufferevent_set_timeouts(c->bev, &(struct timeval){RESERVE_S, 0}, NULL);
    bufferevent_enable(c->bev, EV_READ | EV_WRITE);
}

int ctl_new(struct event_base *base, const char *path, const struct ctl_ops *ops, struct ctl **ret, struct err *e)
{
    const bool guest = ops->guest_ops && ops->guest >= 0;
    int fd = fd_unix_listen(path, guest ? 0660 : 0600);
    if (fd < 0)
        return err_sys(e, fd, "cannot listen on %s", path);
    if (guest && fchownat(AT_FDCWD, path, (uid_t)-1, (gid_t)ops->guest, AT_SYMLINK_NOFOLLOW) < 0) { /* lint: ours */
        int r = -errno;
        close(fd);
        return err_sys(e, r, "cannot open %s to the monitor", path);
    }
    struct ctl *ctl = xcalloc(1, sizeof *ctl);
    *ctl = (struct ctl){.base = base, .ops = *ops, .path = xstrdup(path), .owner = geteuid(), .fd = fd, .reserve_fd = -1};
    ctl->ev = event_new(base, fd, EV_READ | EV_PERSIST, on_accept, ctl);
    event_add(ctl->ev, NULL);
    ctl->again_ev = event_new(base, -1, 0, on_accept_again, ctl);
    keep_reserve(ctl);
    *ret = ctl;
    return 0;
}

void ctl_free(struct ctl *ctl)
{
    if (!ctl)
        return;
    while (ctl->conns) {
        struct ctl_conn *c = ctl->conns;
        c->held++;
        close_conn(c);
        ctl_release(c);
    }
    event_free(ctl->ev);
    event_free(ctl->again_ev);
    if (ctl->reserve_fd >= 0)
        close(ctl->reserve_fd);
    close(ctl->fd);
    unlink(ctl->path);
    free(ctl->path);
    free(ctl);
}
