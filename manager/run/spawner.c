#include "spawner.h"
#include "runner.h"

#include "common/crash.h"
#include "common/fd.h"
#include "common/log.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static void refuse(int conn, char why)
{
    if (send(conn, &why, 1, MSG_NOSIGNAL) < 0) {
        /* the manager went away; it will find the fence missing */
    }
}

static _Noreturn void become_runner(int manager, int spec_fd, int conn, const struct cgroup_host *cg)
{
    AUTO_BUF struct buf text = {0};
    struct run_spec spec;
    struct err e = {0};
    close(manager);
    setsid();
    log_init("simbdp-run");
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
    r = runner_main(&spec, cg, conn, &e);
    if (r < 0)
        log_error("run_not_started", spec.tenant, spec.run_id, "%s", e.msg);
    run_spec_free(&spec);
    exit(r < 0);
}

int spawner_main(int fd, const char *tag)
{
    struct cgroup_host cg;
    cgroup_probe(&cg, tag);
    signal(SIGCHLD, SIG_IGN); /* runners are not waited for: their result files speak */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_IGN); /* a terminal's ^C is for `mysimbdp up` to act on */
    signal(SIGHUP, SIG_IGN);
    for (;;) {
        char byte;
        int fds[2];
        size_t n_fds = 0;
        ssize_t n = fd_recv(fd, &byte, 1, fds, 2, &n_fds);
        if (n == 0 || (n < 0 && n != -EAGAIN))
            return n < 0; /* the manager ended; runners live on */
        if (n_fds != 2) {
            log_error("spawn_request", NULL, NULL, "a request came with %zu descriptors instead of 2", n_fds);
            for (size_t i = 0; i < n_fds; i++)
                close(fds[i]);
            continue;
        }
        crash_at(CRASH_spawn_fork);
        pid_t pid = fork();
        if (pid == 0)
            become_runner(fd, fds[0], fds[1], &cg);
        if (pid < 0) {
            log_error("fork", NULL, NULL, "cannot fork a runner: %s", strerror(errno));
            refuse(fds[1], RUN_SAID_NO_FORK);
        }
        close(fds[0]);
        close(fds[1]);
    }
}
