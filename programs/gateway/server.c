#include "server.h"
#include "certificate.h"
#include "events.h"
#include "figures.h"
#include "gateway.h"
#include "rates.h"
#include "request.h"
#include "resumable.h"
#include "slow.h"

#include "base/address.h"
#include "base/clk.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "loop/timer.h"

#include <errno.h>
#include <signal.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum { BACKLOG = 1024, SWEEP_MS = 1000, FINISH_MS = 1000, FINISH_LOOK_MS = 5 };

struct server {
    struct gateway *g;
    struct MHD_Daemon *daemon;
    struct event *ready, *timer, *sweep;
    struct slow *slow;
    const struct certificate *cert;
    int fd;
    bool has_closed; /* a connection, in this run. One that was at its limit does not listen until the next one */
};

/* ---- the loop ---- */

static void run(struct server *s)
{
    MHD_UNSIGNED_LONG_LONG ms;
    s->has_closed = false;
    MHD_run(s->daemon);
    if (s->has_closed)
        timer_set(s->timer, 0); /* it listens again at its next run, and nothing else would cause that */
    else if (MHD_get_timeout(s->daemon, &ms) == MHD_YES)
        timer_set(s->timer, (int64_t)ms);
    else
        event_del(s->timer);
}

static void on_ready(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    run(arg);
}

void server_kick(struct server *s)
{
    timer_set(s->timer, 0);
}

static void on_sweep(evutil_socket_t fd, short what, void *arg)
{
    struct server *s = arg;
    (void)fd;
    (void)what;
    slow_sweep(s->slow, clk_now_ms());
    rates_sweep(s->g->rates, clk_now_ms());
    events_sweep(s->g->events, clk_now_ms());
    resumables_sweep(s->g->resumables);
}

/* ---- libmicrohttpd's callbacks ---- */

static void *on_target(void *arg, const char *target, struct MHD_Connection *c)
{
    struct server *s = arg;
    struct request *rq = request_new(s->g, c, target);
    slow_header(c, clk_now_ms());
    return rq;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *c, const char *url, const char *method, const char *version,
                                  const char *p, size_t *n, void **data)
{
    struct request *rq = *data;
    (void)arg;
    (void)url; /* the target as it came is in the request */
    slow_progress(c, clk_now_ms(), *n);
    return rq ? request_step(rq, method, version, p, n) : MHD_NO;
}

static void on_completed(void *arg, struct MHD_Connection *c, void **data, enum MHD_RequestTerminationCode code)
{
    struct request *rq = *data;
    (void)arg;
    slow_idle(c, clk_now_ms());
    if (rq && rq->status && !rq->counted)
        figures_count(rq->status, clk_now_us() - rq->began_us, rq->received);
    if (rq)
        rq->sent = code == MHD_REQUEST_TERMINATED_COMPLETED_OK;
    request_free(rq);
    *data = NULL;
}

static void on_connection(void *arg, struct MHD_Connection *c, void **context, enum MHD_ConnectionNotificationCode code)
{
    struct server *s = arg;
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        *context = slow_add(s->slow, c, clk_now_ms());
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        slow_remove(*context);
        s->has_closed = true;
    }
}

/* The path comes decoded otherwise, with what a NUL hides. */
static size_t leave_escaped(void *arg, struct MHD_Connection *c, char *s)
{
    (void)arg;
    (void)c;
    return strlen(s);
}

__attribute__((format(printf, 2, 0))) static void on_message(void *arg, const char *fmt, va_list ap)
{
    char text[300];
    (void)arg;
    vsnprintf(text, sizeof text, fmt, ap);
    text[strcspn(text, "\n")] = 0;
    log_debug("http", NULL, NULL, "%s", text);
}

/* GnuTLS has no place for an argument. */
static struct server *the_server;

static int on_handshake(gnutls_session_t session, const gnutls_datum_t *authorities, int n, const gnutls_pk_algorithm_t *algorithms,
                        int n_algorithms, gnutls_pcert_st **chain, unsigned *n_chain, gnutls_privkey_t *key)
{
    (void)session;
    (void)authorities;
    (void)n;
    (void)algorithms;
    (void)n_algorithms;
    certificate_show(the_server->cert, chain, n_chain, key);
    return 0;
}

/* ---- listening ---- */

static int listen_at(const char *host, int port, int *ret_port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_PASSIVE}, *found;
    char service[16];
    int one = 1, r = -EADDRNOTAVAIL;
    struct sockaddr_storage a;
    socklen_t n = sizeof a;
    snprintf(service, sizeof service, "%d", port);
    if (getaddrinfo(host, service, &hints, &found))
        return -EADDRNOTAVAIL;
    AUTO_FD int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
        bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0 &&
        getsockname(fd, (struct sockaddr *)&a, &n) == 0)
        r = 0;
    else
        r = -errno;
    freeaddrinfo(found);
    if (r < 0)
        return r;
    *ret_port = ntohs(a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&a)->sin6_port : ((struct sockaddr_in *)&a)->sin_port);
    return fd_take(&fd);
}

