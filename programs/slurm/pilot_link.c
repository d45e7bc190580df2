#include "pilot_link.h"
#include "pilot_files.h"

#include "base/fd.h"
#include "base/mem.h"
#include "zmtp/server.h"

#include <errno.h>
#include <netdb.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

enum { MAX_MESSAGE = 1 << 20, BACKLOG = 128, CONNS_PER_PILOT = 3 };

struct pilot_link {
    struct pilot_link_ops ops;
    struct zmtp_ops zmtp;
    struct curve_server keys;
    struct zmtp_server *server;
    int fd;
};

static const char *user_of_key(void *arg, const unsigned char key[CURVE_KEY], int *ret_max)
{
    struct pilot_link *k = arg;
    *ret_max = CONNS_PER_PILOT;
    return k->ops.pilot_of_key(k->ops.arg, key);
}

static void on_open(void *arg, struct zmtp_conn *c)
{
    (void)arg;
    (void)c;
}

static void on_message(void *arg, struct zmtp_conn *c, struct zmtp_message *m)
{
    struct pilot_link *k = arg;
    if (!m->n || memchr(m->f[m->n - 1].p, 0, m->f[m->n - 1].n))
        return;
    AUTO_FREE char *text = xstrndup(m->f[m->n - 1].p, m->f[m->n - 1].n);
    k->ops.said(k->ops.arg, zmtp_user(c), c, text);
}

static void on_close(void *arg, struct zmtp_conn *c)
{
    struct pilot_link *k = arg;
    k->ops.closed(k->ops.arg, zmtp_user(c), c);
}

/* ret_port: where it listens, when any will do. */
static int listen_at(const char *address, int port, int *ret_port)
{
    char service[16];
    struct addrinfo want = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *found = NULL;
    struct sockaddr_storage bound;
    socklen_t n = sizeof bound;
    char number[16];
    int on = 1;
    snprintf(service, sizeof service, "%d", port);
    if (getaddrinfo(address, service, &want, &found) != 0)
        return -EADDRNOTAVAIL;
    AUTO_FD int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    bool good = fd >= 0 && bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0 &&
                getsockname(fd, (struct sockaddr *)&bound, &n) == 0;
    int r = good ? 0 : -errno;
    freeaddrinfo(found);
    if (r < 0)
        return r;
    if (getnameinfo((struct sockaddr *)&bound, n, NULL, 0, number, sizeof number, NI_NUMERICSERV) != 0)
        return -EADDRNOTAVAIL;
    *ret_port = atoi(number);
    return fd_take(&fd);
}

int pilot_link_new(struct event_base *base, const char *address, int port, const char *path, const struct pilot_link_ops *ops,
                   struct pilot_link **ret, struct err *e)
{
    struct launcher_address a = {0};
    char secret[Z85_KEY];
    int at = 0, fd = listen_at(address, port, &at);
    if (fd < 0)
        return err_sys(e, fd, "cannot listen for pilots on %s port %d (platform.slurm.listen)", address, port);
    struct pilot_link *k = xcalloc(1, sizeof *k);
    *k = (struct pilot_link){.ops = *ops, .fd = fd};
    k->zmtp = (struct zmtp_ops){.type = "ROUTER",
                                .peer_types = " DEALER ",
                                .user_of_key = user_of_key,
                                .on_open = on_open,
                                .on_message = on_message,
                                .on_close = on_close};
    bool made = sodium_init() >= 0 && zmq_curve_keypair(a.public_key, secret) == 0 &&
                zmq_z85_decode(k->keys.public_key, a.public_key) && zmq_z85_decode(k->keys.secret_key, secret);
    snprintf(a.endpoint, sizeof a.endpoint, strchr(address, ':') ? "tcp://[%s]:%d" : "tcp://%s:%d", address, at);
    int r = made ? launcher_address_write(path, &a, e) : err_sys(e, -errno, "cannot make CURVE keys");
    if (r < 0) {
        pilot_link_free(k);
        return r;
    }
    k->server = zmtp_server_new(base, fd, &k->keys, &k->zmtp, k);
    zmtp_server_limit(k->server, MAX_MESSAGE);
    *ret = k;
    return 0;
}

void pilot_link_free(struct pilot_link *k)
{
    if (!k)
        return;
    zmtp_server_free(k->server);
    close(k->fd);
    free(k);
}

bool pilot_link_say(struct zmtp_conn *c, const char *word, const char *claim)
{
    AUTO_FREE char *text = claim ? xasprintf("%s %s", word, claim) : xstrdup(word);
    return c && zmtp_send(c, &(struct wire_frame){text, strlen(text)}, 1) == 0;
}
