#include "link.h"

#include "base/clk.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <zmq.h>

enum { HEARTBEAT_MS = 2000, HEARTBEAT_TIMEOUT_MS = 10000, RECONNECT_MS = 50, RECONNECT_MAX_MS = 1000 };

struct link {
    void *zmq, *socket, *monitor;
    zmq_msg_t frames[WIRE_MAX_FRAMES + 1];
    size_t n_frames;
    int n_connections, watched;
    bool renewed, woken;
};

int link_use_keys(void *socket, const struct link_keys *keys, struct err *e)
{
    if (!keys || !keys->server || !*keys->server)
        return 0;
    if (!keys->public || !keys->secret || zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, keys->server, 41) < 0 ||
        zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, keys->public, 41) < 0 ||
        zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, keys->secret, 41) < 0)
        return err_set(e, ERR_CONFIG, "the CURVE keys are none (40 characters of Z85 each)");
    return 0;
}

void link_end_context(void *zmq)
{
    while (zmq && zmq_ctx_term(zmq) < 0 && errno == EINTR) /* of a signal to stop, say: its threads would stay */
        ;
}

static int make_sockets(struct link *l, const struct link_keys *keys, const char *endpoint, struct err *e)
{
    int zero = 0, ivl = HEARTBEAT_MS, timeout = HEARTBEAT_TIMEOUT_MS, again = RECONNECT_MS, most = RECONNECT_MAX_MS;
    l->zmq = zmq_ctx_new();
    l->socket = l->zmq ? zmq_socket(l->zmq, ZMQ_DEALER) : NULL;
    l->monitor = l->zmq ? zmq_socket(l->zmq, ZMQ_PAIR) : NULL;
    if (!l->socket || !l->monitor)
        return err_sys(e, -errno, "cannot make a ZeroMQ socket");
    zmq_setsockopt(l->socket, ZMQ_LINGER, &zero, sizeof zero);
    zmq_setsockopt(l->monitor, ZMQ_LINGER, &zero, sizeof zero);
    zmq_setsockopt(l->socket, ZMQ_HEARTBEAT_IVL, &ivl, sizeof ivl);
    zmq_setsockopt(l->socket, ZMQ_HEARTBEAT_TIMEOUT, &timeout, sizeof timeout);
    zmq_setsockopt(l->socket, ZMQ_RECONNECT_IVL, &again, sizeof again);
    zmq_setsockopt(l->socket, ZMQ_RECONNECT_IVL_MAX, &most, sizeof most);
    int r = link_use_keys(l->socket, keys, e);
    if (r < 0)
        return r;
    if (zmq_socket_monitor(l->socket, "inproc://link", ZMQ_EVENT_HANDSHAKE_SUCCEEDED) < 0 ||
        zmq_connect(l->monitor, "inproc://link") < 0)
        return err_sys(e, -errno, "cannot watch the connection");
    if (zmq_connect(l->socket, endpoint) < 0)
        return err_set(e, ERR_CONFIG, "\"%s\" is no endpoint of a broker: %s", endpoint, zmq_strerror(errno));
    return 0;
}

int link_open(const char *endpoint, const struct link_keys *keys, struct link **ret, struct err *e)
{
    struct link *l = xcalloc(1, sizeof *l);
    l->watched = -1;
    int r = make_sockets(l, keys, endpoint, e);
    if (r < 0)
        link_close(l);
    else
        *ret = l;
    return r;
}

static void drop_frames(struct link *l)
{
    for (size_t i = 0; i < l->n_frames; i++)
        zmq_msg_close(&l->frames[i]);
    l->n_frames = 0;
}

void link_close(struct link *l)
{
    if (!l)
        return;
    drop_frames(l);
    if (l->socket) {
        zmq_socket_monitor(l->socket, NULL, 0);
        zmq_close(l->socket);
    }
    if (l->monitor)
        zmq_close(l->monitor);
    link_end_context(l->zmq);
    free(l);
}

void link_watch(struct link *l, int fd)
{
    l->watched = fd;
}

bool link_was_woken(const struct link *l)
{
    return l->woken;
}

