#include "isolate.h"
#include "netns.h"
#include "sandbox/confine.h"
#include "title.h"
#include "view.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct {
    const char *name;
    unsigned long flag;
} spaces[ISOLATE_N_SPACES] = {{"mnt", CLONE_NEWNS}, {"ipc", CLONE_NEWIPC}, {"uts", CLONE_NEWUTS}, {"cgroup", CLONE_NEWCGROUP}};

unsigned long isolate_clone_flags(bool prepared)
{
    unsigned long flags = CLONE_NEWPID;
    for (size_t i = 0; i < ISOLATE_N_SPACES && !prepared; i++)
        flags |= spaces[i].flag;
    return flags & ~(unsigned long)CLONE_NEWCGROUP; /* its root is to be the run's cgroup, which is entered later */
}

/* A helper process in which namespaces are made; their descriptors keep them when it is gone. */
static _Noreturn void make_spaces(int ready, const char *home)
{
    char what[120] = "";
    int r = netns_new();
    if (r == 0)
        r = view_prepare(home, what, sizeof what);
    if (write(ready, r < 0 ? "-" : "+", 1) < 0)
        _exit(1);
    for (;;)
        pause(); /* until we are killed */
}

static int open_space(pid_t pid, const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)pid, name);
    return open(path, O_RDONLY | O_CLOEXEC); /* lint: the kernel's */
}

bool isolate_prepare(struct isolate_spaces *ret, const char *home)
{
    struct clone_args args = {.flags = isolate_clone_flags(false) & ~(unsigned long)CLONE_NEWPID, .exit_signal = SIGCHLD};
    int ready[2];
    char said = '-';
    ret->network = -1;
    for (size_t i = 0; i < ISOLATE_N_SPACES; i++)
        ret->fd[i] = -1;
    if (pipe2(ready, O_CLOEXEC) < 0)
        return false;
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0)
        make_spaces(ready[1], home);
    close(ready[1]);
    bool made = pid > 0 && read(ready[0], &said, 1) == 1 && said == '+';
    close(ready[0]);
    for (size_t i = 0; made && i < ISOLATE_N_SPACES; i++)
        made = (ret->fd[i] = open_space(pid, spaces[i].name)) >= 0;
    made = made && (ret->network = open_space(pid, "net")) >= 0;
    if (pid > 0) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    if (!made)
        isolate_release(ret);
    return made;
}

void isolate_release(struct isolate_spaces *s)
{
    for (size_t i = 0; i < ISOLATE_N_SPACES; i++)
        if (s->fd[i] >= 0)
            close(fd_take(&s->fd[i]));
    if (s->network >= 0)
        close(fd_take(&s->network));
}

/* From here on only the status pipe is needed. The tenant cannot reach this process: pid 1 takes no signal from within its
 * namespace, and another uid cannot trace it. */
static void become_nobody(int status_fd)
{
    if (dup2(status_fd, 0) < 0)
        _exit(127);
    close_range(1, ~0u, 0);
    confine_keep(CAP_KILL);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    prctl(PR_SET_NAME, "simbdp-init", 0, 0, 0);
    title_set(TITLE_INIT);
}

static void on_end_order(int sig)
{
    int was = errno; /* whoever is interrupted looks at it: reap_until would take ESRCH for the end */
    (void)sig;
    kill(-1, SIGKILL);
    errno = was;
}

/* Reaps everything before it ends: CPU time of what the kernel kills along with pid 1 would not be counted as the run's. */
static _Noreturn void reap_until(pid_t main)
{
    int status = 0, other;
    for (pid_t pid; (pid = waitpid(-1, &other, 0)) != main && (pid > 0 || errno == EINTR);) {
    }
    status = other;
    kill(-1, SIGKILL);
    while (waitpid(-1, &other, 0) > 0 || errno == EINTR) {
    }
    ssize_t n = write(0, &status, sizeof status);
    _exit(n < 0);
}

static int join_cgroups(const struct child_plan *c)
{
    for (int k = 0; k < CGROUP_N_KINDS; k++)
        if (c->procs[k] >= 0 && write(c->procs[k], "0", 1) < 0)
            return -errno;
    return 0;
}

static int make_view(const struct isolate_plan *p, struct child_failure *f)
{
    const struct run_spec *s = p->child->spec;
    struct view_sources from;
    f->stage = CHILD_VIEW;
    int r = view_open(&from, s, p->child->scratch, f->what, sizeof f->what);
    for (size_t i = 0; r == 0 && p->spaces && i < ISOLATE_N_SPACES; i++)
        if (setns(p->spaces->fd[i], (int)spaces[i].flag) < 0)
            r = -errno;
    if (r == 0 && p->network >= 0 && setns(p->network, CLONE_NEWNET) < 0)
        r = -errno;
    if (r == 0 && !p->spaces)
        r = view_prepare(s->home, f->what, sizeof f->what);
    if (r == 0)
        r = view_finish(&from, s, f->what, sizeof f->what);
    view_close(&from);
    if (r == 0 && sethostname(s->tenant, strlen(s->tenant)) < 0)
        r = -errno;
    return r;
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
    if (r == 0)
        r = make_view(p, &f);
    for (int k = 0; k < CGROUP_N_KINDS; k++)
        c.procs[k] = -1; /* children are born there */
    pid_t main = r < 0 ? -1 : fork();
    if (main == 0)
        child_exec(&c);
    if (main < 0) {
        f.err_no = r < 0 ? -r : errno;
        ssize_t n = write(c.report_fd, &f, sizeof f);
        _exit(n < 0 ? 126 : 127);
    }
    signal(ISOLATE_END_SIGNAL, on_end_order);
    become_nobody(p->status_fd);
    reap_until(main);
}
