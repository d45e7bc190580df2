#include "server.h"

#include "common/clk.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/map.h"
#include "common/mem.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum {
    GREETING = 64,
    SCRATCH = 256 << 10,
    READS_PER_TURN = 4,
    ACCEPTS_PER_TURN = 64,
    MAX_COMMAND = 4096,     /* of a handshake, and of PING */
    MAX_FRAMES_SENT = 1024, /* of a message, before its connection is ended */
    MAX_UNKNOWN = 256,      /* connections that have not proved who they are; the oldest gives way */
    HANDSHAKE_MS = 5000,
    HEARTBEAT_MS = 2000,
    HEARTBEAT_TIMEOUT_MS = 8000,
    SLOW_MS = 120000,  /* a message has to be complete by then */
    NO_ROOM_MS = 5000, /* and when its owner has no room left, by then */
    TICK_MS = 250,
    MAX_UNREAD = 64 << 20, /* of a connection: what the largest window may hold */
    MAX_UNREAD_MESSAGES = 2048,
    MAX_OWNER_UNREAD = 256 << 20, /* of all connections of an owner */
    FULL = 1 << 20,               /* from here on what can wait should */
    OWNER_FULL = 32 << 20,
    MIN_OWNER_PARTIAL = 16 << 20, /* bytes of messages that are not complete */
    KEEP_BYTES = 64 << 10,        /* of output: a larger buffer goes when it is empty */
    KEEP_IDLE_BYTES = 4096,       /* of messages */
    MIN_READ = 16 << 10,
    LEAST_READ = 4 << 10,
    MIN_BODY = 16 << 10, /* a frame from which on it is read to where it stays */
    ACCEPT_PAUSE_MS = 100,
    TELL_MS = 10000,
    SHARE = 512 << 10,         /* bytes that are taken of an owner in a turn of the loop; the rest waits for the next */
    FRAME_COST = 256,          /* of that, besides its bytes */
    HANDSHAKE_COST = 64 << 10, /* a command of CURVE's: all who are not known have one share */
};

enum { F_MORE = 1, F_LONG = 2, F_COMMAND = 4 }; /* of a frame */
enum { BOX_MORE = 1, BOX_COMMAND = 2 };         /* of a frame in a box */
enum refusal { STRANGER, TOO_MANY, BAD_KEY, MALFORMED, SLOW, N_REFUSALS };

struct owner {
    char *name;
    int n;
    size_t partial, unread;
    size_t taken; /* in this turn */
};

struct zmtp_conn {
    struct zmtp_server *s;
    struct zmtp_conn *next, **link; /* of all */
    struct zmtp_conn *next_dead, *next_dirty, *next_waiting;
    struct owner *owner; /* NULL: not known yet */
    int fd;
    struct event *read_ev, *write_ev;
    enum { GREET, HANDSHAKE, OPEN } state;
    bool dead, told, dirty, full;
    bool waiting; /* for its owner's next turn; what it was read but not looked at is in `in` */
    void *tag;
    int64_t uid, pid;
    char *user;
    struct curve *curve; /* NULL: the mechanism is NULL */
    int64_t opened_ms, heard_ms, pinged_ms, partial_ms, paused_until_ms;
    bool no_room;
    struct buf in; /* what is not a whole frame yet */
    size_t want;   /* so much of it makes the next one whole */
    size_t room;   /* of the next read: about what a turn takes of it */
    struct zmtp_message msg;
    size_t off[ZMTP_MAX_FRAMES], n_frames;
    bool wants_more;  /* of the message's frames */
    size_t body_left; /* of a large frame, which is read to where it stays */
    bool body_more;
    size_t counted; /* of owner->partial */
    struct buf out;
    size_t out_at, out_counted, out_messages; /* about so many: a part that left counts as its share of the bytes */
};

struct zmtp_server {
    struct event_base *base;
    const struct curve_server *curve;
    const struct zmtp_ops *ops;
    void *arg;
    struct event *accept_ev, *tick_ev, *reap_ev, *flush_ev, *turn_ev;
    struct zmtp_conn *first, *dead, *dirty;
    struct zmtp_conn *waiting, **last_waiting;
    struct map owners;
    struct owner unknown; /* has the turns of who has not said who he is */
    size_t n, n_unknown, max_message;
    int64_t accept_at_ms;
    struct {
        uint64_t n;
        int64_t told_ms;
    } refusals[N_REFUSALS];
    unsigned char *scratch;
};