bool link_send(struct link *l, const struct wire_frame *v, size_t n)
{
    zmq_msg_t frames[WIRE_MAX_FRAMES];
    size_t n_made = 0, n_sent = 0;
    /* All frames first: a message without its end would swallow the next. */
    while (n_made < n && zmq_msg_init_size(&frames[n_made], v[n_made].n) == 0) {
        if (v[n_made].n)
            memcpy(zmq_msg_data(&frames[n_made]), v[n_made].p, v[n_made].n);
        n_made++;
    }
    while (n_made == n && n_sent < n &&
           zmq_msg_send(&frames[n_sent], l->socket, ZMQ_DONTWAIT | (n_sent + 1 < n ? ZMQ_SNDMORE : 0)) >= 0)
        n_sent++; /* it fails at the first frame only */
    for (size_t i = n_sent; i < n_made; i++)
        zmq_msg_close(&frames[i]);
    if (n_made < n)
        mem_exhausted();
    return n_sent == n;
}

static void look_at_monitor(struct link *l)
{
    unsigned char event[16];
    int n;
    while ((n = zmq_recv(l->monitor, event, sizeof event, ZMQ_DONTWAIT)) >= 0) {
        uint16_t what;
        int more = 0;
        size_t size = sizeof more;
        memcpy(&what, event, sizeof what);
        if (n == 6 && what == ZMQ_EVENT_HANDSHAKE_SUCCEEDED && l->n_connections++)
            l->renewed = true;
        zmq_getsockopt(l->monitor, ZMQ_RCVMORE, &more, &size);
        if (more)
            zmq_recv(l->monitor, event, sizeof event, ZMQ_DONTWAIT);
    }
}

bool link_was_renewed(struct link *l)
{
    look_at_monitor(l);
    bool was = l->renewed;
    l->renewed = false;
    return was;
}

/* One whole message, if there is any. */
static bool take(struct link *l, struct link_answer *ret)
{
    bool more = true, any = false;
    drop_frames(l);
    while (more) {
        zmq_msg_t m;
        zmq_msg_init(&m);
        if (zmq_msg_recv(&m, l->socket, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&m);
            break;
        }
        any = true;
        more = zmq_msg_more(&m);
        if (l->n_frames <= WIRE_MAX_FRAMES)
            l->frames[l->n_frames++] = m;
        else
            zmq_msg_close(&m);
    }
    if (!any)
        return false;
    struct wire_frame header = {zmq_msg_data(&l->frames[0]), zmq_msg_size(&l->frames[0])};
    ret->n = 0;
    if (!wire_header(&header, &ret->h))
        ret->h = (struct wire_header){.verb = WIRE_PONG}; /* which means nothing */
    for (size_t i = 1; i < l->n_frames; i++)
        ret->v[ret->n++] = (struct wire_frame){zmq_msg_data(&l->frames[i]), zmq_msg_size(&l->frames[i])};
    return true;
}

bool link_receive(struct link *l, int64_t ms, struct link_answer *ret)
{
    int64_t until = clk_now_ms() + ms;
    l->woken = false;
    for (;;) {
        if (take(l, ret))
            return true;
        int64_t left = until - clk_now_ms();
        zmq_pollitem_t items[] = {{l->socket, 0, ZMQ_POLLIN, 0}, {l->monitor, 0, ZMQ_POLLIN, 0}, {NULL, l->watched, ZMQ_POLLIN, 0}};
        if (left <= 0 || zmq_poll(items, l->watched >= 0 ? 3 : 2, (long)left) < 0)
            return false;
        look_at_monitor(l);
        l->woken = l->watched >= 0 && items[2].revents & ZMQ_POLLIN;
        if (l->woken && !(items[0].revents & ZMQ_POLLIN))
            return false;
        if (l->renewed && !(items[0].revents & ZMQ_POLLIN))
            return false; /* to be dealt with now */
    }
}

void link_refusal(const struct link_answer *a, struct link_refusal *ret)
{
    *ret = (struct link_refusal){0};
    if (a->n < 3 || a->v[1].n != 4)
        return;
    snprintf(ret->code, sizeof ret->code, "%.*s", (int)a->v[0].n, (const char *)a->v[0].p);
    snprintf(ret->text, sizeof ret->text, "%.*s", (int)(a->v[2].n < 500 ? a->v[2].n : 500), (const char *)a->v[2].p);
    ret->retry_after_ms = le_u32(a->v[1].p);
}
