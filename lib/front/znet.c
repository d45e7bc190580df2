#include "znet.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <zmq.h> /* Z85 */

enum { BACKLOG = 1024, LOOKS_PER_S = 20 };

static const struct conf_tenant *tenant_of_key(const struct conf *c, const unsigned char key[CURVE_KEY], char text[41])
{
    if (!zmq_z85_encode(text, key, CURVE_KEY))
        return NULL;
    for (size_t i = 0; i < c->n_tenants; i++)
        for (size_t k = 0; k < c->tenants[i].curve_keys.n; k++)
            if (!strcmp(c->tenants[i].curve_keys.v[k], text))
                return &c->tenants[i];
    return NULL;
}

const char *znet_user_of_key(const struct conf *c, struct keeper *k, const unsigned char key[CURVE_KEY], int *ret_max)
{
    static struct run_key run;
    char text[41];
    const struct conf_tenant *t = tenant_of_key(c, key, text);
    *ret_max = ZNET_OF_TENANT;
    return t ? t->id : keeper_run_key(k, text, &run) == 0 ? run.tenant : NULL;
}

bool znet_is_run(const struct conf *c, struct keeper *k, const struct zmtp_conn *conn, struct run_key *ret)
{
    const unsigned char *key = zmtp_key(conn);
    char text[41];
    return key && !tenant_of_key(c, key, text) && keeper_run_key(k, text, ret) == 0;
}

bool znet_is_platform(int64_t uid)
{
    return uid >= 0 && (uid == (int64_t)geteuid() || uid == 0);
}

bool znet_may_look(struct znet_looks *l)
{
    int64_t second = clk_now_ms() / 1000;
    if (l->second != second)
        *l = (struct znet_looks){second, 0};
    return l->n++ < LOOKS_PER_S;
}

/* keys/<program>.curve: the public key, then the secret one, a line each. */
static int server_key(struct znet *z, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    AUTO_FREE char *path = xasprintf("keys/%s.curve", z->program);
    char secret[41], public[41];
    int r = fd_read_file(z->home->dirfd, path, &text, 256, NULL);
    if (r != -ENOENT) {
        if (r == 0 && text.n && sscanf(text.p, "%40s %40s", z->server_public, secret) == 2 && strlen(z->server_public) == 40 &&
            strlen(secret) == 40 && zmq_z85_decode(z->curve.public_key, z->server_public) &&
            zmq_z85_decode(z->curve.secret_key, secret) && zmq_curve_public(public, secret) == 0 &&
            !strcmp(public, z->server_public))
            return 0;
        return err_set(e, ERR_FORMAT, "%s/%s holds no pair of CURVE keys; restore it, or remove it to get a new pair",
                       z->home->path, path);
    }
    if (zmq_curve_keypair(z->server_public, secret) < 0 || !zmq_z85_decode(z->curve.public_key, z->server_public) ||
        !zmq_z85_decode(z->curve.secret_key, secret))
        return err_sys(e, -errno, "cannot make CURVE keys");
    buf_reset(&text);
    buf_addf(&text, "%s\n%s\n", z->server_public, secret);
    return fd_write_file(z->home->dirfd, path, text.p, text.n, 0600, e);
}

/* ---- listening ---- */

static int listen_tcp(const char *address, int64_t port, char **ret_endpoint, int *ret_port)
{
    char service[16], host[256], number[16];
    struct addrinfo want = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *found = NULL;
    struct sockaddr_storage bound;
    socklen_t n = sizeof bound;
    int on = 1;
    size_t l = strlen(address);
    const bool bracketed = l > 2 && address[0] == '[' && address[l - 1] == ']';
    AUTO_FREE char *name = bracketed ? xstrndup(address + 1, l - 2) : xstrdup(address);
    snprintf(service, sizeof service, "%lld", (long long)port);
    if (getaddrinfo(!strcmp(name, "*") ? "0.0.0.0" : name, service, &want, &found) != 0)
        return -EADDRNOTAVAIL;
    AUTO_FD int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    int r = fd < 0 || bind(fd, found->ai_addr, found->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0 ||
                    getsockname(fd, (struct sockaddr *)&bound, &n) < 0
                ? -errno
                : 0;
    const bool v6 = found->ai_family == AF_INET6;
    freeaddrinfo(found);
    if (r < 0)
        return r;
    if (getnameinfo((struct sockaddr *)&bound, n, host, sizeof host, number, sizeof number, NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return -EADDRNOTAVAIL;
    *ret_endpoint = xasprintf(v6 ? "tcp://[%s]:%s" : "tcp://%s:%s", host, number);
    *ret_port = atoi(number);
    return fd_take(&fd);
}

static int start_tcp(struct znet *z, const char *address, int64_t port, struct err *e)
{
    int64_t kept = port ? 0 : home_kept_port(z->home, z->program);
    int bound = 0, r = listen_tcp(address, port ? port : kept, &z->tcp_endpoint, &bound);
    if (r < 0 && kept) /* it is somebody else's now */
        r = listen_tcp(address, 0, &z->tcp_endpoint, &bound);
    if (r < 0)
        return err_sys(e, r, "cannot listen on tcp://%s:%lld", address, (long long)(port ? port : kept));
    z->tcp_fd = r;
    z->tcp = zmtp_server_new(z->base, r, &z->curve, z->ops, z->arg);
    return port || bound == kept ? 0 : home_keep_port(z->home, z->program, bound, e);
}

static int start_ipc(struct znet *z, struct err *e)
{
    AUTO_FREE char *name = xasprintf("%s.ipc", z->program);
    AUTO_FREE char *path = home_socket(z->home, name);
    int fd = fd_unix_listen(path, 0666); /* who may come is asked of the kernel at each connection */
    if (fd < 0)
        return err_sys(e, fd, "cannot listen on %s", path);
    z->ipc_fd = fd;
    z->ipc_endpoint = xasprintf("ipc://%s", path);
    z->ipc = zmtp_server_new(z->base, fd, NULL, z->ops, z->arg);
    return 0;
}

int znet_start(struct znet *z, const char *address, int64_t port, struct err *e)
{
    z->ipc_fd = z->tcp_fd = -1;
    fd_raise_limit();
    int r = server_key(z, e);
    if (r == 0)
        r = start_ipc(z, e);
    return r == 0 && *address ? start_tcp(z, address, port, e) : r;
}

void znet_stop(struct znet *z)
{
    if (!z->home)
        return;
    zmtp_server_free(z->ipc);
    zmtp_server_free(z->tcp);
    if (z->ipc_fd >= 0)
        close(z->ipc_fd);
    if (z->tcp_fd >= 0)
        close(z->tcp_fd);
    free(z->ipc_endpoint);
    free(z->tcp_endpoint);
    *z = (struct znet){0};
}

void znet_limit(struct znet *z, size_t max_message)
{
    zmtp_server_limit(z->ipc, max_message);
    if (z->tcp)
        zmtp_server_limit(z->tcp, max_message);
}
