/* A thread a connection. What a client can take is bounded: connections in all and of an address, 16 KiB of head, two buffers of 32
 * KiB, a time for each step. */
#include "front.h"

#include "base/address.h"
#include "base/clk.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

enum { BACKLOG = 1024, LOOK_MS = 250, STACK_BYTES = 512 << 10, END_S = 10, ADDRESS_SIZE = INET6_ADDRSTRLEN };

struct client {
    struct front *f;
    int fd;
    char address[ADDRESS_SIZE], counted[ADDRESS_SIZE];
};

/* Of IPv6 a /64 counts as one. */
static void name_of(const struct sockaddr_storage *a, struct client *c)
{
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)a;
    const struct sockaddr_in *four = (const struct sockaddr_in *)a;
    if (a->ss_family == AF_INET6) {
        struct in6_addr net = six->sin6_addr;
        inet_ntop(AF_INET6, &net, c->address, sizeof c->address);
        memset(net.s6_addr + 8, 0, 8);
        inet_ntop(AF_INET6, IN6_IS_ADDR_V4MAPPED(&six->sin6_addr) ? &six->sin6_addr : &net, c->counted, sizeof c->counted);
    } else {
        inet_ntop(AF_INET, &four->sin_addr, c->address, sizeof c->address);
        memcpy(c->counted, c->address, sizeof c->counted);
    }
}

static void leave_all(struct front *f)
{
    pthread_mutex_lock(&f->lock);
    f->n_connections--;
    pthread_cond_signal(&f->fewer);
    pthread_mutex_unlock(&f->lock);
}

/* False: there are too many. */
static bool enter(struct front *f, const char *address)
{
    pthread_mutex_lock(&f->lock);
    bool may = f->n_connections < f->s.connections;
    f->n_connections += may;
    pthread_mutex_unlock(&f->lock);
    if (may && !count_enter(f, &f->addresses, address, f->s.connections_per_address)) {
        leave_all(f);
        may = false;
    }
    return may;
}

static void leave(struct front *f, const char *address)
{
    count_leave(f, &f->addresses, address);
    leave_all(f);
}

static void *serve(void *arg)
{
    struct client *c = arg;
    connection_serve(c->f, c->fd, c->address);
    leave(c->f, c->counted);
    free(c);
    return NULL;
}

static void accept_one(struct front *f, int listening, const pthread_attr_t *attributes)
{
    struct sockaddr_storage a;
    socklen_t n = sizeof a;
    pthread_t thread;
    int one = 1, fd = accept4(listening, (struct sockaddr *)&a, &n, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    struct client *c = xcalloc(1, sizeof *c);
    *c = (struct client){.f = f, .fd = fd};
    name_of(&a, c);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    bool entered = enter(f, c->counted);
    if (entered && pthread_create(&thread, attributes, serve, c) == 0)
        return;
    if (entered)
        leave(f, c->counted);
    close(fd);
    free(c);
}

static int listen_at(const char *text, struct err *e)
{
    struct address at;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_PASSIVE}, *found = NULL;
    struct sockaddr_storage a;
    socklen_t n = sizeof a;
    char service[16];
    int one = 1;
    size_t length = strlen(text);
    bool any = length > 2 && !strcmp(text + length - 2, ":0"); /* a port that is free: for tests */
    if (address_parse(text, any ? length - 2 : length, any ? 1 : 0, &at) < 0)
        return err_set(e, ERR_USAGE, "--listen is ADDRESS:PORT, not %s", text);
    snprintf(service, sizeof service, "%d", any ? 0 : at.port);
    if (getaddrinfo(at.host, service, &hints, &found))
        return err_set(e, ERR_USAGE, "--listen: %s is no address", at.host);
    AUTO_FD int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool ok = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
              bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0 &&
              getsockname(fd, (struct sockaddr *)&a, &n) == 0;
    int r = ok ? 0 : err_sys(e, -errno, "cannot listen on %s", text);
    freeaddrinfo(found);
    if (r < 0)
        return r;
    in_port_t port = a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&a)->sin6_port : ((struct sockaddr_in *)&a)->sin_port;
    log_info("ready", NULL, NULL, strchr(at.host, ':') ? "[%s]:%d" : "%s:%d", at.host, ntohs(port));
    return fd_take(&fd);
}

/* True: it is to end. */
static bool take_signal(struct front *f, int fd)
{
    struct signalfd_siginfo s;
    struct err e = {0};
    if (read(fd, &s, sizeof s) != sizeof s)
        return false;
    if (s.ssi_signo != SIGHUP)
        return true;
    if (front_load(f, &e) < 0)
        log_error("reload", NULL, NULL, "%s; what there was before goes on", e.msg);
    return false;
}

static void wait_for_clients(struct front *f)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += END_S;
    pthread_mutex_lock(&f->lock);
    while (f->n_connections && pthread_cond_timedwait(&f->fewer, &f->lock, &until) == 0)
        continue;
    pthread_mutex_unlock(&f->lock);
}

int front_serve(struct front *f, struct err *e)
{
    sigset_t signals;
    pthread_attr_t attributes;
    bool ends = false;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* threads have it so, too */
    AUTO_FD int signalled = signalfd(-1, &signals, SFD_CLOEXEC);
    AUTO_FD int listening = listen_at(f->s.listen, e);
    if (listening < 0)
        return listening;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    for (int64_t look_ms = 0; !ends;) {
        struct pollfd p[2] = {{listening, POLLIN, 0}, {signalled, POLLIN, 0}};
        poll(p, 2, LOOK_MS);
        if (p[1].revents)
            ends = take_signal(f, signalled);
        if (p[0].revents)
            accept_one(f, listening, &attributes);
        if (clk_now_ms() >= look_ms) {
            front_look(f);
            look_ms = clk_now_ms() + LOOK_MS;
        }
    }
    close(fd_take(&listening));
    wait_for_clients(f);
    pthread_attr_destroy(&attributes);
    return 0;
}
