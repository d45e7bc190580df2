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

enum { MAX_LINE = 1 << 20, MAX_WRITE = 1 << 20, MAX_UNREAD = 4 << 20, MAX_HELD = 64, ACCEPT_PAUSE_MS = 100, RESERVE_S = 2 };

struct listener {
    struct ctl *ctl;
    const struct ctl_guest *guest; /* whose own socket this is; NULL: the program's */
    char *path;
    int fd;
    struct event *ev;
    size_t n_conns;
};

struct ctl {
    struct event_base *base;
    struct ctl_conn *conns; /* open connections */
    struct ctl_ops ops;
    struct ctl_guest *guests; /* what ops.guests is */
    uid_t owner;
    struct listener *v;
    size_t n;
    int reserve_fd;
    struct event *again_ev;
};

struct ctl_conn {
    struct ctl *ctl;
    struct listener *at;
    struct ctl_conn *next, **here;
    struct bufferevent *bev;       /* NULL: the other end is gone */
    const struct ctl_guest *guest; /* who asks; NULL with is_provider: the provider, else a stranger */
    bool is_provider;
    bool on_reserve; /* it has the reserve descriptor: closed once answered, for the next one */
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

static void free_text(const void *p, size_t n, void *arg)
{
    (void)n;
    (void)arg;
    free((void *)p);
}

void ctl_send_text(struct ctl_conn *c, struct buf *text, size_t left_out)
{
    AUTO_BUF struct buf line = {0};
    json_begin(&line, NULL, '{');
    json_bool(&line, "ok", true);
    json_i64(&line, "bytes", (int64_t)text->n);
    json_i64(&line, "left_out", (int64_t)left_out);
    json_end(&line, '}');
    ctl_send(c, &line);
    ctl_send_bytes(c, text);
}

void ctl_send_bytes(struct ctl_conn *c, struct buf *text)
{
    if (c->bev && text->n && evbuffer_add_reference(bufferevent_get_output(c->bev), text->p, text->n, free_text, NULL) == 0)
        *text = (struct buf){0};
    buf_fini(text);
}

void ctl_answer(struct ctl_conn *c, const struct err *e)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_bool(&b, "ok", !e);
    if (e) {
        json_str(&b, "error", e->msg);
        json_str(&b, "code", err_reason(e));
    }
    if (e && e->retry_after_s)
        json_i64(&b, "retry_after_s", e->retry_after_s);
    json_end(&b, '}');
    ctl_send(c, &b);
}

void ctl_hold(struct ctl_conn *c)
{
    c->held++;
}

void ctl_release(struct ctl_conn *c)
{
    if (c->held-- == MAX_HELD && c->bev) /* its next request may have come already; not from within what is being served */
        bufferevent_trigger(c->bev, EV_READ, BEV_TRIG_DEFER_CALLBACKS);
    if (c->held == 0 && !c->bev)
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
    *c->here = c->next;
    if (c->next)
        c->next->here = c->here;
    c->at->n_conns--;
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

bool ctl_is_guest(const struct ctl_conn *c, const char *name)
{
    return c->guest && !strcmp(c->guest->name, name);
}

/* Who the other end is. The socket's mode says the same; but a mode, and a directory, can be changed. */
static void identify(struct ctl_conn *c, int fd)
{
    struct ctl *ctl = c->ctl;
    const struct ctl_guest *own = c->at->guest;
    struct ucred peer;
    socklen_t n = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0)
        return;
    bool is_provider = peer.uid == 0 || peer.uid == ctl->owner;
    c->is_provider = is_provider && !own;
    if (own && (is_provider || (own->uid >= 0 && peer.uid == own->uid)))
        c->guest = own;
    for (size_t i = 0; !own && !is_provider && i < ctl->ops.n_guests; i++)
        if (ctl->guests[i].way != CTL_BY_SOCKET && ctl->guests[i].uid >= 0 && peer.uid == ctl->guests[i].uid)
            c->guest = &ctl->guests[i];
}

static bool may_order(const struct ctl_conn *c, const bson_t *rq)
{
    bool may = c->is_provider;
    for (const char *const *op = c->guest ? c->guest->ops : NULL; op && !may && *op; op++)
        may = !strcmp(*op, json_get_str(rq, "op", ""));
    return may;
}

/* Its next request waits until it has read answers, or until some are there. */
static bool has_to_wait(const struct ctl_conn *c)
{
    return ctl_backlog(c) > MAX_UNREAD || c->held >= MAX_HELD;
}

static void on_read(struct bufferevent *bev, void *arg)
{
    struct ctl_conn *c = arg;
    struct ctl *ctl = c->ctl;
    struct evbuffer *in = bufferevent_get_input(bev);
    for (char *line; !has_to_wait(c) && (line = evbuffer_readln(in, NULL, EVBUFFER_EOL_LF));) {
        struct err e = {0};
        bson_t *rq = json_parse(line, strlen(line), &e);
        int r = !rq                 ? ERR_FORMAT
                : !may_order(c, rq) ? err_refuse(&e, "forbidden", 0, "only the provider may give orders here")
                                    : ctl->ops.serve(ctl->ops.arg, c, rq, &e);
        if (r <= 0)
            ctl_answer(c, r < 0 ? &e : NULL);
        if (rq)
            bson_destroy(rq);
        free(line);
    }
    if (!has_to_wait(c) && evbuffer_get_length(in) > MAX_LINE)
        end(c);
}

static void on_written(struct bufferevent *bev, void *arg)
{
    struct ctl_conn *c = arg;
    if (c->on_reserve && c->is_answered && !c->held)
        end(c);
    else if (evbuffer_get_length(bufferevent_get_input(bev)))
        on_read(bev, c); /* what had to wait */
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
    for (size_t i = 0; i < ctl->n; i++)
        event_add(ctl->v[i].ev, NULL);
}

