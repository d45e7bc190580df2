#include "cli.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/mem.h"
#include "host/path_closed.h"
#include "term/args.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

enum { MAX_ANSWER = 64 << 20, LOOK_MS = 1000 /* how often it is looked whether `up` is there */, TICK_MS = 200 };

const char *cli_opt(struct cli *c, const char *name)
{
    return args_opt(&c->argc, c->argv, name);
}

bool cli_flag(struct cli *c, const char *name)
{
    return args_flag(&c->argc, c->argv, name);
}

int cli_usage(struct cli *c, const char *fmt, ...)
{
    va_list ap;
    fprintf(stderr, "mysimbdp %s: ", c->verb);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\nusage: mysimbdp %s %s [--home HOME]\n", c->verb, c->usage);
    return CLI_USAGE;
}

int cli_args(struct cli *c, int min, int max)
{
    const char *stray = args_stray(c->argc, c->argv);
    if (stray)
        return cli_usage(c, "unknown option, or one without its value: %s", stray);
    if (c->argc < min)
        return cli_usage(c, "too few arguments");
    if (max >= 0 && c->argc > max)
        return cli_usage(c, "too many arguments: %s", c->argv[max]);
    return 0;
}

int cli_fail(struct cli *c, const struct err *e)
{
    fprintf(stderr, "mysimbdp %s: %s\n", c->verb, e->msg);
    return CLI_FAILED;
}

void cli_warn_reach(const struct cli *c, const char *home)
{
    struct stat st;
    AUTO_FREE char *closed = path_closed(home);
    if (closed && stat(closed, &st) == 0)
        fprintf(stderr,
                "mysimbdp %s: warning: tenants' apps cannot reach a home below %s (mode %03o); `chmod o+x %s`, or have the home "
                "elsewhere\n",
                c->verb, closed, st.st_mode & 0777, closed);
}

int cli_fail_home(struct cli *c, const struct err *e)
{
    if (e->code != -EACCES || !c->desk)
        return cli_fail(c, e);
    fprintf(stderr, "mysimbdp %s: this verb is the provider's; a tenant's own user may call files, runs, logs, rejects and retry\n",
            c->verb);
    return CLI_FAILED;
}

int cli_home(struct cli *c, struct home *h)
{
    struct err e = {0};
    return home_open(h, c->home_arg, &e) < 0 ? cli_fail_home(c, &e) : 0;
}

int cli_enter(struct cli *c, struct home *h)
{
    struct err e = {0};
    return home_enter(h, c->home_arg, &e) < 0 ? cli_fail_home(c, &e) : 0;
}

int cli_conf(struct cli *c, const struct home *h, struct conf **ret)
{
    AUTO_BUF struct buf all = {0};
    struct err e = {0};
    if (conf_load_all(h->path, &all, ret, &e) == 0)
        return 0;
    if (all.n)
        fputs(all.p, stderr);
    return cli_fail(c, &e);
}

static bool is_down(int r)
{
    return r == -ENOENT || r == -ECONNREFUSED;
}

bool cli_is_running(const struct home *h)
{
    AUTO_FREE char *path = home_socket(h, "up.sock");
    AUTO_FD int fd = fd_unix_connect(path, false);
    return fd >= 0 || fd == -EAGAIN; /* it is stopping: it accepts no connections any more */
}

int cli_connect(const struct home *h, const char *socket_name, struct err *e)
{
    AUTO_FREE char *path = home_socket(h, socket_name);
    int fd = fd_unix_connect(path, true);
    if (!is_down(fd))
        return fd < 0 ? err_sys(e, fd, "cannot connect to %s", path) : fd;
    if (!cli_is_running(h))
        return err_set(e, fd, "the platform of %s is not running; start it with `mysimbdp up --home %s`", h->path, h->path);
    int n = (int)strcspn(socket_name, ".");
    return err_set(e, fd, "%.*s is down, and `mysimbdp up` starts it again; %s/logs/%.*s.log says why", n, socket_name, h->path, n,
                   socket_name);
}

int cli_connect_wait(const struct home *h, const char *socket_name, struct err *e)
{
    AUTO_FREE char *path = home_socket(h, socket_name);
    int64_t now = clk_now_ms(), until = now + CLI_START_WAIT_MS, look_ms = now;
    int fd = fd_unix_connect(path, true);
    while (is_down(fd) && now < until && (now < look_ms || cli_is_running(h))) {
        look_ms = now < look_ms ? look_ms : now + LOOK_MS;
        poll(NULL, 0, CLI_RETRY_MS);
        fd = fd_unix_connect(path, true);
        now = clk_now_ms();
    }
    return fd >= 0 ? fd : cli_connect(h, socket_name, e);
}

