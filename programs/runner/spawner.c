#include "spawner.h"
#include "runner.h"
#include "title.h"

#include "base/crash.h"
#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { IDLE_MS = 5 };

static void refuse(int conn, char why)
{
    if (send(conn, &why, 1, MSG_NOSIGNAL) < 0) {
        /* the manager went away; it will find the fence missing */
    }
}

static _Noreturn void become_runner(int spec_fd, int conn, const struct cgroup_host *cg, struct runner_ahead *ahead)
{
    AUTO_BUF struct buf text = {0};
    struct run_spec spec;
    struct err e = {0};
    lseek(spec_fd, 0, SEEK_SET);
    int r = fd_read_all(spec_fd, &text, RUN_MAX_SPEC_BYTES);
    close(spec_fd);
    if (r == 0)
        r = run_spec_parse(text.p, text.n, &spec, &e);
    buf_fini(&text);
    if (r < 0) {
        log_error("spec", NULL, NULL, "%s", e.msg);
        refuse(conn, RUN_SAID_REFUSED);
        _exit(1);
    }
    r = runner_main(&spec, cg, conn, ahead, &e);
    if (r < 0)
        log_error("run_not_started", spec.tenant, spec.run_id, "%s", e.msg);
    run_spec_free(&spec);
    exit(r < 0);
}

static void detach(void)
{
    setsid();
    log_init("simbdp-run");
}

/* ---- a runner ahead of its run: what takes long is done by then (lib/host/cgroup.h, isolate.h) ---- */

struct standby {
    int fd; /* -1: none */
    pid_t pid;
};

struct host {
    struct cgroup_host cg;
    const char *home;
};

static const char standby_prefix[] = "standby-";

static _Noreturn void stand_by(int fd, const struct host *h)
{
    char name[64], byte;
    int fds[2];
    size_t n_fds = 0;
    struct err e = {0};
    struct runner_ahead ahead = {0};
    detach();
    signal(SIGCHLD, SIG_DFL);
    title_set(TITLE_STANDBY);
    snprintf(name, sizeof name, "%s%d", standby_prefix, (int)getpid());
    if (cgroup_must_move(&h->cg) && cgroup_enter(&h->cg, name, &e) == 0)
        ahead.cgroups = name;
    ahead.has_spaces = geteuid() == 0 && isolate_prepare(&ahead.spaces, h->home);
    ssize_t n = fd_recv(fd, &byte, 1, fds, 2, &n_fds);
    close(fd);
    if (n == 1 && n_fds == 2) {
        title_set(TITLE_RUNNER);
        if (!ahead.cgroups)
            cgroup_leave(&h->cg, name, NULL);
        become_runner(fds[0], fds[1], &h->cg, &ahead);
    }
    cgroup_leave(&h->cg, name, NULL); /* the spawner ended */
    cgroup_remove(&h->cg, name);
    _exit(0);
}

static void prepare(struct standby *s, int manager, const struct host *h)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return;
    pid_t pid = fork();
    if (pid == 0) {
        close(manager);
        close(pair[0]);
        stand_by(pair[1], h);
    }
    close(pair[1]);
    s->fd = pair[0];
    s->pid = pid;
    if (pid < 0)
        close(fd_take(&s->fd));
}

/* False when there is none, or it died. */
static bool hand_over(struct standby *s, const int fds[2])
{
    if (s->fd < 0)
        return false;
    int r = fd_send(s->fd, "r", 1, fds, 2);
    close(fd_take(&s->fd));
    return r == 0;
}

/* Ends the waiting runner. It leaves its cgroups and namespaces first, so that nothing stays behind when the platform is down. */
static void dismiss(struct standby *s)
{
    if (s->fd < 0)
        return;
    close(fd_take(&s->fd));
    while (waitpid(s->pid, NULL, 0) < 0 && errno == EINTR) {
    } /* ECHILD once it has ended, since SIGCHLD is ignored */
}

static void spawn(int manager, const int fds[2], const struct cgroup_host *cg)
{
    pid_t pid = fork();
    if (pid == 0) {
        close(manager);
        detach();
        become_runner(fds[0], fds[1], cg, NULL);
    }
    if (pid < 0) {
        log_error("fork", NULL, NULL, "cannot fork a runner: %s", strerror(errno));
        refuse(fds[1], RUN_SAID_NO_FORK);
    }
}

int spawner_main(int fd, const char *tag, const char *home)
{
    struct host h = {.home = home};
    struct standby ahead = {-1, 0};
    cgroup_probe(&h.cg, tag);
    cgroup_sweep(&h.cg, standby_prefix);
    bool worth_it = cgroup_must_move(&h.cg) || geteuid() == 0;
    signal(SIGCHLD, SIG_IGN); /* runners are not waited for: their result files speak */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_IGN); /* a terminal's ^C is for `mysimbdp up` to act on */
    signal(SIGHUP, SIG_IGN);
    for (;;) {
        struct pollfd p = {fd, POLLIN, 0};
        char byte;
        int fds[2];
        size_t n_fds = 0;
        /* Not in a burst of requests: there entering cgroups is quick, and another process for each run would only cost. */
        if (worth_it && ahead.fd < 0 && poll(&p, 1, IDLE_MS) == 0)
            prepare(&ahead, fd, &h);
        ssize_t n = fd_recv(fd, &byte, 1, fds, 2, &n_fds);
        if (n == 0 || (n < 0 && n != -EAGAIN)) {
            dismiss(&ahead);
            return n < 0; /* the manager ended; runners live on */
        }
        if (n_fds != 2) {
            log_error("spawn_request", NULL, NULL, "a request came with %zu descriptors instead of 2", n_fds);
            for (size_t i = 0; i < n_fds; i++)
                close(fds[i]);
            continue;
        }
        crash_at(CRASH_spawn_fork);
        if (!hand_over(&ahead, fds))
            spawn(fd, fds, &h.cg);
        close(fds[0]);
        close(fds[1]);
    }
}
