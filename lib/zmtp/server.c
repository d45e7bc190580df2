#include "parts.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum {
    ACCEPTS_PER_TURN = 64,
    MAX_UNKNOWN = 256, /* connections in their handshake; the oldest gives way */
    HANDSHAKE_MS = 5000,
    HEARTBEAT_MS = 2000,
    HEARTBEAT_TIMEOUT_MS = 8000,
    SLOW_MS = 120000,  /* a message has to be complete by then */
    NO_ROOM_MS = 5000, /* and when its owner has no room left, by then */
    ACCEPT_PAUSE_MS = 100,
    TELL_MS = 10000,
};

void server_refuse(struct zmtp_server *s, enum refusal why, const char *who, const char *what)
{
    int64_t now = clk_now_ms();
    s->refusals[why].n++;
    if (s->refusals[why].told_ms && now - s->refusals[why].told_ms < TELL_MS)
        return;
    s->refusals[why].told_ms = now;
    log_warn("refused", NULL, NULL, "a connection of %s was ended: %s (%llu like this until now)", who, what,
             (unsigned long long)s->refusals[why].n);
}

/* ---- a connection's state, and its end ---- */

void conn_set_state(struct zmtp_conn *c, enum conn_state state)
{
    assert(state == c->state + 1);
    c->state = state;
    c->s->n_unknown -= state == OPEN;
}

void conn_mark_dead(struct zmtp_conn *c)
{
    if (c->dead)
        return;
    c->dead = true;
    event_del(c->read_ev);
    event_del(c->write_ev);
    c->next_dead = c->s->dead;
    c->s->dead = c;
    event_active(c->s->reap_ev, EV_TIMEOUT, 0);
}

void conn_end(struct zmtp_conn *c, enum refusal why, const char *what)
{
    char who[64];
    snprintf(who, sizeof who, c->uid >= 0 ? "uid %lld" : "a peer on tcp", (long long)c->uid);
    server_refuse(c->s, why, c->user ? c->user : who, what);
    conn_mark_dead(c);
}

static void conn_free(struct zmtp_conn *c)
{
    struct zmtp_server *s = c->s;
    *c->link = c->next;
    if (c->next)
        c->next->link = c->link;
    for (struct zmtp_conn **d = &s->dirty; c->dirty && *d; d = &(*d)->next_dirty)
        if (*d == c) {
            *d = c->next_dirty;
            break;
        }
    conn_stop_waiting(c);
    s->n--;
    s->n_unknown -= c->state != OPEN;
    conn_leave_owner(c);
    event_free(c->read_ev);
    event_free(c->write_ev);
    close(c->fd);
    buf_fini(&c->in);
    buf_fini(&c->out);
    zmtp_message_fini(&c->msg);
    free(c->curve);
    free(c->user);
    free(c);
}

static void on_reap(evutil_socket_t fd, short what, void *arg)
{
    struct zmtp_server *s = arg;
    (void)fd;
    (void)what;
    while (s->dead) {
        struct zmtp_conn *c = s->dead;
        s->dead = c->next_dead;
        if (c->told)
            s->ops->on_close(s->arg, c);
        conn_free(c);
    }
}

/* ---- time ---- */

static void ping(struct zmtp_conn *c, int64_t now)
{
    static const unsigned char body[7] = {4, 'P', 'I', 'N', 'G', 0, HEARTBEAT_TIMEOUT_MS / 100};
    c->pinged_ms = now;
    if (c->out.n - c->out_at >= FULL)
        return;
    conn_add_frame(c, F_COMMAND, body, sizeof body);
    conn_flush_soon(c);
}

static void check(struct zmtp_conn *c, int64_t now)
{
    if (c->state != OPEN) {
        if (now - c->opened_ms > HANDSHAKE_MS)
            conn_end(c, SLOW, "its handshake took too long");
        return;
    }
    if (c->waiting)
        return;
    if (c->paused_until_ms) {
        bool room = !c->no_room || c->owner->partial <= server_max_partial(c->s);
        if (c->no_room && now - c->partial_ms > NO_ROOM_MS)
            conn_end(c, SLOW, "its owner has too many bytes of incomplete messages under way");
        else if (now >= c->paused_until_ms && room)
            conn_resume(c);
        return;
    }
    if (c->partial_ms && now - c->partial_ms > SLOW_MS)
        conn_end(c, SLOW, "it left a message incomplete for too long");
    else if (now - c->heard_ms > HEARTBEAT_TIMEOUT_MS)
        conn_mark_dead(c);
    else if (now - c->heard_ms >= HEARTBEAT_MS && now - c->pinged_ms >= HEARTBEAT_MS)
        ping(c, now);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct zmtp_server *s = arg;
    int64_t now = clk_now_ms();
    (void)fd;
    (void)what;
    for (struct zmtp_conn *c = s->first, *next; c; c = next) {
        next = c->next;
        if (!c->dead)
            check(c, now);
    }
    if (s->accept_at_ms && now >= s->accept_at_ms) {
        s->accept_at_ms = 0;
        event_add(s->accept_ev, NULL);
    }
}

/* ---- accepting ---- */

static void drop_oldest_unknown(struct zmtp_server *s)
{
    struct zmtp_conn *oldest = NULL;
    for (struct zmtp_conn *c = s->first; c; c = c->next) /* newest first */
        if (c->state != OPEN && !c->dead)
            oldest = c;
    if (oldest)
        conn_end(oldest, SLOW, "too many connections are in their handshake; this was the oldest");
}