/* A pause, since the connection that waits would make us spin. */
static void pause_accepting(struct ctl *ctl)
{
    for (size_t i = 0; i < ctl->n; i++)
        event_del(ctl->v[i].ev);
    timer_set(ctl->again_ev, ACCEPT_PAUSE_MS);
}

static void add_conn(struct listener *l, int s, bool on_reserve)
{
    struct ctl *ctl = l->ctl;
    struct ctl_conn *c = xcalloc(1, sizeof *c);
    *c = (struct ctl_conn){.ctl = ctl,
                           .at = l,
                           .next = ctl->conns,
                           .here = &ctl->conns,
                           .bev = bufferevent_socket_new(ctl->base, s, 0),
                           .on_reserve = on_reserve};
    if (c->next)
        c->next->here = &c->next;
    ctl->conns = c;
    l->n_conns++;
    identify(c, s);
    bufferevent_setcb(c->bev, on_read, on_written, on_event, c);
    bufferevent_setwatermark(c->bev, EV_READ, 0, MAX_LINE + 1);
    bufferevent_set_max_single_write(c->bev, MAX_WRITE); /* 16 KiB, else: figures of many tenants are millions of bytes */
    if (on_reserve)
        bufferevent_set_timeouts(c->bev, &(struct timeval){RESERVE_S, 0}, NULL);
    bufferevent_enable(c->bev, EV_READ | EV_WRITE);
}

static void on_accept(evutil_socket_t fd, short what, void *arg)
{
    struct listener *l = arg;
    struct ctl *ctl = l->ctl;
    (void)what;
    bool on_reserve = false;
    int s = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (s < 0 && (errno == EMFILE || errno == ENFILE) && ctl->reserve_fd >= 0) {
        on_reserve = true;
        close(fd_take(&ctl->reserve_fd)); /* what it is for: to answer also when no descriptors are left */
        s = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    }
    if (s < 0)
        pause_accepting(ctl);
    else if (l->guest && l->n_conns >= CTL_GUEST_CONNS)
        close(s);
    else
        add_conn(l, s, on_reserve);
}

/* ---- sockets ---- */

/* guest: whose group the socket is to have; NULL: nobody's. */
static int listen_at(struct ctl *ctl, const char *path, const struct ctl_guest *guest, struct err *e)
{
    const bool group = guest && guest->uid >= 0;
    AUTO_FD int fd = fd_unix_listen(path, group ? 0660 : 0600);
    if (fd < 0)
        return err_sys(e, fd, "cannot listen on %s", path);
    if (group && fchownat(AT_FDCWD, path, (uid_t)-1, (gid_t)guest->uid, AT_SYMLINK_NOFOLLOW) < 0) /* lint: ours */
        return err_sys(e, -errno, "cannot open %s to the %s", path, guest->name);
    struct listener *l = &ctl->v[ctl->n++];
    *l = (struct listener){.ctl = ctl, .path = xstrdup(path), .fd = fd_take(&fd)};
    l->guest = guest && guest->way == CTL_BY_SOCKET ? guest : NULL;
    l->ev = event_new(ctl->base, l->fd, EV_READ | EV_PERSIST, on_accept, l);
    event_add(l->ev, NULL);
    return 0;
}

/* PROGRAM.sock -> PROGRAM.NAME.sock */
static char *path_of_guest(const char *path, const char *name)
{
    size_t n = strlen(path), k = strlen(".sock");
    bool has = n > k && !strcmp(path + n - k, ".sock");
    return xasprintf("%.*s.%s.sock", (int)(has ? n - k : n), path, name);
}

static int listen_at_all(struct ctl *ctl, const char *path, struct err *e)
{
    const struct ctl_guest *by_group = NULL;
    for (size_t i = 0; i < ctl->ops.n_guests; i++)
        if (ctl->guests[i].way == CTL_BY_GROUP)
            by_group = &ctl->guests[i];
    int r = listen_at(ctl, path, by_group, e);
    for (size_t i = 0; r == 0 && i < ctl->ops.n_guests; i++)
        if (ctl->guests[i].way == CTL_BY_SOCKET) {
            AUTO_FREE char *own = path_of_guest(path, ctl->guests[i].name);
            r = listen_at(ctl, own, &ctl->guests[i], e);
        }
    return r;
}

int ctl_new(struct event_base *base, const char *path, const struct ctl_ops *ops, struct ctl **ret, struct err *e)
{
    struct ctl *ctl = xcalloc(1, sizeof *ctl);
    *ctl = (struct ctl){.base = base, .ops = *ops, .owner = geteuid(), .reserve_fd = -1};
    ctl->guests = xcalloc(ops->n_guests + 1, sizeof *ctl->guests);
    for (size_t i = 0; i < ops->n_guests; i++)
        ctl->guests[i] = ops->guests[i];
    ctl->v = xcalloc(ops->n_guests + 1, sizeof *ctl->v);
    ctl->again_ev = event_new(base, -1, 0, on_accept_again, ctl);
    int r = listen_at_all(ctl, path, e);
    if (r < 0) {
        ctl_free(ctl);
        return r;
    }
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
    for (size_t i = 0; i < ctl->n; i++) {
        event_free(ctl->v[i].ev);
        close(ctl->v[i].fd);
        unlink(ctl->v[i].path);
        free(ctl->v[i].path);
    }
    event_free(ctl->again_ev);
    if (ctl->reserve_fd >= 0)
        close(ctl->reserve_fd);
    free(ctl->v);
    free(ctl->guests);
    free(ctl);
}
