#include "znet.h"

#include "buf.h"
#include "fd.h"
#include "log.h"
#include "mem.h"
#include "zev.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <zmq.h>

enum {
    HEARTBEAT_MS = 2000,
    HEARTBEAT_TIMEOUT_MS = 6000,
    HANDSHAKE_MS = 5000,
    BACKLOG = 1024,
    MAX_SOCKETS = 64,
};

/* One of the three last numbers of "…:uid:gid:pid": uid (3 colons from the end), gid, pid (1). -1: they are not there. */
static int64_t number_of(const char *peer, int which)
{
    const char *at = peer + strlen(peer);
    int colons = 0;
    while (at > peer && colons < which)
        colons += *--at == ':';
    char *end;
    long long n = colons == which ? strtoll(at + 1, &end, 10) : -1;
    return colons == which && *end == (which > 1 ? ':' : 0) && end != at + 1 ? n : -1;
}

const char *znet_peer(void *msg, bool is_tcp)
{
    return zmq_msg_gets(msg, is_tcp ? "User-Id" : "Peer-Address");
}

int64_t znet_peer_uid(const char *peer)
{
    return number_of(peer, 3);
}

int64_t znet_peer_pid(const char *peer)
{
    return number_of(peer, 1);
}

/* ---- ZAP ---- */

static const struct conf_tenant *by_key(const struct conf *c, const char *key)
{
    for (size_t i = 0; i < c->n_tenants; i++)
        for (size_t k = 0; k < c->tenants[i].curve_keys.n; k++)
            if (!strcmp(c->tenants[i].curve_keys.v[k], key))
                return &c->tenants[i];
    return NULL;
}

static void on_zap(void *arg)
{
    struct znet *z = arg;
    enum { VERSION, REQUEST, DOMAIN, ADDRESS, IDENTITY, MECHANISM, KEY, N_FRAMES };
    for (;;) {
        char frames[N_FRAMES][256] = {0};
        int sizes[N_FRAMES] = {0}, n = 0, more = 1;
        size_t len = sizeof more;
        while (more) {
            char scratch[256];
            int r = zmq_recv(z->zap, n < N_FRAMES ? frames[n] : scratch, 255, ZMQ_DONTWAIT);
            if (r < 0)
                return;
            if (n < N_FRAMES)
                sizes[n] = r > 255 ? 255 : r;
            n++;
            zmq_getsockopt(z->zap, ZMQ_RCVMORE, &more, &len);
        }
        char key[41] = "";
        const struct conf_tenant *t = NULL;
        if (n == N_FRAMES && sizes[MECHANISM] == 5 && !memcmp(frames[MECHANISM], "CURVE", 5) && sizes[KEY] == 32 &&
            zmq_z85_encode(key, (const uint8_t *)frames[KEY], 32))
            t = by_key(*z->conf, key);
        if (!t)
            log_warn("refused", NULL, NULL,
                     "a peer at %.*s shows a CURVE key that no tenant has (%s); `curve_keys` of a tenant's "
                     "configuration lists them",
                     sizes[ADDRESS], frames[ADDRESS], *key ? key : "none");
        const char *status = t ? "200" : "400", *text = t ? "OK" : "no tenant has this key", *user = t ? t->id : "";
        zmq_send(z->zap, "1.0", 3, ZMQ_SNDMORE);
        zmq_send(z->zap, frames[REQUEST], (size_t)sizes[REQUEST], ZMQ_SNDMORE);
        zmq_send(z->zap, status, 3, ZMQ_SNDMORE);
        zmq_send(z->zap, text, strlen(text), ZMQ_SNDMORE);
        zmq_send(z->zap, user, strlen(user), ZMQ_SNDMORE);
        zmq_send(z->zap, "", 0, 0);
    }
}

/* keys/<program>.curve: the public key, then the secret one, a line each. */
static int server_key(struct znet *z, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    AUTO_FREE char *path = xasprintf("keys/%s.curve", z->program);
    if (fd_read_file(z->home->dirfd, path, &text, 256, NULL) == 0) {
        if (sscanf(text.p, "%40s %40s", z->server_public, z->server_secret) == 2 && strlen(z->server_public) == 40 &&
            strlen(z->server_secret) == 40)
            return 0;
        return err_set(e, ERR_FORMAT, "%s/%s holds no pair of CURVE keys; restore it, or remove it to get a new pair",
                       z->home->path, path);
    }
    if (zmq_curve_keypair(z->server_public, z->server_secret) < 0)
        return err_sys(e, -errno, "cannot make CURVE keys");
    buf_reset(&text);
    buf_addf(&text, "%s\n%s\n", z->server_public, z->server_secret);
    return fd_write_file(z->home->dirfd, path, text.p, text.n, 0600, e);
}

