/* gateway: HTTP for tenants. It keeps nothing: accounts and figures are read by keepers, files are taken by batchmgr, messages by
 * the broker, and each of them looks itself at what may be done for whom.
 *
 * A request's way: server.c (libmicrohttpd) -> request.c (its steps) -> framing.c, uri.c, routes.c (what is it?) -> login.c (who is
 * it?) -> a handler (handlers.h) -> pool.c (other programs), keepers (front/keeper.h) or spool.c (the disk) -> its answer. */
#include "broker_link.h"
#include "certificate.h"
#include "control.h"
#include "events.h"
#include "gateway.h"
#include "platform.h"
#include "pool.h"
#include "rates.h"
#include "resumable.h"
#include "routes.h"
#include "server.h"
#include "spool.h"

#include "base/crash.h"
#include "base/log.h"
#include "base/mem.h"
#include "host/uid_block.h"
#include "loop/daemon.h"
#include "sandbox/confine.h"
#include "sandbox/manager_sandbox.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MAX_CALLBACKS = 16, CONNECTIONS_TO_EACH = 16 };

/* ---- the certificate ---- */

/* The old one stays until the next but one: connections may use it. */
static int load_certificate(struct gateway *g, struct err *e)
{
    const struct conf_http *h = &g->conf->platform.http;
    struct certificate *next;
    AUTO_BUF struct buf chain = {0};
    AUTO_BUF struct buf key = {0};
    char fingerprint[FINGERPRINT_SIZE];
    int r = keeper_pem(g->keepers[0], &chain, &key, e);
    if (r == 0)
        r = certificate_parse(chain.p, chain.n, key.p, key.n, &next, e);
    if (key.p)
        sodium_memzero(key.p, key.n);
    if (r < 0) {
        err_context(e, "%s", *h->certificate ? h->certificate : CERTIFICATE_FILE);
        return r;
    }
    certificate_fingerprint(next, fingerprint);
    log_info("certificate", NULL, NULL, "%s, SHA-256 %s", *h->certificate ? h->certificate : CERTIFICATE_FILE, fingerprint);
    certificate_free(g->certificates[1]);
    g->certificates[1] = g->certificates[0];
    g->certificates[0] = next;
    if (g->server)
        server_set_certificate(g->server, next);
    return 0;
}

/* ---- configuration ---- */

/* Each keeper answers by the configuration that it read last. */
static int read_conf(struct gateway *g, struct conf **ret, struct err *e)
{
    int r = keeper_conf(g->keepers[0], ret, e);
    for (int i = 1; r == 0 && i < N_GATEWAY_KEEPERS; i++) {
        struct conf *same;
        r = keeper_conf(g->keepers[i], &same, e);
        if (r == 0)
            conf_free(same);
        else
            conf_free(*ret);
    }
    return r;
}

int gateway_reload(struct gateway *g, struct err *e)
{
    struct conf *next;
    int r = read_conf(g, &next, e);
    if (r < 0) {
        log_error("reload", NULL, NULL, "%s; the configuration stays as it was", e->msg);
        return r;
    }
    conf_free(g->conf);
    g->conf = next;
    rates_set(g->rates, next->platform.http.requests_per_s);
    if (!g->certificates[0])
        return 0;
    r = load_certificate(g, e);
    if (r < 0)
        log_error("reload", NULL, NULL, "%s; the certificate stays as it was", e->msg);
    return r;
}

static void on_reload(void *arg)
{
    struct err e = {0};
    gateway_reload(arg, &e);
}

/* ---- life ---- */

/* The network talks to this program. Where root starts it, it is a user of its own from here on, without rights, and sees its spool
 * and the platform's sockets. */
static int give_up_rights(struct gateway *g, struct err *e)
{
    static const char *const parts[] = {SPOOL, NULL}, *const none[] = {NULL};
    int64_t uid = uid_of_program(&g->home, g->conf->platform.uid_base, UID_GATEWAY);
    AUTO_FREE char *crash = xstrdup(crash_file()); /* a test's */
    char *slash = crash ? strrchr(crash, '/') : NULL;
    if (slash)
        *slash = 0;
    if (uid >= 0)
        return room_enter(&g->home, &(struct room){.uid = uid, .sees = none, .scratch = crash, .parts = parts, .bare = true}, e);
    AUTO_FREE char *spool = home_path(&g->home, SPOOL);
    const char *const writable[] = {g->home.runtime, spool, "/dev/null", crash};
    int r = confine_program(&(struct confinement){home_is_roots(&g->home), -1, -1, writable, crash ? 4 : 3});
    return r < 0 ? err_sys(e, r, "cannot give up rights") : 0;
}

