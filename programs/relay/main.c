/* simbdp-relay: the way out of a run's network namespace. It lives outside, with listeners that were made inside (netns.h): who
 * connects to one of them is connected to the real target, and bytes go both ways until both have said that they are done.
 *
 * A runner starts it at its run's first connection. It reads nothing but bytes to pass on, has a uid of its own, no capability and
 * a bounded number of connections; a slow reader stops its writer, so that it holds at most CHUNK_BYTES a direction. It ends when
 * its runner does (stdin), or kills it; connections end with it, and the run's next one starts another.
 *
 *   accept -> connect (non-blocking) -> pass on, both ways -> end of one: half-close -> end of both: gone
 *                                  an error of one side: reset to the other */
#include "base/address.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "sandbox/confine.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

enum {
    FIRST_LISTENER = 3,
    FIRST_TARGET = 6,
    MAX_TARGETS = 32,
    MAX_CONNECTIONS = 256,
    CHUNK_BYTES = 65536,
    EX_FAILED_CODE = 1,
    EX_USAGE_CODE = 2
};

enum kind { LEASH, LISTENER, SIDE };

struct side {
    enum kind kind;
    struct connection *connection;
    int fd;
    char *rest; /* read from here, not yet taken by the other side; NULL: none */
    size_t n_rest, at_rest;
    bool ended; /* nothing more is to be read */
    bool told;  /* the other side knows */
};

struct connection {
    struct side a, b; /* the run's, the target's */
    bool connecting, dead;
    struct connection *next; /* of those to be freed after the turn */
};

struct listener {
    enum kind kind;
    int fd;
    struct address target;
};

static struct {
    int ep;
    struct listener listeners[MAX_TARGETS];
    int n_listeners, n_connections;
    bool full;
    const char *runtime; /* the home's directory for sockets */
    struct connection *dead;
    char chunk[CHUNK_BYTES];
} relay;

static void watch(int op, int fd, uint32_t events, void *what)
{
    struct epoll_event e = {.events = events, .data.ptr = what};
    epoll_ctl(relay.ep, op, fd, &e);
}

static void watch_listeners(bool on)
{
    for (int i = 0; i < relay.n_listeners; i++)
        watch(EPOLL_CTL_MOD, relay.listeners[i].fd, on ? EPOLLIN : 0, &relay.listeners[i]);
    relay.full = !on;
}

static struct side *other(struct side *s)
{
    return s == &s->connection->a ? &s->connection->b : &s->connection->a;
}

/* What a side waits for: to read while nothing of it is left over, to write while something of the other is. */
static void rearm(struct side *s)
{
    uint32_t events = (!s->ended && !s->rest ? EPOLLIN : 0) | (other(s)->rest ? EPOLLOUT : 0);
    if (s->connection->connecting)
        events = s == &s->connection->b ? EPOLLOUT : 0;
    /* Not watched at all when both directions are over: epoll would report the hang-up again and again. */
    watch(s->ended && other(s)->told ? EPOLL_CTL_DEL : EPOLL_CTL_MOD, s->fd, events, s);
}

static void end(struct connection *c, bool reset)
{
    struct side *sides[] = {&c->a, &c->b};
    if (c->dead)
        return;
    for (int i = 0; i < 2; i++) {
        struct linger abort = {1, 0};
        if (reset && sides[i]->fd >= 0)
            setsockopt(sides[i]->fd, SOL_SOCKET, SO_LINGER, &abort, sizeof abort);
        if (sides[i]->fd >= 0)
            close(sides[i]->fd);
        free(sides[i]->rest);
    }
    c->dead = true;
    c->next = relay.dead;
    relay.dead = c;
    relay.n_connections--;
}

/* Takes what the socket takes of n bytes; -1: the connection is over. */
static ssize_t give(struct side *to, const char *p, size_t n)
{
    size_t done = 0;
    while (done < n) {
        ssize_t w = send(to->fd, p + done, n - done, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (w < 0 && errno == EAGAIN)
            break;
        if (w < 0 && errno != EINTR) {
            end(to->connection, true);
            return -1;
        }
        done += w > 0 ? (size_t)w : 0;
    }
    return (ssize_t)done;
}

/* Both sides know that the other is done: then it is over. */
static void pass_on_end(struct side *s)
{
    struct side *o = other(s);
    if (s->ended && !s->rest && !s->told) {
        shutdown(o->fd, SHUT_WR);
        s->told = true;
    }
    if (s->told && o->told)
        end(s->connection, false);
}

static void on_readable(struct side *s)
{
    ssize_t n = recv(s->fd, relay.chunk, sizeof relay.chunk, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0) {
        end(s->connection, true);
        return;
    }
    s->ended = n == 0;
    ssize_t given = n ? give(other(s), relay.chunk, (size_t)n) : 0;
    if (given < 0)
        return;
    if (given < n) {
        s->n_rest = (size_t)(n - given);
        s->at_rest = 0;
        s->rest = xmalloc(s->n_rest);
        memcpy(s->rest, relay.chunk + given, s->n_rest);
    }
    pass_on_end(s);
}

static void on_writable(struct side *s)
{
    struct side *from = other(s);
    if (!from->rest)
        return;
    ssize_t given = give(s, from->rest + from->at_rest, from->n_rest - from->at_rest);
    if (given < 0)
        return;
    from->at_rest += (size_t)given;
    if (from->at_rest < from->n_rest)
        return;
    free(from->rest);
    from->rest = NULL;
    pass_on_end(from);
}

static void on_connected(struct connection *c)
{
    int error = 0;
    socklen_t n = sizeof error;
    if (getsockopt(c->b.fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0 || error) {
        end(c, true);
        return;
    }
    c->connecting = false;
}

static void on_side(struct side *s, uint32_t events)
{
    struct connection *c = s->connection;
    bool broken = events & (EPOLLHUP | EPOLLERR);
    if (c->dead)
        return;
    if (c->connecting && s == &c->b)
        on_connected(c);
    else if (c->connecting && broken)
        end(c, true); /* it did not wait */
    if (!c->dead && !c->connecting && !s->ended && !s->rest && (events & EPOLLIN || broken))
        on_readable(s);
    if (!c->dead && !c->connecting && (events & EPOLLOUT || broken))
        on_writable(s);
    if (c->dead)
        return;
    rearm(&c->a);
    rearm(&c->b);
}

/* The home's own MongoDB also listens on a socket that only relays can reach (EmbeddedMongo.java), so that a crowd at its TCP port
 * does not shut them out. -1: the target is another one, or the socket is not there; then the port is used. */
static int connect_inside(const struct address *target)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    if (strcmp(target->host, "127.0.0.1") != 0 ||
        snprintf(un.sun_path, sizeof un.sun_path, "%s/mongo/%d.sock", relay.runtime, target->port) >= (int)sizeof un.sun_path)
        return -1;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&un, sizeof un) < 0)
        close(fd_take(&fd));
    return fd;
}