/* As for the other programs: the configured port; else the one that it had, so that clients find it again; else any. */
static int open_port(struct server *s, bool tls, char **ret_url, struct err *e)
{
    const struct conf_http *h = &s->g->conf->platform.http;
    int64_t port = s->g->conf->platform.ports.gateway;
    int kept = home_kept_port(&s->g->home, "gateway"), bound = 0;
    s->fd = listen_at(h->listen, (int)(port ? port : kept), &bound);
    if (s->fd < 0 && !port && kept)
        s->fd = listen_at(h->listen, 0, &bound);
    if (s->fd < 0)
        return err_sys(e, s->fd, "cannot listen on http.listen = \"%s\", port %lld", h->listen, (long long)(port ? port : kept));
    if (!port && bound != kept) {
        int r = home_keep_port(&s->g->home, "gateway", bound, e);
        if (r < 0)
            return r;
    }
    *ret_url = xasprintf(strchr(h->listen, ':') ? "http%s://[%s]:%d" : "http%s://%s:%d", tls ? "s" : "", h->listen, bound);
    return 0;
}

/* ---- life ---- */

static int start_daemon(struct server *s, struct err *e)
{
    const struct conf_http *h = &s->g->conf->platform.http;
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG | (s->cert ? MHD_USE_TLS : 0);
    struct MHD_OptionItem of_tls[] = {
        {MHD_OPTION_HTTPS_CERT_CALLBACK, 0, (void *)(intptr_t)on_handshake},
        {MHD_OPTION_HTTPS_PRIORITIES, 0, (char *)"SECURE128:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:%SERVER_PRECEDENCE"},
        {MHD_OPTION_END, 0, NULL},
    };
    signal(SIGPIPE, SIG_IGN); /* sendfile has no flag against it; without this, libmicrohttpd sends files in 4 KiB */
    s->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, s, MHD_OPTION_EXTERNAL_LOGGER, on_message, s, MHD_OPTION_LISTEN_SOCKET, s->fd,
        MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_URI_LOG_CALLBACK, on_target, s, MHD_OPTION_UNESCAPE_CALLBACK,
        leave_escaped, s, MHD_OPTION_NOTIFY_COMPLETED, on_completed, s, MHD_OPTION_NOTIFY_CONNECTION, on_connection, s,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY, MHD_OPTION_CONNECTION_LIMIT, (unsigned)h->connections,
        MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned)h->connections_per_address, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)h->idle_s, MHD_OPTION_ARRAY, s->cert ? of_tls : &of_tls[2], MHD_OPTION_END);
    if (!s->daemon)
        return err_set(e, -ENOMEM, "cannot start the HTTP server (descriptors or memory are lacking)");
    const union MHD_DaemonInfo *i = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    s->ready = event_new(s->g->base, i->epoll_fd, EV_READ | EV_PERSIST, on_ready, s);
    s->timer = event_new(s->g->base, -1, 0, on_ready, s);
    s->sweep = event_new(s->g->base, -1, EV_PERSIST, on_sweep, s);
    event_add(s->ready, NULL);
    timer_set(s->sweep, SWEEP_MS);
    return 0;
}

int server_start(struct gateway *g, const struct certificate *cert, char **ret_url, struct err *e)
{
    struct server *s = g->server = the_server = xcalloc(1, sizeof *s);
    const struct conf_http *h = &g->conf->platform.http;
    *s = (struct server){.g = g, .cert = cert, .fd = -1};
    s->slow = slow_new(h->idle_s * 1000, h->min_bytes_per_s);
    int r = open_port(s, cert != NULL, ret_url, e);
    return r < 0 ? r : start_daemon(s, e);
}

void server_set_certificate(struct server *s, const struct certificate *cert)
{
    s->cert = cert;
}

void server_finish(struct server *s)
{
    int64_t until_ms = clk_now_ms() + FINISH_MS;
    const union MHD_DaemonInfo *i = s && s->daemon ? MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    while (i && events_open(s->g->events) && clk_now_ms() < until_ms) {
        struct pollfd p = {i->epoll_fd, POLLIN, 0};
        MHD_run(s->daemon);
        poll(&p, 1, FINISH_LOOK_MS);
    }
}

void server_stop(struct server *s)
{
    if (!s)
        return;
    slow_resume_all(s->slow);
    if (s->daemon)
        MHD_stop_daemon(s->daemon); /* closes the socket, too */
    else if (s->fd >= 0)
        close(s->fd);
    if (s->ready) {
        event_free(s->ready);
        event_free(s->timer);
        event_free(s->sweep);
    }
    slow_free(s->slow);
    free(s);
}
