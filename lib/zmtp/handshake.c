#include "parts.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

enum {
    GREETING = 64,
    HANDSHAKE_COST = 64 << 10, /* of a turn, a CURVE command: all in their handshake share one turn's worth */
};

void conn_greet(struct zmtp_conn *c)
{
    char g[GREETING] = {0};
    g[0] = (char)0xff;
    g[9] = 0x7f;
    g[10] = 3;
    g[11] = 1;
    memcpy(g + 12, c->curve ? "CURVE" : "NULL", c->curve ? 5 : 4);
    g[32] = c->curve != NULL;
    buf_add(&c->out, g, sizeof g);
    conn_flush_soon(c);
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

/* Whether the peer's Socket-Type may talk to ours. What else it says of itself does not count. */
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
    conn_add_frame(c, F_COMMAND, b.p, b.n); /* in the clear: the handshake is not over */
    conn_flush(c);
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
    conn_add_frame(c, F_COMMAND, ready.p, ready.n);
    conn_set_state(c, OPEN);
    conn_flush_soon(c);
    c->told = true;
    c->s->ops->on_open(c->s->arg, c);
}

static void on_curve(struct zmtp_conn *c, unsigned char *p, size_t n)
{
    AUTO_BUF struct buf answer = {0};
    const unsigned char *metadata;
    size_t n_metadata;
    conn_charge(c, HANDSHAKE_COST);
    if (!curve_handshake(c->curve, c->s->curve, p, n, &answer, &metadata, &n_metadata)) {
        conn_end(
            c, BAD_KEY,
            "its CURVE handshake failed: it used another server key than ours, or does not have the secret of the key it shows");
        return;
    }
    if (answer.n) {
        conn_add_frame(c, F_COMMAND, answer.p, answer.n);
        conn_flush_soon(c);
    }
    if (c->curve->state != CURVE_OPEN)
        return;
    int max = 0;
    const char *user = c->s->ops->user_of_key(c->s->arg, c->curve->client_key, &max);
    if (!user) {
        say_error(c, "400");
        conn_end(c, BAD_KEY, "it shows a CURVE key that no tenant has; `curve_keys` of a tenant's configuration lists them");
        return;
    }
    c->user = xstrdup(user);
    if (!conn_join(c, user, max)) {
        say_error(c, "too many connections");
        conn_mark_dead(c);
        return;
    }
    if (!fits(c, metadata, n_metadata))
        conn_end(c, MALFORMED, "its socket's type cannot talk to this one");
    else
        open_up(c);
}

static void on_null(struct zmtp_conn *c, const unsigned char *p, size_t n)
{
    if (n < 6 || memcmp(p, "\5READY", 6) != 0)
        conn_end(c, MALFORMED, "its handshake does not begin with READY");
    else if (!fits(c, p + 6, n - 6))
        conn_end(c, MALFORMED, "its socket's type cannot talk to this one");
    else
        open_up(c);
}

void conn_on_command(struct zmtp_conn *c, unsigned char *p, size_t n)
{
    if (c->state == HANDSHAKE && c->curve)
        on_curve(c, p, n);
    else if (c->state == HANDSHAKE)
        on_null(c, p, n);
    else if (n >= 7 && n <= 7 + 16 && !memcmp(p, "\4PING", 5)) {
        memcpy(p + 2, "\4PONG", 5); /* what is behind its time to live goes back */
        if (c->out.n - c->out_at < FULL)
            conn_add_frame(c, F_COMMAND, p + 2, n - 2);
        conn_flush_soon(c);
    } /* PONG counts as heard; unknown commands are left to later versions of the protocol */
}

size_t conn_take_greeting(struct zmtp_conn *c, const unsigned char *p, size_t n)
{
    static const char zeros[20];
    const char *mechanism = c->curve ? "CURVE" : "NULL";
    size_t l = strlen(mechanism);
    /* Checked as it comes: a peer that speaks another protocol may wait for our answer before it sends a whole greeting. */
    if (p[0] != 0xff || (n > 9 && !(p[9] & 1)) || (n > 10 && p[10] < 3)) {
        conn_end(c, MALFORMED, "it does not speak ZMTP 3");
        return 0;
    }
    if (n < GREETING) {
        c->want = GREETING;
        return 0;
    }
    if (memcmp(p + 12, mechanism, l) != 0 || memcmp(p + 12 + l, zeros, 20 - l) != 0) {
        conn_end(c, c->curve ? BAD_KEY : MALFORMED,
                 c->curve ? "it shows no CURVE key" : "it wants another security mechanism than NULL");
        return 0;
    }
    conn_set_state(c, HANDSHAKE);
    return GREETING;
}