static void refuse(struct zmtp_server *s, enum refusal why, const char *who, const char *what)
{
    int64_t now = clk_now_ms();
    s->refusals[why].n++;
    if (s->refusals[why].told_ms && now - s->refusals[why].told_ms < TELL_MS)
        return;
    s->refusals[why].told_ms = now;
    log_warn("refused", NULL, NULL, "a connection of %s was ended: %s (%llu like this until now)", who, what,
             (unsigned long long)s->refusals[why].n);
}

/* ---- owners ---- */

static struct owner *owner_of(struct zmtp_server *s, const char *name)
{
    struct owner *o = map_get(&s->owners, name);
    if (!o) {
        o = xcalloc(1, sizeof *o);
        o->name = xstrdup(name);
        map_put(&s->owners, name, o);
    }
    return o;
}

static void owner_leave(struct zmtp_conn *c)
{
    struct owner *o = c->owner;
    if (!o)
        return;
    o->partial -= c->counted;
    o->unread -= c->out_counted;
    c->counted = c->out_counted = 0;
    c->owner = NULL;
    if (--o->n)
        return;
    map_remove(&c->s->owners, o->name);
    free(o->name);
    free(o);
}

static void count_partial(struct zmtp_conn *c)
{
    size_t now = c->partial_ms ? c->in.cap + c->msg.data.cap : 0;
    if (!c->owner)
        return;
    c->owner->partial += now - c->counted;
    c->counted = now;
}

static size_t max_partial(const struct zmtp_server *s)
{
    return s->max_message * 4 > MIN_OWNER_PARTIAL ? s->max_message * 4 : MIN_OWNER_PARTIAL;
}

/* ---- turns ---- */

static struct owner *turn_of(struct zmtp_conn *c)
{
    return c->owner ? c->owner : &c->s->unknown;
}

static bool may_go_on(struct zmtp_conn *c)
{
    return turn_of(c)->taken < SHARE;
}

/* A turn ends when everybody who had something to say at its beginning was asked. */
static void charge(struct zmtp_conn *c, size_t n)
{
    struct owner *o = turn_of(c);
    if (!o->taken)
        event_add(c->s->turn_ev, &(struct timeval){0});
    o->taken += n;
}

static void wait_for_turn(struct zmtp_conn *c)
{
    struct zmtp_server *s = c->s;
    event_del(c->read_ev);
    if (c->waiting)
        return;
    c->waiting = true;
    c->next_waiting = NULL;
    if (!s->waiting)
        s->last_waiting = &s->waiting;
    *s->last_waiting = c;
    s->last_waiting = &c->next_waiting;
}

static void stop_waiting(struct zmtp_conn *c)
{
    struct zmtp_server *s = c->s;
    struct zmtp_conn **w = &s->waiting;
    if (!c->waiting)
        return;
    while (*w != c)
        w = &(*w)->next_waiting;
    *w = c->next_waiting;
    if (s->last_waiting == &c->next_waiting)
        s->last_waiting = w;
    c->waiting = false;
}

/* ---- the end of a connection ---- */

static void mark_dead(struct zmtp_conn *c)
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

static void end(struct zmtp_conn *c, enum refusal why, const char *what)
{
    char who[64];
    snprintf(who, sizeof who, c->uid >= 0 ? "uid %lld" : "a peer on tcp", (long long)c->uid);
    refuse(c->s, why, c->user ? c->user : who, what);
    mark_dead(c);
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
    stop_waiting(c);
    s->n--;
    s->n_unknown -= c->state != OPEN;
    owner_leave(c);
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

/* ---- sending ---- */

static void flush(struct zmtp_conn *c)
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
            mark_dead(c);
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

static void on_flush(evutil_socket_t fd, short what, void *arg)
{
    struct zmtp_server *s = arg;
    (void)fd;
    (void)what;
    while (s->dirty) {
        struct zmtp_conn *c = s->dirty;
        s->dirty = c->next_dirty;
        c->dirty = false;
        flush(c);
    }
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    flush(arg);
}

static void flush_soon(struct zmtp_conn *c)
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

static void add_frame(struct zmtp_conn *c, unsigned flags, const void *p, size_t n)
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
        add_frame(c, i + 1 < n ? F_MORE : 0, v[i].p, v[i].n);
    c->owner->unread += c->out.n - c->out_at - c->out_counted;
    c->out_counted = c->out.n - c->out_at;
    flush_soon(c);
    return 0;
}

