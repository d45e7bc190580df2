#include "broker.h"

#include "common/clk.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/zev.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

enum { READS_PER_S = 20 };

struct btenant *auth_tenant(struct broker *b, const char *id)
{
    struct btenant *t = map_get(&b->tenants, id);
    if (!t) {
        t = xcalloc(1, sizeof *t);
        *t = (struct btenant){.id = xstrdup(id), .uid = -1};
        map_put(&b->tenants, id, t);
    }
    return t;
}

/* Strangers must not keep the broker reading. */
static bool may_read_again(struct broker *b)
{
    int64_t second = clk_now_ms() / 1000;
    if (b->tenants_read_s != second)
        b->n_tenant_reads = 0;
    b->tenants_read_s = second;
    return b->n_tenant_reads++ < READS_PER_S;
}

void auth_read_tenants(struct broker *b)
{
    struct tenant_state *v;
    struct err e = {0};
    size_t n;
    if (tenant_states(&b->home, &v, &n, &e) < 0) {
        log_error("tenants", NULL, NULL, "%s", e.msg);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        struct btenant *t = auth_tenant(b, v[i].id);
        t->uid = v[i].uid;
        t->suspended = v[i].suspended;
    }
    tenant_states_free(v, n);
}

static struct btenant *by_uid(struct broker *b, int64_t uid)
{
    size_t i = 0;
    for (struct btenant *t; (t = map_next(&b->tenants, &i));)
        if (t->uid == uid)
            return t;
    return NULL;
}

/* One of the three last numbers: uid (3 colons from the end), gid, pid (1). -1: they are not there. */
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

int64_t auth_pid(const struct session *s)
{
    return s->listener->is_tcp ? -1 : number_of(s->peer, 1);
}

void auth_identify(struct broker *b, struct session *s)
{
    s->tenant = NULL;
    s->is_operator = false;
    if (s->listener->is_tcp) {
        s->tenant = map_get(&b->tenants, s->peer);
        return;
    }
    int64_t uid = number_of(s->peer, 3);
    if (uid < 0)
        return;
    s->is_operator = uid == (int64_t)geteuid() || uid == 0;
    if (s->is_operator)
        return;
    s->tenant = by_uid(b, uid);
    if (!s->tenant && may_read_again(b)) { /* batchmgr may have given it one meanwhile */
        auth_read_tenants(b);
        s->tenant = by_uid(b, uid);
    }
}

/* ---- ZAP (rfc.zeromq.org/spec/27): which CURVE key is whose ---- */

static const struct conf_tenant *by_key(const struct broker *b, const char *key)
{
    for (size_t i = 0; i < b->conf->n_tenants; i++)
        for (size_t k = 0; k < b->conf->tenants[i].curve_keys.n; k++)
            if (!strcmp(b->conf->tenants[i].curve_keys.v[k], key))
                return &b->conf->tenants[i];
    return NULL;
}

static void on_zap(void *arg)
{
    struct broker *b = arg;
    enum { VERSION, REQUEST, DOMAIN, ADDRESS, IDENTITY, MECHANISM, KEY, N_FRAMES };
    for (;;) {
        char frames[N_FRAMES][256] = {0};
        int sizes[N_FRAMES] = {0}, n = 0, more = 1;
        size_t len = sizeof more;
        while (more) {
            char scratch[256];
            int r = zmq_recv(b->zap, n < N_FRAMES ? frames[n] : scratch, 255, ZMQ_DONTWAIT);
            if (r < 0)
                return;
            if (n < N_FRAMES)
                sizes[n] = r > 255 ? 255 : r;
            n++;
            zmq_getsockopt(b->zap, ZMQ_RCVMORE, &more, &len);
        }
        char key[41] = "";
        const struct conf_tenant *t = NULL;
        if (n == N_FRAMES && sizes[MECHANISM] == 5 && !memcmp(frames[MECHANISM], "CURVE", 5) && sizes[KEY] == 32 &&
            zmq_z85_encode(key, (const uint8_t *)frames[KEY], 32))
            t = by_key(b, key);
        if (!t)
            log_warn("refused", NULL, NULL,
                     "a peer at %.*s shows a CURVE key that no tenant has (%s); `curve_keys` of a tenant's "
                     "configuration lists them",
                     sizes[ADDRESS], frames[ADDRESS], *key ? key : "none");
        const char *status = t ? "200" : "400", *text = t ? "OK" : "no tenant has this key", *user = t ? t->id : "";
        zmq_send(b->zap, "1.0", 3, ZMQ_SNDMORE);
        zmq_send(b->zap, frames[REQUEST], (size_t)sizes[REQUEST], ZMQ_SNDMORE);
        zmq_send(b->zap, status, 3, ZMQ_SNDMORE);
        zmq_send(b->zap, text, strlen(text), ZMQ_SNDMORE);
        zmq_send(b->zap, user, strlen(user), ZMQ_SNDMORE);
        zmq_send(b->zap, "", 0, 0);
    }
}

/* keys/broker.curve: the public key, then the secret one, a line each. */
static int server_key(struct broker *b, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    if (fd_read_file(b->home.dirfd, "keys/broker.curve", &text, 256, NULL) == 0) {
        if (sscanf(text.p, "%40s %40s", b->server_public, b->server_secret) == 2 && strlen(b->server_public) == 40 &&
            strlen(b->server_secret) == 40)
            return 0;
        return err_set(e, ERR_FORMAT,
                       "%s/keys/broker.curve holds no pair of CURVE keys; restore it, or remove it to get a new pair",
                       b->home.path);
    }
    if (zmq_curve_keypair(b->server_public, b->server_secret) < 0)
        return err_sys(e, -errno, "cannot make CURVE keys");
    buf_reset(&text);
    buf_addf(&text, "%s\n%s\n", b->server_public, b->server_secret);
    return fd_write_file(b->home.dirfd, "keys/broker.curve", text.p, text.n, 0600, e);
}

int auth_start(struct broker *b, struct err *e)
{
    int r = server_key(b, e);
    if (r < 0)
        return r;
    b->zap = zmq_socket(b->zmq, ZMQ_REP);
    if (!b->zap || zmq_bind(b->zap, "inproc://zeromq.zap.01") < 0)
        return err_sys(e, -errno, "cannot authenticate peers");
    return zev_new(b->base, b->zap, on_zap, b, &b->zap_zev, e);
}

void auth_stop(struct broker *b)
{
    zev_free(b->zap_zev);
    if (b->zap)
        zmq_close(b->zap);
}
