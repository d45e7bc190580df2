/* desk: tenants on the provider's machine, by their own uid, ask what became of their files and have them tried again: the verbs
 * files, runs, logs, rejects, retry, agreement, usage and bill of `mysimbdp`. Everybody may connect (desk.sock, 0666); who it is,
 * the kernel says (SO_PEERCRED), and who is no tenant, or a run of one, is told so and no more.
 *
 * Each connection is answered by a process of its own, which is bounded in time, memory and CPU (serve.c) and has a low priority:
 * one that hangs or dies is that tenant's alone. A uid has OF_A_UID of them at most. This process reads nothing that a tenant
 * sent. It keeps the capability that opens files, and no other, and can change what SQLite needs. */
#include "serve.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "db/tenants.h"
#include "loop/daemon.h"
#include "sandbox/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum { AT_ONCE = 128, OF_A_UID = 4, KNOWN_MS = 1000, PAUSE_MS = 100 };

struct desk {
    struct home home;
    int listener, signals;
    sigset_t before; /* what was blocked when it started */
    bool supervised;
    struct tenant_state *tenants; /* as they were at known_ms; 0: never */
    size_t n_tenants;
    int64_t known_ms;
    struct desk_status status;
    struct server {
        pid_t pid; /* 0: a free place */
        uid_t uid;
    } servers[AT_ONCE];
};

/* NULL: no tenant's. */
static const char *tenant_of(struct desk *d, uid_t uid)
{
    struct err e = {0};
    if (!d->known_ms || clk_now_ms() - d->known_ms >= KNOWN_MS) {
        tenant_states_free(d->tenants, d->n_tenants);
        d->tenants = NULL;
        d->n_tenants = 0;
        if (tenant_states(&d->home, &d->tenants, &d->n_tenants, &e) < 0)
            log_error("tenants", NULL, NULL, "%s", e.msg);
        d->known_ms = clk_now_ms();
    }
    for (size_t i = 0; i < d->n_tenants; i++)
        if (d->tenants[i].uid == (int64_t)uid && !d->tenants[i].removed)
            return d->tenants[i].id;
    return NULL;
}

/* A run's processes have the tenant's uid, but a PID namespace of their own. They are not served: what they cause here would be no
 * part of their limits. One that ended is not served either: its connection may have been handed on. */
static bool is_in_a_run(pid_t pid)
{
    AUTO_FREE char *path = xasprintf("/proc/%d/status", (int)pid);
    AUTO_BUF struct buf b = {0};
    if (pid <= 0 || fd_read_file(AT_FDCWD, path, &b, 65536, NULL) < 0)
        return true;
    const char *ids = strstr(b.p, "\nNSpid:\t"); /* its id in each namespace, from ours inwards */
    return !ids || strspn(ids + strlen("\nNSpid:\t"), "0123456789") != strcspn(ids + strlen("\nNSpid:\t"), "\n");
}

/* A free place; NULL: there is none for that uid. */
static struct server *place_for(struct desk *d, uid_t uid)
{
    struct server *place = NULL;
    int n = 0;
    for (size_t i = 0; i < AT_ONCE; i++) {
        n += d->servers[i].pid && d->servers[i].uid == uid;
        if (!d->servers[i].pid)
            place = &d->servers[i];
    }
    return n < OF_A_UID ? place : NULL;
}

static void start_serving(struct desk *d, struct server *place, int fd, uid_t uid, const char *tenant)
{
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        sigprocmask(SIG_SETMASK, &d->before, NULL);
        close(d->listener);
        close(d->signals);
        if (getppid() != parent)
            _exit(0);
        serve(&d->home, fd, tenant);
    }
    if (pid < 0) {
        log_warn("desk", tenant, NULL, "cannot serve: %s", strerror(errno));
        serve_refusal(fd, 503, "busy");
        return;
    }
    *place = (struct server){pid, uid};
    d->status.serving++;
    d->status.served++;
}