bool zmtp_is_full(struct zmtp_conn *c)
{
    size_t unread = c->out.n - c->out_at;
    bool full = unread > FULL || (unread && c->owner->unread > OWNER_FULL);
    c->full |= full;
    return full;
}

/* ---- handshakes ---- */

static void send_greeting(struct zmtp_conn *c)
{
    char g[GREETING] = {0};
    g[0] = (char)0xff;
    g[9] = 0x7f;
    g[10] = 3;
    g[11] = 1;
    memcpy(g + 12, c->curve ? "CURVE" : "NULL", c->curve ? 5 : 4);
    g[32] = c->curve != NULL;
    buf_add(&c->out, g, sizeof g);
    flush_soon(c);
}

static void add_property(struct buf *b, const char *name, const char *value)
{
    const size_t n = strlen(value);
    const unsigned char size[4] = {0, 0, 0, (unsigned char)n};
    const unsigned char name_size = (unsigned char)strlen(name);
    buf_add(b, &name_size, 1);
    buf_adds(b, name);
    buf_add(b, size, 4);
    buf_add(b, value, n);
}

/* Whether the peer's Socket-Type may talk to ours; what else it says of itself is not believed. */
static bool fits(const struct zmtp_conn *c, const unsigned char *p, size_t n)
{
    while (n > 0) {
        size_t name = p[0];
        if (n < 1 + name + 4)
            return false;
        const unsigned char *v = p + 1 + name;
        size_t value = (size_t)v[0] << 24 | (size_t)v[1] << 16 | (size_t)v[2] << 8 | v[3];
        if (n - 1 - name - 4 < value)
            return false;
        if (name == 11 && !strncasecmp((const char *)p + 1, "Socket-Type", 11)) {
            char type[16];
            snprintf(type, sizeof type, " %.*s ", (int)(value < 12 ? value : 12), (const char *)v + 4);
            return strstr(c->s->ops->peer_types, type) != NULL;
        }
        n -= 1 + name + 4 + value;
        p = v + 4 + value;
    }
    return false;
}

static void say_error(struct zmtp_conn *c, const char *why)
{
    AUTO_BUF struct buf b = {0};
    const unsigned char n = (unsigned char)strlen(why);
    buf_adds(&b, "\5ERROR");
    buf_add(&b, &n, 1);
    buf_adds(&b, why);
    add_frame(c, F_COMMAND, b.p, b.n); /* not in a box: it is not let in */
    flush(c);
}

static void open_up(struct zmtp_conn *c)
{
    AUTO_BUF struct buf properties = {0}, ready = {0};
    add_property(&properties, "Socket-Type", c->s->ops->type);
    add_property(&properties, "Identity", "");
    if (c->curve) {
        curve_ready(c->curve, properties.p, properties.n, &ready);
    } else {
        buf_adds(&ready, "\5READY");
        buf_add(&ready, properties.p, properties.n);
    }
    add_frame(c, F_COMMAND, ready.p, ready.n);
    c->state = OPEN;
    c->s->n_unknown--;
    flush_soon(c);
    c->told = true;
    c->s->ops->on_open(c->s->arg, c);
}

static bool join(struct zmtp_conn *c, const char *owner, int max)
{
    struct owner *o = owner_of(c->s, owner);
    if (o->n >= max) {
        char what[80];
        snprintf(what, sizeof what, "it has %d already, which is all it may have", o->n);
        refuse(c->s, TOO_MANY, owner, what);
        return false;
    }
    o->n++;
    c->owner = o;
    return true;
}

