/* simbdp-cells: what stands in front of the cells of a fleet (docs/scale-out.md). It knows of each request whose it is, and by the
 * map in which cell he is; who he is, and what he may, the cell finds out. It keeps nothing but which map it saw last.
 *
 * A request's way: serve.c (accepts; a thread each) -> connection.c -> head.c (strict) -> route.c (whose is it?) -> the map (where
 * is he?) -> link.c (is it that cell?) -> exchange.c (bytes both ways). */
#include "ask.h"
#include "front.h"

#include "base/fd.h"
#include "base/log.h"
#include "sandbox/confine.h"
#include "term/args.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: simbdp-cells --map FILE --key FILE --state DIR --listen ADDRESS:PORT [--certificate PEM --certificate-key PEM]\n"
    "                    [--domain DOMAIN] [--connections N] [--connections-per-address N] [--requests-per-cell N]\n"
    "                    [--idle-s N] [--answer-s N]\n"
    "       simbdp-cells --ask --map FILE --key FILE --tokens DIR --requests FILE --deadline-s N\n"
    "HTTP in front of the cells of a fleet: each request goes to the cell of its tenant (docs/scale-out.md).\n"
    "--map, --key: what `mysimbdp cells sign` made, and map.pub; a map that changes is taken within a second.\n"
    "--state: a directory of its own, for which map it saw last.\n"
    "--certificate, --certificate-key: what it shows. Without them there is no TLS, which is for addresses of this host.\n"
    "--domain: tenants have hosts TENANT.DOMAIN; no other host is served.\n"
    "--connections: 1 to 20000 in all, default 1024; of an address: default 64.\n"
    "--requests-per-cell: under way at once at one cell, default half of --connections.\n"
    "--idle-s: 1 to 3600, default 60: for a head, and without a byte either way. --answer-s: 1 to 3600, default 120: for a cell "
    "to\n"
    "begin its answer.\n"
    "--ask: GETs each line CELL PATH of a file, all cells at once, with the tokens in DIR; for `mysimbdp cells stats`.\n"
    "SIGTERM: end, within 10 s. SIGHUP: read map and certificate again. Exit: 0 stopped, 1 could not start, 2 usage.\n";

static int fail(const char *what)
{
    fprintf(stderr, "simbdp-cells: %s\n%s", what, usage);
    return 2;
}

static bool number(int *argc, char **argv, const char *name, int64_t def, int64_t max, int64_t *ret)
{
    const char *text = args_opt(argc, argv, name);
    char *end = NULL;
    *ret = text ? strtoll(text, &end, 10) : def;
    return !text || (*text && !*end && *ret >= 1 && *ret <= max);
}

static bool is_here(const char *listen)
{
    return !strncmp(listen, "127.", 4) || !strncmp(listen, "[::1]", 5);
}

static const char *take_settings(int argc, char **argv, struct front_settings *s)
{
    bool right = number(&argc, argv, "--connections", 1024, 20000, &s->connections);
    right &= number(&argc, argv, "--connections-per-address", 64, 20000, &s->connections_per_address);
    right &= number(&argc, argv, "--requests-per-cell", s->connections > 1 ? s->connections / 2 : 1, 20000, &s->requests_per_cell);
    right &= number(&argc, argv, "--idle-s", 60, 3600, &s->idle_s);
    right &= number(&argc, argv, "--answer-s", 120, 3600, &s->answer_s);
    s->map = args_opt(&argc, argv, "--map");
    s->key = args_opt(&argc, argv, "--key");
    s->state = args_opt(&argc, argv, "--state");
    s->listen = args_opt(&argc, argv, "--listen");
    s->certificate = args_opt(&argc, argv, "--certificate");
    s->certificate_key = args_opt(&argc, argv, "--certificate-key");
    s->domain = args_opt(&argc, argv, "--domain");
    s->domain = s->domain ? s->domain : "";
    if (!right)
        return "a number is out of its range";
    if (argc > 1)
        return "there is an option or an argument that is not known";
    if (!s->map || !s->key || !s->state || !s->listen)
        return "--map, --key, --state and --listen have to be said";
    if (!s->certificate != !s->certificate_key)
        return "--certificate and --certificate-key belong together";
    if (!s->certificate && !is_here(s->listen))
        return "without TLS only addresses of this host are listened on";
    return NULL;
}

/* For the command line. */
static int ask(int argc, char **argv)
{
    struct err e = {0};
    struct ask_settings s = {.map = args_opt(&argc, argv, "--map"),
                             .key = args_opt(&argc, argv, "--key"),
                             .tokens = args_opt(&argc, argv, "--tokens"),
                             .requests = args_opt(&argc, argv, "--requests")};
    if (!number(&argc, argv, "--deadline-s", 10, 3600, &s.deadline_s) || argc > 1 || !s.map || !s.key || !s.tokens || !s.requests)
        return fail("--ask takes --map, --key, --tokens and --requests");
    int r = ask_all(&s, &e);
    if (r < 0)
        fprintf(stderr, "%s\n", e.msg);
    return r < 0;
}

/* What it has open stays; of files it may change its own directory's alone. */
static int give_up_rights(const struct front *f, struct err *e)
{
    const char *const writable[] = {f->s.state, "/dev/null"};
    int r = confine_program(&(struct confinement){geteuid() == 0, -1, -1, writable, 2});
    return r < 0 ? err_sys(e, r, "cannot give up rights") : 0;
}

static int start(struct front *f, struct err *e)
{
    int r = cells_key_public(AT_FDCWD, f->s.key, f->key, e);
    if (r < 0)
        return r;
    f->state_fd = open(f->s.state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (f->state_fd < 0)
        return err_sys(e, -errno, "cannot open %s", f->s.state);
    gnutls_certificate_allocate_credentials(&f->authorities);
    gnutls_certificate_set_x509_system_trust(f->authorities);
    gnutls_session_ticket_key_generate(&f->tickets);
    r = give_up_rights(f, e);
    return r == 0 ? front_load(f, e) : r;
}

int main(int argc, char **argv)
{
    static struct front f = {.lock = PTHREAD_MUTEX_INITIALIZER, .fewer = PTHREAD_COND_INITIALIZER, .state_fd = -1};
    struct err e = {0};
    log_init("simbdp-cells");
    if (argc == 2 && !strcmp(argv[1], "--help"))
        return fputs(usage, stdout) < 0;
    if (sodium_init() < 0)
        return 1;
    signal(SIGPIPE, SIG_IGN);
    if (args_flag(&argc, argv, "--ask"))
        return ask(argc, argv);
    const char *why = take_settings(argc, argv, &f.s);
    if (why)
        return fail(why);
    fd_raise_limit();
    int r = start(&f, &e);
    if (r == 0)
        r = front_serve(&f, &e);
    if (r < 0)
        log_error("start", NULL, NULL, "%s", e.msg);
    return r < 0; /* threads that still serve somebody end with the process */
}