int cli_exchange_long(int fd, const char *request, void (*tick)(void *arg), void *arg, bson_t **ret, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    AUTO_BUF struct buf line = {0};
    buf_addf(&line, "%s\n", request);
    if (send(fd, line.p, line.n, MSG_NOSIGNAL) != (ssize_t)line.n)
        return err_set(e, ERR_CLOSED, "the platform went away before it was asked; look into its log, and try again");
    for (;;) {
        struct pollfd p = {fd, POLLIN, 0};
        if (tick && poll(&p, 1, TICK_MS) <= 0) {
            tick(arg);
            continue;
        }
        buf_reserve(&b, 65536);
        ssize_t n = recv(fd, b.p + b.n, 65536, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0 || b.n > MAX_ANSWER)
            return err_set(e, ERR_CLOSED, "the platform went away before it answered; look into its log, and try again");
        b.n += (size_t)n;
        b.p[b.n] = 0;
        if (b.p[b.n - 1] == '\n')
            break;
    }
    bson_t *doc = json_parse(b.p, b.n - 1, e);
    if (!doc) {
        err_context(e, "the platform's answer");
        return ERR_FORMAT;
    }
    if (!json_get_bool(doc, "ok", false)) {
        const bool unknown = !strcmp(json_get_str(doc, "code", ""), "not_found");
        err_refuse(e, unknown ? "not_found" : "refused", 0, "%s", json_get_str(doc, "error", "refused without a reason"));
        bson_destroy(doc);
        return ERR_REFUSED;
    }
    *ret = doc;
    return 0;
}

int cli_exchange(int fd, const char *request, bson_t **ret, struct err *e)
{
    return cli_exchange_long(fd, request, NULL, NULL, ret, e);
}

int cli_request_now(const struct home *h, const char *socket_name, const char *request, bson_t **ret, struct err *e)
{
    AUTO_FD int fd = cli_connect(h, socket_name, e);
    return fd < 0 ? fd : cli_exchange(fd, request, ret, e);
}

int cli_request(const struct home *h, const char *socket_name, const char *request, bson_t **ret, struct err *e)
{
    AUTO_FD int fd = cli_connect_wait(h, socket_name, e);
    return fd < 0 ? fd : cli_exchange(fd, request, ret, e);
}

int cli_order(struct cli *c, const char *socket_name, const char *request, void (*print)(const bson_t *answer))
{
    struct home h;
    struct err e = {0};
    AUTO_BSON bson_t *answer = NULL;
    if (cli_home(c, &h))
        return CLI_FAILED;
    int r = cli_request(&h, socket_name, request, &answer, &e);
    if (r < 0)
        cli_fail(c, &e);
    else if (print)
        print(answer);
    home_close(&h);
    return r < 0 ? CLI_FAILED : CLI_DONE;
}

int cli_tell(const struct home *h, const char *socket_name, const char *op, const char *tenant, struct err *e)
{
    AUTO_BUF struct buf rq = {0};
    AUTO_BSON bson_t *answer = NULL;
    int fd = cli_connect_wait(h, socket_name, NULL);
    if (fd < 0)
        return 0;
    json_begin(&rq, NULL, '{');
    json_str(&rq, "op", op);
    if (tenant)
        json_str(&rq, "tenant_id", tenant);
    json_end(&rq, '}');
    int r = cli_exchange(fd, rq.p, &answer, e);
    close(fd);
    return r;
}

int cli_tell_others(const struct home *h, const char *op, struct err *e)
{
    static const char *const sockets[] = {"broker.sock", "streammgr.sock", "monitor.sock"};
    int r = 0;
    for (size_t i = 0; r == 0 && i < sizeof sockets / sizeof *sockets; i++)
        r = cli_tell(h, sockets[i], op, NULL, e);
    return r == 0 && cli_has_gateway(h) ? cli_tell(h, "gateway.sock", op, NULL, e) : r;
}

int cli_tell_all(const struct home *h, const char *op, struct err *e)
{
    int r = cli_tell(h, "batchmgr.sock", op, NULL, e);
    return r == 0 ? cli_tell_others(h, op, e) : r;
}

/* One that is being started has not read anything yet. */
bool cli_has_gateway(const struct home *h)
{
    AUTO_FREE char *path = home_socket(h, "gateway.sock");
    return fd_exists(AT_FDCWD, path);
}