static int start_keepers(struct gateway *g, struct err *e)
{
    int r = 0;
    for (int i = 0; r == 0 && i < N_GATEWAY_KEEPERS; i++)
        r = keeper_start(g->base, &g->home, i == KEEPER_OF_STORE ? "store" : "gateway", &g->keepers[i], e);
    return r == 0 ? read_conf(g, &g->conf, e) : r;
}

static void open_pools(struct gateway *g)
{
    static const char *const names[N_PEERS] = {"batchmgr.gateway.sock", "streammgr.gateway.sock", "broker.gateway.sock",
                                               "monitor.gateway.sock"};
    for (int i = 0; i < N_PEERS; i++) {
        AUTO_FREE char *path = home_socket(&g->home, names[i]);
        g->peers[i] = pool_new(g->base, path, CONNECTIONS_TO_EACH);
    }
    AUTO_FREE char *path = home_socket(&g->home, "broker.ipc");
    g->broker = broker_link_new(g->base, path);
}

static int start(struct gateway *g, char **ret_url, struct err *e)
{
    int r = start_keepers(g, e);
    if (r < 0)
        return r;
    const struct conf_http *h = &g->conf->platform.http;
    if (!*h->listen)
        return err_set(e, ERR_CONFIG, "conf/mysimbdp.conf says no platform.http.listen, so there is no gateway");
    g->rates = rates_new(h->requests_per_s);
    g->events = events_new(g);
    r = h->tls && !*h->certificate ? certificate_make(g->home.dirfd, h->listen, e) : 0;
    if (r >= 0)
        r = h->tls ? load_certificate(g, e) : 0;
    if (r == 0)
        r = spool_make(&g->home, uid_of_program(&g->home, g->conf->platform.uid_base, UID_GATEWAY), e);
    if (r == 0)
        r = server_start(g, g->certificates[0], ret_url, e);
    if (r == 0)
        r = control_start(g, *ret_url, e);
    if (r == 0)
        r = give_up_rights(g, e);
    if (r == 0)
        r = spool_open(&g->home, g->base, &g->spool, e);
    if (r < 0)
        return r;
    g->resumables = resumables_open(g->spool);
    open_pools(g);
    return 0;
}

static void release(struct gateway *g)
{
    events_end(g->events);
    server_finish(g->server);
    control_stop(g);
    for (int i = 0; i < N_GATEWAY_KEEPERS; i++)
        keeper_stop(g->keepers[i]);
    for (int i = 0; i < N_PEERS; i++)
        pool_free(g->peers[i]);
    platform_free(g);
    broker_link_free(g->broker);
    spool_stop(g->spool);
    server_stop(g->server);
    events_free(g->events);
    resumables_close(g->resumables);
    spool_close(g->spool);
    rates_free(g->rates);
    map_fini(&g->uploads);
    for (size_t i = 0; i < 2; i++)
        certificate_free(g->certificates[i]);
    conf_free(g->conf);
}

static int run(struct gateway *g, bool supervised, struct err *e)
{
    AUTO_FREE char *url = NULL;
    int lock = home_lock(&g->home, "gateway", 0, e);
    if (lock < 0)
        return lock;
    struct daemon *d = daemon_new(g->base, supervised, &(struct daemon_ops){NULL, on_reload, NULL, g});
    int r = start(g, &url, e);
    if (r == 0) {
        log_info("ready", NULL, NULL, "home %s, %s", g->home.path, url);
        event_base_dispatch(g->base);
    }
    daemon_free(d);
    close(lock);
    return r;
}

static const char usage[] = "usage: gateway [--supervised] --home HOME\n"
                            "       gateway --routes\n"
                            "HTTP for tenants (docs/openapi.yaml). `mysimbdp up` starts it where platform.http.listen is set.\n"
                            "--supervised: also end when stdin closes. SIGTERM: end. SIGHUP: read the configuration again.\n"
                            "--routes: the methods and paths that it has.\n"
                            "Exit: 0 stopped, 1 could not start (the log says why), 2 usage.\n";

int main(int argc, char **argv)
{
    struct gateway g = {0};
    struct err e = {0};
    daemon_prepare("gateway");
    if (argc == 2 && !strcmp(argv[1], "--routes"))
        return routes_print(stdout), 0;
    const char *home;
    bool supervised = daemon_take_args(&argc, argv, usage, &home);
    if (argc != 1)
        return fputs(usage, stderr), 2;
    if (sodium_init() < 0)
        return 1;
    g.base = daemon_loop(MAX_CALLBACKS);
    int r = home_enter(&g.home, home, &e);
    if (r == 0)
        r = run(&g, supervised, &e);
    if (r < 0)
        log_error("start", NULL, NULL, "%s", e.msg);
    release(&g);
    event_base_free(g.base);
    home_close(&g.home);
    return r < 0;
}