static struct zmtp_conn *conn_new(struct zmtp_server *s, int fd, const struct ucred *cred)
{
    struct zmtp_conn *c = xcalloc(1, sizeof *c);
    int64_t now = clk_now_ms();
    *c = (struct zmtp_conn){.s = s, .fd = fd, .uid = -1, .pid = -1, .opened_ms = now, .heard_ms = now, .pinged_ms = now};
    c->room = MIN_READ;
    if (s->curve)
        c->curve = xcalloc(1, sizeof *c->curve);
    if (cred) {
        c->uid = cred->uid;
        c->pid = cred->pid;
        c->user = xasprintf("uid %lld, pid %lld", (long long)c->uid, (long long)c->pid);
    }
    c->read_ev = event_new(s->base, fd, EV_READ | EV_PERSIST, conn_on_readable, c);
    c->write_ev = event_new(s->base, fd, EV_WRITE, conn_on_writable, c);
    c->next = s->first;
    c->link = &s->first;
    if (c->next)
        c->next->link = &c->next;
    s->first = c;
    s->n++;
    if (++s->n_unknown > MAX_UNKNOWN)
        drop_oldest_unknown(s);
    return c;
}

static void accept_fd(struct zmtp_server *s, int fd)
{
    struct ucred cred;
    socklen_t n = sizeof cred;
    char who[48];
    if (s->curve) {
        struct zmtp_conn *c = conn_new(s, fd, NULL);
        conn_greet(c);
        event_add(c->read_ev, NULL);
        return;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0) {
        close(fd);
        return;
    }
    snprintf(who, sizeof who, "uid %lld", (long long)cred.uid);
    int max = s->ops->may_connect(s->arg, cred.uid);
    if (max <= 0) {
        server_refuse(s, STRANGER, who, "this uid is no tenant's");
        close(fd);
        return;
    }
    struct zmtp_conn *c = conn_new(s, fd, &cred);
    if (!conn_join(c, who, max)) {
        conn_mark_dead(c);
        return;
    }
    conn_greet(c);
    event_add(c->read_ev, NULL);
}

static void on_accept(evutil_socket_t listener, short what, void *arg)
{
    struct zmtp_server *s = arg;
    (void)what;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            accept_fd(s, fd);
            continue;
        }
        if (errno == EINTR || errno == ECONNABORTED)
            continue;
        if (errno != EAGAIN) { /* no descriptors or memory: the listener's backlog holds them meanwhile */
            server_refuse(s, TOO_MANY, "anybody", strerror(errno));
            event_del(s->accept_ev);
            s->accept_at_ms = clk_now_ms() + ACCEPT_PAUSE_MS;
        }
        return;
    }
}

/* ---- the server ---- */

struct zmtp_server *zmtp_server_new(struct event_base *base, int listener, const struct curve_server *curve,
                                    const struct zmtp_ops *ops, void *arg)
{
    struct zmtp_server *s = xcalloc(1, sizeof *s);
    *s = (struct zmtp_server){.base = base, .curve = curve, .ops = ops, .arg = arg, .max_message = WIRE_MIN_REQUEST_BYTES};
    s->scratch = xmalloc(SCRATCH);
    s->reap_ev = event_new(base, -1, 0, on_reap, s);
    s->flush_ev = event_new(base, -1, 0, server_on_flush, s);
    s->turn_ev = event_new(base, -1, 0, server_on_turn, s);
    s->tick_ev = event_new(base, -1, EV_PERSIST, on_tick, s);
    event_add(s->tick_ev, &(struct timeval){0, TICK_MS * 1000});
    s->accept_ev = event_new(base, listener, EV_READ | EV_PERSIST, on_accept, s);
    if (listener >= 0)
        event_add(s->accept_ev, NULL);
    return s;
}

void zmtp_server_free(struct zmtp_server *s)
{
    if (!s)
        return;
    while (s->first) {
        struct zmtp_conn *c = s->first;
        conn_flush(c); /* the last answers */
        if (c->told)
            s->ops->on_close(s->arg, c);
        conn_free(c);
    }
    event_free(s->accept_ev);
    event_free(s->tick_ev);
    event_free(s->flush_ev);
    event_free(s->turn_ev);
    event_free(s->reap_ev);
    map_fini(&s->owners);
    free(s->scratch);
    free(s);
}

void zmtp_server_limit(struct zmtp_server *s, size_t max_message)
{
    s->max_message = max_message;
}

void zmtp_server_adopt(struct zmtp_server *s, int fd)
{
    accept_fd(s, fd);
}

void zmtp_end(struct zmtp_conn *c)
{
    conn_mark_dead(c);
}

void zmtp_set_tag(struct zmtp_conn *c, void *tag)
{
    c->tag = tag;
}

void *zmtp_tag(const struct zmtp_conn *c)
{
    return c->tag;
}

int64_t zmtp_uid(const struct zmtp_conn *c)
{
    return c->uid;
}

int64_t zmtp_pid(const struct zmtp_conn *c)
{
    return c->pid;
}

const char *zmtp_user(const struct zmtp_conn *c)
{
    return c->user;
}

const unsigned char *zmtp_key(const struct zmtp_conn *c)
{
    return c->curve ? c->curve->client_key : NULL;
}

size_t zmtp_server_connections(const struct zmtp_server *s)
{
    return s->n - s->n_unknown;
}

void zmtp_message_move(struct zmtp_message *to, struct zmtp_message *from)
{
    *to = *from;
    from->data = (struct buf){0};
    from->n = 0;
}

void zmtp_message_fini(struct zmtp_message *m)
{
    buf_fini(&m->data);
    m->n = 0;
}