int znet_start(struct znet *z, struct err *e)
{
    z->zmq = zmq_ctx_new();
    zmq_ctx_set(z->zmq, ZMQ_MAX_SOCKETS, MAX_SOCKETS);
    int r = server_key(z, e);
    if (r < 0)
        return r;
    z->zap = zmq_socket(z->zmq, ZMQ_REP);
    if (!z->zap || zmq_bind(z->zap, "inproc://zeromq.zap.01") < 0)
        return err_sys(e, -errno, "cannot authenticate peers");
    return zev_new(z->base, z->zap, on_zap, z, &z->zap_zev, e);
}

void znet_stop(struct znet *z)
{
    zev_free(z->zap_zev);
    if (z->zap)
        zmq_close(z->zap);
    if (z->zmq)
        zmq_ctx_term(z->zmq);
    z->zap = z->zmq = NULL;
    z->zap_zev = NULL;
}

/* ---- listening ---- */

int znet_socket(struct znet *z, int type, bool is_tcp, void **ret, struct err *e)
{
    static const struct {
        int option, value;
    } options[] = {
        {ZMQ_LINGER, 0},
        {ZMQ_HEARTBEAT_IVL, HEARTBEAT_MS},
        {ZMQ_HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS},
        {ZMQ_HEARTBEAT_TTL, HEARTBEAT_TIMEOUT_MS},
        {ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS},
        {ZMQ_BACKLOG, BACKLOG},
    };
    int one = 1;
    void *s = zmq_socket(z->zmq, type);
    if (!s)
        return err_sys(e, -errno, "cannot make a ZeroMQ socket");
    *ret = s;
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (zmq_setsockopt(s, options[i].option, &options[i].value, sizeof options[i].value) < 0)
            return err_sys(e, -errno, "cannot set a ZeroMQ option");
    if (is_tcp &&
        (zmq_setsockopt(s, ZMQ_CURVE_SERVER, &one, sizeof one) < 0 ||
         zmq_setsockopt(s, ZMQ_CURVE_SECRETKEY, z->server_secret, 41) < 0 || zmq_setsockopt(s, ZMQ_ZAP_DOMAIN, "mysimbdp", 8) < 0))
        return err_sys(e, -errno, "cannot use CURVE (is libzmq built without it?)");
    return 0;
}

static int bind_to(void *socket, const char *endpoint, char **ret, struct err *e)
{
    char bound[256];
    size_t n = sizeof bound;
    if (zmq_bind(socket, endpoint) < 0)
        return err_sys(e, -errno, "cannot listen on %s", endpoint);
    zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, bound, &n);
    *ret = xstrdup(bound);
    return 0;
}

int znet_bind_ipc(struct znet *z, void *socket, char **ret_endpoint, struct err *e)
{
    AUTO_FREE char *name = xasprintf("%s.ipc", z->program);
    AUTO_FREE char *path = home_socket(z->home, name);
    AUTO_FREE char *endpoint = xasprintf("ipc://%s", path);
    unlink(path);
    int r = bind_to(socket, endpoint, ret_endpoint, e);
    if (r == 0 && chmod(path, 0666) < 0) /* lint: ours */
        r = err_sys(e, -errno, "cannot open %s to tenants", path);
    return r;
}

int znet_bind_tcp(struct znet *z, void *socket, int64_t port, char **ret_endpoint, struct err *e)
{
    const char *address = (*z->conf)->platform.listen;
    int64_t kept = home_kept_port(z->home, z->program);
    AUTO_FREE char *wanted = xasprintf("tcp://%s:%lld", address, (long long)(port ? port : kept));
    AUTO_FREE char *any = xasprintf("tcp://%s:*", address);
    struct err none;
    if (port)
        return bind_to(socket, wanted, ret_endpoint, e);
    if (kept && bind_to(socket, wanted, ret_endpoint, &none) == 0)
        return 0;
    int r = bind_to(socket, any, ret_endpoint, e); /* the kept one is somebody else's now, or there is none yet */
    const char *colon = r == 0 ? strrchr(*ret_endpoint, ':') : NULL;
    return colon ? home_keep_port(z->home, z->program, atoi(colon + 1), e) : r;
}
