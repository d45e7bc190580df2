#include "parts.h"

#include "base/mem.h"

#include <stdio.h>

enum {
    MIN_OWNER_PARTIAL = 16 << 20, /* bytes of messages that are not complete */
    SHARE = 512 << 10,            /* bytes that are read of an owner in a turn of the loop; the rest waits for the next */
};

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

void conn_leave_owner(struct zmtp_conn *c)
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

void conn_count_partial(struct zmtp_conn *c)
{
    size_t now = c->partial_ms ? c->in.cap + c->msg.data.cap : 0;
    if (!c->owner)
        return;
    c->owner->partial += now - c->counted;
    c->counted = now;
}

size_t server_max_partial(const struct zmtp_server *s)
{
    return s->max_message * 4 > MIN_OWNER_PARTIAL ? s->max_message * 4 : MIN_OWNER_PARTIAL;
}

bool conn_join(struct zmtp_conn *c, const char *owner, int max)
{
    struct owner *o = owner_of(c->s, owner);
    if (o->n >= max) {
        char what[80];
        snprintf(what, sizeof what, "it has %d connections, which is its limit", o->n);
        server_refuse(c->s, TOO_MANY, owner, what);
        return false;
    }
    o->n++;
    c->owner = o;
    return true;
}

/* ---- turns ---- */

static struct owner *turn_of(struct zmtp_conn *c)
{
    return c->owner ? c->owner : &c->s->unknown;
}

bool conn_may_go_on(struct zmtp_conn *c)
{
    return turn_of(c)->taken < SHARE;
}

/* A turn ends once every connection that was readable at its beginning has been read. */
void conn_charge(struct zmtp_conn *c, size_t n)
{
    struct owner *o = turn_of(c);
    if (!o->taken)
        event_add(c->s->turn_ev, &(struct timeval){0});
    o->taken += n;
}

void conn_wait_for_turn(struct zmtp_conn *c)
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

void conn_stop_waiting(struct zmtp_conn *c)
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

void server_on_turn(evutil_socket_t fd, short what, void *arg)
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
        if (conn_may_go_on(c))
            conn_resume(c);
        else
            conn_wait_for_turn(c);
    }
}
