#include "isolate.h"
#include "confine.h"
#include "view.h"

#include <errno.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

unsigned long isolate_clone_flags(const struct run_spec *s)
{
    (void)s;
    return CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS;
}

/* Nothing of ours but the status is needed from here on, and nothing of a tenant's reaches us: pid 1 takes no signal from within
 * its namespace, and others' uids cannot trace us. */
static void become_nobody(int status_fd)
{
    if (dup2(status_fd, 0) < 0)
        _exit(127);
    close_range(1, ~0u, 0);
    confine_capabilities();
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    prctl(PR_SET_NAME, "simbdp-init", 0, 0, 0);
}

static _Noreturn void reap_until(pid_t main)
{
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, 0);
        if (pid == main || (pid < 0 && errno == ECHILD)) {
            ssize_t n = pid == main ? write(0, &status, sizeof status) : 0;
            _exit(n < 0);
        }
    }
}

static int join_cgroups(const struct child_plan *c)
{
    for (int k = 0; k < CGROUP_N_KINDS; k++)
        if (c->procs[k] >= 0 && write(c->procs[k], "0", 1) < 0)
            return -errno;
    return 0;
}

_Noreturn void isolate_init(const struct isolate_plan *p)
{
    struct child_plan c = *p->child;
    struct child_failure f = {.stage = CHILD_CGROUP};
    sigset_t none;
    sigemptyset(&none);
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int r = join_cgroups(&c);
    if (r == 0) {
        f.stage = CHILD_VIEW;
        r = sethostname(c.spec->tenant, strlen(c.spec->tenant)) < 0 ? -errno : view_build(c.spec, f.what, sizeof f.what);
    }
    for (int k = 0; k < CGROUP_N_KINDS; k++)
        c.procs[k] = -1; /* children are born there */
    pid_t main = r < 0 ? -1 : fork();
    if (main == 0)
        child_exec(&c);
    if (main < 0) {
        f.err_no = r < 0 ? -r : errno;
        r = (int)write(c.report_fd, &f, sizeof f);
        _exit(127);
    }
    become_nobody(p->status_fd);
    reap_until(main);
}