static void on_curve(struct zmtp_conn *c, unsigned char *p, size_t n)
{
    AUTO_BUF struct buf answer = {0};
    const unsigned char *metadata;
    size_t n_metadata;
    charge(c, HANDSHAKE_COST);
    if (!curve_handshake(c->curve, c->s->curve, p, n, &answer, &metadata, &n_metadata)) {
        end(c, BAD_KEY, "its CURVE handshake is not right: it does not know this server's key, or has not the key it shows");
        return;
    }
    if (answer.n) {
        add_frame(c, F_COMMAND, answer.p, answer.n);
        flush_soon(c);
    }
    if (c->curve->state != CURVE_OPEN)
        return;
    int max = 0;
    const char *user = c->s->ops->user_of_key(c->s->arg, c->curve->client_key, &max);
    if (!user) {
        say_error(c, "400");
        end(c, BAD_KEY, "it shows a CURVE key that no tenant has; `curve_keys` of a tenant's configuration lists them");
        return;
    }
    c->user = xstrdup(user);
    if (!join(c, user, max)) {
        say_error(c, "too many connections");
        mark_dead(c);
        return;
    }
    if (!fits(c, metadata, n_metadata))
        end(c, MALFORMED, "its socket's type cannot talk to this one");
    else
        open_up(c);
}

static void on_null(struct zmtp_conn *c, const unsigned char *p, size_t n)
{
    if (n < 6 || memcmp(p, "\5READY", 6) != 0)
        end(c, MALFORMED, "it begins with no READY");
    else if (!fits(c, p + 6, n - 6))
        end(c, MALFORMED, "its socket's type cannot talk to this one");
    else
        open_up(c);
}

static void on_command(struct zmtp_conn *c, unsigned char *p, size_t n)
{
    if (c->state == HANDSHAKE && c->curve)
        on_curve(c, p, n);
    else if (c->state == HANDSHAKE)
        on_null(c, p, n);
    else if (n >= 7 && n <= 7 + 16 && !memcmp(p, "\4PING", 5)) {
        memcpy(p + 2, "\4PONG", 5); /* what is behind its time to live goes back */
        if (c->out.n - c->out_at < FULL)
            add_frame(c, F_COMMAND, p + 2, n - 2);
        flush_soon(c);
    } /* PONG was heard; what is not known is for later versions */
}

/* ---- reading ---- */

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
        end(c, MALFORMED,
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
        end(c, MALFORMED, "a CURVE message that is not genuine");
    else if (flags & BOX_COMMAND)
        on_command(c, p, n);
    else
        on_frame(c, flags & BOX_MORE, p, n);
}

static size_t take_greeting(struct zmtp_conn *c, const unsigned char *p, size_t n)
{
    static const char zeros[20];
    const char *mechanism = c->curve ? "CURVE" : "NULL";
    size_t l = strlen(mechanism);
    /* Looked at as it comes: who speaks something else waits for our answer first. */
    if (p[0] != 0xff || (n > 9 && !(p[9] & 1)) || (n > 10 && p[10] < 3)) {
        end(c, MALFORMED, "it does not speak ZMTP 3");
        return 0;
    }
    if (n < GREETING) {
        c->want = GREETING;
        return 0;
    }
    if (memcmp(p + 12, mechanism, l) != 0 || memcmp(p + 12 + l, zeros, 20 - l) != 0) {
        end(c, c->curve ? BAD_KEY : MALFORMED,
            c->curve ? "it shows no CURVE key" : "it wants another security mechanism than NULL");
        return 0;
    }
    c->state = HANDSHAKE;
    return GREETING;
}

/* One frame of p[0..n): how many bytes it took, or 0 when it is not whole (c->want says how much is). */
static size_t take_frame(struct zmtp_conn *c, unsigned char *p, size_t n)
{
    const unsigned flags = p[0];
    const size_t header = flags & F_LONG ? 9 : 2;
    uint64_t size = 0;
    if (flags & ~7U) {
        end(c, MALFORMED, "it does not speak ZMTP 3");
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
        end(c, MALFORMED, handshake ? "it does not shake hands" : "a frame larger than any may be");
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
        on_command(c, p + header, (size_t)size);
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
    while (at < n && !c->dead && !c->paused_until_ms && may_go_on(c)) {
        size_t took = c->state == GREET ? take_greeting(c, p + at, n - at) : take_frame(c, p + at, n - at);
        if (!took)
            break;
        at += took;
        charge(c, took + FRAME_COST);
    }
    return at;
}

/* Puts down what was not taken of what was read; count and time what is not complete. */
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
    count_partial(c);
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
    charge(c, (size_t)n);
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
        mark_dead(c);
        return false;
    }
    c->heard_ms = clk_now_ms();
    if (body) {
        if (!c->dead)
            keep(c, c->body_left ? 0 : 1, NULL, 0);
    } else if (p == s->scratch) {
        size_t took = parse(c, p, (size_t)n);
        c->room = may_go_on(c) ? c->room * 2 : took;
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
    if (!may_go_on(c)) {
        wait_for_turn(c);
        return false;
    }
    if (c->owner && c->owner->partial > max_partial(s) && c->partial_ms) {
        c->no_room = true;
        stop_reading(c, clk_now_ms() + TICK_MS);
        return false;
    }
    return body || c->body_left || (size_t)n == room;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct zmtp_conn *c = arg;
    (void)fd;
    (void)what;
    if (!may_go_on(c))
        wait_for_turn(c);
    for (int i = 0; i < READS_PER_TURN && !c->dead && !c->waiting && read_once(c); i++) {
    }
}