/* Blocks while a name is resolved; only other connections of the same run wait meanwhile. */
static int connect_to(const struct address *target)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    char port[16];
    int fd = connect_inside(target), on = 1;
    if (fd >= 0)
        return fd;
    snprintf(port, sizeof port, "%d", target->port);
    if (getaddrinfo(target->host, port, &hints, &found))
        return -1;
    for (const struct addrinfo *a = found; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) < 0 && errno != EINPROGRESS)
            close(fd_take(&fd));
    }
    freeaddrinfo(found);
    if (fd >= 0)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static void on_listener(struct listener *l)
{
    int on = 1, fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    struct connection *c = xcalloc(1, sizeof *c);
    *c = (struct connection){.a = {SIDE, c, fd, NULL, 0, 0, false, false},
                             .b = {SIDE, c, connect_to(&l->target), NULL, 0, 0, false, false},
                             .connecting = true};
    relay.n_connections++;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (c->b.fd < 0) {
        end(c, true);
        return;
    }
    watch(EPOLL_CTL_ADD, c->a.fd, 0, &c->a);
    watch(EPOLL_CTL_ADD, c->b.fd, EPOLLOUT, &c->b);
}

static void turn(void)
{
    struct epoll_event events[64];
    int n = epoll_wait(relay.ep, events, 64, -1);
    for (int i = 0; i < n; i++) {
        enum kind *kind = events[i].data.ptr;
        if (*kind == LEASH)
            exit(0);
        if (*kind == LISTENER)
            on_listener(events[i].data.ptr);
        else
            on_side(events[i].data.ptr, events[i].events);
        if (relay.n_connections >= MAX_CONNECTIONS && !relay.full)
            watch_listeners(false);
    }
    for (struct connection *c; (c = relay.dead);) {
        relay.dead = c->next;
        free(c);
    }
    if (relay.full && relay.n_connections < MAX_CONNECTIONS)
        watch_listeners(true);
}

static const char usage[] =
    "usage: simbdp-relay --home HOME --runtime DIRECTORY --uid=UID TARGET...   host:port, one for each listener from descriptor 3 "
    "on\n"
    "Passes connections on; a runner starts it, and UID (-1: none) is who it becomes. Ends when stdin does.\n";

static int drop(long long uid)
{
    struct rlimit files = {2 * MAX_CONNECTIONS + MAX_TARGETS + 64, 2 * MAX_CONNECTIONS + MAX_TARGETS + 64};
    setrlimit(RLIMIT_NOFILE, &files); /* ours may be lower already */
    return confine_program(&(struct confinement){uid >= 0, uid, -1, NULL, 0});
}

int main(int argc, char **argv)
{
    static enum kind leash = LEASH;
    log_init("simbdp-relay");
    if (argc == 2 && !strcmp(argv[1], "--help"))
        return fputs(usage, stdout) < 0;
    if (argc <= FIRST_TARGET || argc - FIRST_TARGET > MAX_TARGETS || strcmp(argv[1], "--home") != 0 ||
        strcmp(argv[3], "--runtime") != 0 || strncmp(argv[5], "--uid=", 6) != 0)
        return fputs(usage, stderr), EX_USAGE_CODE;
    if (drop(atoll(argv[5] + 6)) < 0)
        return perror("simbdp-relay: cannot become its user"), EX_FAILED_CODE;
    relay.runtime = argv[4];
    signal(SIGTERM, SIG_IGN); /* SIGTERM is for the run's processes, which may still have something to send */
    signal(SIGPIPE, SIG_IGN);
    relay.ep = epoll_create1(EPOLL_CLOEXEC);
    watch(EPOLL_CTL_ADD, 0, EPOLLIN, &leash);
    for (int i = FIRST_TARGET; i < argc; i++) {
        struct listener *l = &relay.listeners[relay.n_listeners++];
        *l = (struct listener){.kind = LISTENER, .fd = FIRST_LISTENER + i - FIRST_TARGET};
        if (address_parse(argv[i], strlen(argv[i]), 0, &l->target) < 0)
            return fprintf(stderr, "simbdp-relay: '%s' is no host:port\n", argv[i]), EX_USAGE_CODE;
        watch(EPOLL_CTL_ADD, l->fd, EPOLLIN, l);
    }
    for (;;)
        turn();
}
