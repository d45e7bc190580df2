#include "daemon.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "host/home.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct daemon {
    struct event_base *base;
    struct daemon_ops ops;
    struct event *term, *interrupt, *hup, *chld, *leash;
};

void daemon_prepare(const char *program)
{
    log_init(program);
    crash_init();
    signal(SIGPIPE, SIG_IGN);
    fd_raise_limit();
}

bool daemon_take_args(int *argc, char **argv, const char *usage, const char **ret_home)
{
    *ret_home = home_take_arg(argc, argv);
    if (*argc == 2 && !strcmp(argv[1], "--help"))
        exit(fputs(usage, stdout) < 0);
    bool supervised = *argc == 2 && !strcmp(argv[1], "--supervised");
    *argc -= supervised;
    return supervised;
}

struct event_base *daemon_loop(int max_callbacks)
{
    struct event_config *c = event_config_new();
    if (max_callbacks)
        event_config_set_max_dispatch_interval(c, NULL, max_callbacks, 0);
    struct event_base *base = event_base_new_with_config(c);
    event_config_free(c);
    return base;
}

static void on_term(evutil_socket_t sig, short what, void *arg)
{
    struct daemon *d = arg;
    (void)what;
    log_info("stop", NULL, NULL, "signal %d%s%s", (int)sig, d->ops.ending ? ": " : "", d->ops.ending ? d->ops.ending : "");
    event_base_loopbreak(d->base);
}

static void on_leash(evutil_socket_t fd, short what, void *arg)
{
    struct daemon *d = arg;
    char byte;
    (void)what;
    if (read(fd, &byte, 1) > 0)
        return;
    log_warn("stop", NULL, NULL, "`mysimbdp up` ended without a word; stopping too%s%s", d->ops.ending ? ", " : "",
             d->ops.ending ? d->ops.ending : "");
    event_base_loopbreak(d->base);
}

static void on_hup(evutil_socket_t sig, short what, void *arg)
{
    struct daemon *d = arg;
    (void)sig;
    (void)what;
    d->ops.reload(d->ops.arg);
}

static void on_chld(evutil_socket_t sig, short what, void *arg)
{
    struct daemon *d = arg;
    (void)sig;
    (void)what;
    d->ops.child_ended(d->ops.arg);
}

static struct event *add(struct daemon *d, int fd, short what, event_callback_fn fn)
{
    struct event *ev = event_new(d->base, fd, what | EV_PERSIST, fn, d);
    event_add(ev, NULL);
    return ev;
}

struct daemon *daemon_new(struct event_base *base, bool supervised, const struct daemon_ops *ops)
{
    struct daemon *d = xcalloc(1, sizeof *d);
    d->base = base;
    d->ops = *ops;
    d->term = add(d, SIGTERM, EV_SIGNAL, on_term);
    d->interrupt = add(d, SIGINT, EV_SIGNAL, on_term);
    d->hup = add(d, SIGHUP, EV_SIGNAL, on_hup);
    if (ops->child_ended)
        d->chld = add(d, SIGCHLD, EV_SIGNAL, on_chld);
    if (supervised)
        d->leash = add(d, STDIN_FILENO, EV_READ, on_leash);
    return d;
}

void daemon_free(struct daemon *d)
{
    if (!d)
        return;
    struct event *all[] = {d->term, d->interrupt, d->hup, d->chld, d->leash};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i])
            event_free(all[i]);
    free(d);
}