void zmtp_pause(struct zmtp_conn *c, int ms)
{
    if (!c->dead && ms > 0)
        stop_reading(c, clk_now_ms() + ms);
}

static void resume(struct zmtp_conn *c)
{
    c->paused_until_ms = 0;
    c->no_room = false;
    c->heard_ms = clk_now_ms(); /* it could not be heard */
    size_t took = c->in.n && c->in.n >= c->want ? parse(c, (unsigned char *)c->in.p, c->in.n) : 0;
    if (c->dead)
        return;
    keep(c, took, NULL, 0);
    if (c->paused_until_ms)
        return;
    if (may_go_on(c))
        event_add(c->read_ev, NULL);
    else
        wait_for_turn(c);
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
    struct zmtp_server *s = arg;
    struct zmtp_conn *v = s->waiting;
    struct owner *o;
    size_t i = 0;
    (void)fd;
    (void)what;
    s->unknown.taken = 0;
    while ((o = map_next(&s->owners, &i)))
        o->taken = 0;
    s->waiting = NULL;
    while (v) { /* in the order in which they came; some wait again */
        struct zmtp_conn *c = v;
        v = c->next_waiting;
        c->waiting = false;
        if (c->dead)
            continue;
        if (may_go_on(c))
            resume(c);
        else
            wait_for_turn(c);
    }
}

/* ---- time ---- */

static void ping(struct zmtp_conn *c, int64_t now)
{
    static const unsigned char body[7] = {4, 'P', 'I', 'N', 'G', 0, HEARTBEAT_TIMEOUT_MS / 100};
    c->pinged_ms = now;
    if (c->out.n - c->out_at >= FULL)
        return;
    add_frame(c, F_COMMAND, body, sizeof body);
    flush_soon(c);
}

static void check(struct zmtp_conn *c, int64_t now)
{
    if (c->state != OPEN) {
        if (now - c->opened_ms > HANDSHAKE_MS)
            end(c, SLOW, "it did not say who it is in time");
        return;
    }
    if (c->waiting)
        return;
    if (c->paused_until_ms) {
        bool room = !c->no_room || c->owner->partial <= max_partial(c->s);
        if (c->no_room && now - c->partial_ms > NO_ROOM_MS)
            end(c, SLOW, "its owner has too many messages under way that are not complete");
        else if (now >= c->paused_until_ms && room)
            resume(c);
        return;
    }
    if (c->partial_ms && now - c->partial_ms > SLOW_MS)
        end(c, SLOW, "a message that does not become complete");
    else if (now - c->heard_ms > HEARTBEAT_TIMEOUT_MS)
        mark_dead(c);
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
        end(oldest, SLOW, "too many that have not said who they are; it was the oldest");
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
    c->read_ev = event_new(s->base, fd, EV_READ | EV_PERSIST, on_readable, c);
    c->write_ev = event_new(s->base, fd, EV_WRITE, on_writable, c);
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
        send_greeting(c);
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
        refuse(s, STRANGER, who, "it is no tenant's");
        close(fd);
        return;
    }
    struct zmtp_conn *c = conn_new(s, fd, &cred);
    if (!join(c, who, max)) {
        mark_dead(c);
        return;
    }
    send_greeting(c);
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
        if (errno != EAGAIN) { /* no descriptors or memory: those that wait in the queue wait on */
            refuse(s, TOO_MANY, "anybody", strerror(errno));
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
    s->flush_ev = event_new(base, -1, 0, on_flush, s);
    s->turn_ev = event_new(base, -1, 0, on_turn, s);
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
        flush(c); /* the last answers */
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