/* False: it cannot accept now, and who waits would make it spin. */
static bool take_one(struct desk *d)
{
    struct ucred peer;
    socklen_t n = sizeof peer;
    AUTO_FD int fd = accept4(d->listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return errno == EAGAIN || errno == EINTR || errno == ECONNABORTED;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0)
        return true;
    if (peer.uid == geteuid()) { /* the provider, who has other ways to all else */
        serve_status(fd, &d->status);
        return true;
    }
    const char *tenant = is_in_a_run(peer.pid) ? NULL : tenant_of(d, peer.uid);
    struct server *place = tenant ? place_for(d, peer.uid) : NULL;
    d->status.refused += !place;
    if (!tenant)
        serve_refusal(fd, 403, "stranger");
    else if (!place)
        serve_refusal(fd, 503, "busy");
    else
        start_serving(d, place, fd, peer.uid, tenant);
    return true;
}

static void reap(struct desk *d)
{
    for (pid_t pid; (pid = waitpid(-1, NULL, WNOHANG)) > 0;)
        for (size_t i = 0; i < AT_ONCE; i++)
            if (d->servers[i].pid == pid) {
                d->servers[i].pid = 0;
                d->status.serving--;
            }
}

/* False: it is to end. */
static bool take_signals(struct desk *d)
{
    struct signalfd_siginfo si;
    bool goes_on = true;
    while (read(d->signals, &si, sizeof si) == (ssize_t)sizeof si)
        goes_on = goes_on && (si.ssi_signo == SIGCHLD || si.ssi_signo == SIGHUP); /* it reads no configuration */
    reap(d);
    return goes_on;
}

static void work(struct desk *d)
{
    for (bool goes_on = true, pause = false; goes_on;) {
        char byte;
        struct pollfd p[] = {{d->signals, POLLIN, 0}, {pause ? -1 : d->listener, POLLIN, 0}, {d->supervised ? 0 : -1, POLLIN, 0}};
        poll(p, 3, pause ? PAUSE_MS : -1);
        pause = p[1].revents && !take_one(d);
        if (p[0].revents)
            goes_on = take_signals(d);
        if (p[2].revents && read(STDIN_FILENO, &byte, 1) <= 0)
            goes_on = false; /* `up` ended without a word */
    }
    for (size_t i = 0; i < AT_ONCE; i++)
        if (d->servers[i].pid) {
            kill(d->servers[i].pid, SIGKILL); /* not reaped, so the pid is still its own */
            waitpid(d->servers[i].pid, NULL, 0);
        }
}

static int start(struct desk *d, struct err *e)
{
    AUTO_FREE char *path = home_socket(&d->home, "desk.sock"), *state = home_path(&d->home, "state");
    const char *const writable[] = {state /* SQLite's */, "/dev/null"};
    static const int signals[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP};
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        sigaddset(&set, signals[i]);
    sigprocmask(SIG_BLOCK, &set, &d->before);
    d->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    d->listener = fd_unix_listen(path, 0666);
    if (d->signals < 0 || d->listener < 0)
        return err_sys(e, d->listener < 0 ? d->listener : -errno, "cannot listen on %s", path);
    int r = confine_program(&(struct confinement){home_is_roots(&d->home), -1, CAP_DAC_OVERRIDE, writable, 2});
    return r < 0 ? err_sys(e, r, "cannot give up rights") : 0;
}

static const char usage[] = "usage: desk [--supervised] --home HOME\n"
                            "Answers tenants on this machine, who are known by their uid. `mysimbdp up` starts it.\n"
                            "--supervised: also end when stdin closes. SIGTERM: end.\n"
                            "Exit: 0 stopped, 1 could not start (the log says why), 2 usage.\n";

int main(int argc, char **argv)
{
    static struct desk d = {.listener = -1, .signals = -1};
    struct err e = {0};
    const char *home;
    daemon_prepare("desk");
    d.status.started_wall_ms = clk_wall_ms();
    d.supervised = daemon_take_args(&argc, argv, usage, &home);
    if (argc != 1)
        return fputs(usage, stderr), 2;
    int r = home_enter(&d.home, home, &e), lock = r < 0 ? r : home_lock(&d.home, "desk", 0, &e);
    r = lock < 0 ? lock : start(&d, &e);
    if (r < 0) {
        log_error("start", NULL, NULL, "%s", e.msg);
    } else {
        log_info("ready", NULL, NULL, "home %s", d.home.path);
        work(&d);
    }
    tenant_states_free(d.tenants, d.n_tenants);
    fd_cleanup(&lock);
    fd_cleanup(&d.listener);
    fd_cleanup(&d.signals);
    home_close(&d.home);
    return r < 0;
}
