#include "child.h"
#include "sandbox/confine.h"
#include "sandbox/seccomp_install.h"
#include "view.h"

#include "base/crash.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static _Noreturn void fail(int report, enum child_stage stage)
{
    struct child_failure f = {.stage = stage, .err_no = errno};
    if (write(report, &f, sizeof f) < 0) {
    }
    _exit(127);
}

static int set_limit(int resource, int64_t soft, int64_t hard)
{
    if (soft < 0)
        return 0;
    struct rlimit now, l = {(rlim_t)soft, (rlim_t)hard};
    if (getrlimit(resource, &now) < 0)
        return -1;
    /* Without privilege the hard limit cannot rise; what is already tighter stays so. */
    if (now.rlim_max != RLIM_INFINITY && l.rlim_max > now.rlim_max)
        l.rlim_max = now.rlim_max;
    if (l.rlim_cur > l.rlim_max)
        l.rlim_cur = l.rlim_max;
    return setrlimit(resource, &l);
}

static int set_limits(const struct run_spec *s)
{
    return set_limit(RLIMIT_CPU, s->cpu_s, s->cpu_s + 2) || set_limit(RLIMIT_AS, s->as_bytes, s->as_bytes) ||
           set_limit(RLIMIT_NOFILE, s->nofile, s->nofile) || set_limit(RLIMIT_NPROC, s->nproc, s->nproc) ||
           set_limit(RLIMIT_FSIZE, s->fsize_bytes, s->fsize_bytes) || set_limit(RLIMIT_CORE, s->core_bytes, s->core_bytes) ||
           set_limit(RLIMIT_STACK, s->stack_bytes, s->stack_bytes);
}

static int set_identity(const struct run_spec *s)
{
    if (s->gid >= 0 && (setgroups(0, NULL) < 0 || setresgid((gid_t)s->gid, (gid_t)s->gid, (gid_t)s->gid) < 0))
        return -1;
    if (s->uid >= 0 && setresuid((uid_t)s->uid, (uid_t)s->uid, (uid_t)s->uid) < 0)
        return -1;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static int set_errno(int r)
{
    errno = -r;
    return r;
}

/* Landlock, on top of the view: either wall would be enough, and one of them may have a hole. */
static int close_files(const struct run_spec *s)
{
    enum { MAX_WRITABLE = 80 };
    const char *writable[MAX_WRITABLE];
    size_t n = 0;
    while (n < MAX_WRITABLE && (writable[n] = view_writable(s, n)))
        n++;
    return set_errno(confine_files(writable, n));
}

static void reset_signals(void)
{
    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Lifts the descriptor out of 0..9, where the standard ones go, keeping it close-on-exec. */
static int lift(int fd)
{
    return fd < 0 ? fd : fcntl(fd, F_DUPFD_CLOEXEC, 10);
}

_Noreturn void child_exec(const struct child_plan *p)
{
    int report = lift(p->report_fd), exec_fd = lift(p->exec_fd);
    int in = lift(p->in), out = lift(p->out), err = lift(p->err);
    if (report < 0)
        _exit(127);
    reset_signals();
    setsid();
    for (int k = 0; k < CGROUP_N_KINDS; k++)
        if (p->procs[k] >= 0 && write(p->procs[k], "0", 1) < 0)
            fail(report, CHILD_CGROUP);
    if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0)
        fail(report, CHILD_DESCRIPTORS);
    if (p->spec->full_isolation && close_files(p->spec) < 0) /* while descriptors can still be opened */
        fail(report, CHILD_CONFINE);
    if (set_limits(p->spec))
        fail(report, CHILD_LIMITS);
    if (chdir(p->dir) < 0)
        fail(report, CHILD_DIRECTORY);
    if (set_errno(confine_keyring()) < 0 || (geteuid() == 0 && set_errno(confine_capabilities()) < 0))
        fail(report, CHILD_CONFINE);
    if (set_identity(p->spec) < 0)
        fail(report, CHILD_IDENTITY);
    if (access(p->dir, X_OK) < 0) /* being in it is not enough: the app is told its files by path */
        fail(report, CHILD_REACH);
    umask(0027);
    /* Everything else is close-on-exec already; this holds even if one descriptor were not. */
    if (close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) < 0 && errno != ENOSYS)
        fail(report, CHILD_DESCRIPTORS);
    crash_at(CRASH_run_exec);
    if (p->spec->full_isolation && set_errno(seccomp_install()) < 0)
        fail(report, CHILD_CONFINE);
    if (exec_fd >= 0)
        syscall(SYS_execveat, exec_fd, "", p->argv, p->envp, AT_EMPTY_PATH);
    else
        execve(p->spec->exec, p->argv, p->envp);
    fail(report, CHILD_EXEC);
}

const char *child_stage_name(int stage)
{
    static const char *const names[] = {
        "joining its cgroup",
        "making its view of the file system",
        "setting its limits",
        "taking the tenant's identity",
        "reaching its directory",
        "confining it",
        "arranging descriptors",
        "entering its directory",
        "exec",
    };
    return stage >= 0 && stage <= CHILD_EXEC ? names[stage] : "set-up";
}
