#include "start.h"
#include "view.h"

#include "base/beneath.h"
#include "base/clk.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/mem.h"
#include "host/app_version.h"
#include "host/version_use.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    RESULT_RESERVE_BYTES = 4096, /* a result without what the app says of itself; freeing more would cost a discard a run */
    SECRET_MAX_BYTES = 1 << 20,
};

static int give_dir(struct runner *r, int dirfd, const char *name, struct err *e)
{
    if (mkdirat(dirfd, name, 0700) < 0)
        return err_sys(e, -errno, "cannot make %s/%s", r->spec->dir, name);
    int n = r->spec->uid >= 0 ? beneath_own_dir(dirfd, name, r->spec->uid, r->spec->gid, 0700) : 0;
    if (n < 0)
        return err_sys(e, n, "cannot give %s/%s to the tenant", r->spec->dir, name);
    return 0;
}

/* The working directory. One in memory is never attached to the host's tree: the kernel frees it when neither runner nor run has it
 * open any more. */
static int give_app(struct runner *r, struct err *e)
{
    char what[120] = "";
    int n = give_dir(r, r->dirfd, "app", e);
    if (n == 0 && r->spec->scratch_in_memory && (n = view_scratch(r->spec, &r->app, what, sizeof what)) < 0)
        return err_sys(e, n, "cannot make the working directory in memory: %s", what);
    if (n == 0 && !r->spec->scratch_in_memory &&
        (r->app = openat(r->dirfd, "app", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
        return err_sys(e, -errno, "cannot open %s/app", r->spec->dir);
    return n == 0 && r->spec->output == RUN_OUTPUT_dir ? give_dir(r, r->app, "out", e) : n;
}

/* Copied rather than linked or named: the tenant's uid cannot reach where they come from, and they end with the step. */
static int copy_secret(struct runner *r, int dir, const struct run_pair *secret, struct err *e)
{
    const struct run_spec *s = r->spec;
    AUTO_BUF struct buf text = {0};
    int n = fd_read_file(AT_FDCWD, secret->value, &text, SECRET_MAX_BYTES, e);
    if (n < 0) {
        err_context(e, "cannot read the secret \"%s\"", secret->name);
        return n;
    }
    AUTO_FD int fd = openat(dir, secret->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0400);
    n = fd < 0 ? -errno : fd_write_all(fd, text.p, text.n);
    if (n == 0 && s->uid >= 0 && fchown(fd, (uid_t)s->uid, (gid_t)s->gid) < 0)
        n = -errno;
    if (text.p)
        explicit_bzero(text.p, text.n);
    return n < 0 ? err_sys(e, n, "cannot write %s/secrets/%s", s->dir, secret->name) : 0;
}

int start_secrets(struct runner *r, struct err *e)
{
    const struct run_spec *s = r->spec;
    if (!s->secrets.n)
        return 0;
    int n = give_dir(r, r->dirfd, "secrets", e);
    AUTO_FD int dir = n < 0 ? -1 : openat(r->dirfd, "secrets", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (n == 0 && dir < 0)
        n = err_sys(e, -errno, "cannot open %s/secrets", s->dir);
    for (size_t i = 0; n == 0 && i < s->secrets.n; i++)
        n = copy_secret(r, dir, &s->secrets.v[i], e);
    return n;
}

int start_files(struct runner *r, struct err *e)
{
    const struct run_spec *s = r->spec;
    for (size_t i = 0; i < s->files.n; i++) {
        const char *name = s->files.v[i].name, *text = s->files.v[i].value;
        AUTO_FD int fd = openat(r->dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0440);
        int n = fd < 0 ? -errno : fd_write_all(fd, text, strlen(text));
        if (n == 0 && s->gid >= 0 && fchown(fd, (uid_t)-1, (gid_t)s->gid) < 0)
            n = -errno;
        if (n < 0)
            return err_sys(e, n, "cannot write %s/%s", s->dir, name);
    }
    int n = give_app(r, e);
    if (n < 0)
        return n;
    n = capture_open(&r->log, r->dirfd, "log", s->output_bytes, true, 0640);
    if (n < 0)
        return err_sys(e, n, "cannot write %s/log", s->dir);
    r->collects = s->output == RUN_OUTPUT_stdout;
    if (r->collects || s->output == RUN_OUTPUT_dir) {
        if (mkdirat(r->dirfd, "output.part", 0750) < 0 ||
            (s->gid >= 0 && fchownat(r->dirfd, "output.part", (uid_t)-1, (gid_t)s->gid, AT_SYMLINK_NOFOLLOW) < 0)) /* lint: ours */
            return err_sys(e, -errno, "cannot make %s/output.part", s->dir);
    }
    if (r->collects && (n = capture_open(&r->collected, r->dirfd, "output.part/stdout", s->output_bytes, false, 0440)) < 0)
        return err_sys(e, n, "cannot write %s/output.part/stdout", s->dir);
    if (r->collects && s->gid >= 0 && fchown(r->collected.fd, (uid_t)-1, (gid_t)s->gid) < 0)
        return err_sys(e, -errno, "cannot give %s/output.part/stdout to the tenant's group", s->dir);
    /* The result must be writable even when the disk is full by then. */
    r->result_fd = openat(r->dirfd, "result.json.tmp", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    n = r->result_fd < 0 ? -errno : -posix_fallocate(r->result_fd, 0, RESULT_RESERVE_BYTES);
    if (n < 0 && n != -EOPNOTSUPP)
        return err_sys(e, n, "cannot reserve space for %s/result.json", s->dir);
    crash_at(CRASH_run_files);
    return 0;
}

static char **make_argv(const struct run_spec *s)
{
    char **v = xcalloc(s->args.n + 2, sizeof *v);
    v[0] = s->exec;
    for (size_t i = 0; i < s->args.n; i++)
        v[i + 1] = s->args.v[i];
    return v;
}

static char **make_envp(const struct run_spec *s) /* ends with NULL */
{
    char **v = xcalloc(s->env.n + 1, sizeof *v);
    for (size_t i = 0; i < s->env.n; i++)
        v[i] = xasprintf("%s=%s", s->env.v[i].name, s->env.v[i].value);
    return v;
}

/* fork() with flags of clone3, for a child that is born in the cgroup: nothing has to move. */
static pid_t fork_with(unsigned long flags, int cgroup)
{
    struct clone_args args = {.flags = flags | CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = (uint64_t)cgroup};
    return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

struct cgroup_limits start_limits(const struct run_spec *s)
{
    int64_t ours = s->full_isolation + s->own_network; /* the run's init and its relay, which are not the tenant's */
    return (struct cgroup_limits){s->cg_cpu_pct, s->cg_memory_bytes, s->cg_pids < 0 ? -1 : s->cg_pids + ours};
}

/* When the host has no memory left, the kernel looks for what to kill, and a tenant's run is to be found before a program of the
 * platform (proc(5): -1000 to 1000 thousandths of the memory). Its processes inherit it, and may not lower it. A host that does not
 * let us loses no more than that. */
static void be_killed_first(void)
{
    AUTO_FD int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC); /* lint: ours */
    if (fd < 0 || write(fd, "500", 3) < 0) {
    }
}

/* The child's side: from here on it is the run's init, or the app itself. */
static _Noreturn void become_run(struct runner *r, struct child_plan *c, int status_fd, bool born_there)
{
    for (int k = 0; born_there && k < CGROUP_N_KINDS; k++)
        if (r->cg->v2[k])
            c->procs[k] = -1;
    be_killed_first();
    if (r->spec->full_isolation)
        isolate_init(&(struct isolate_plan){c, r->spaces, r->relay.space, status_fd});
    child_exec(c);
}

static int fork_run(struct runner *r, struct child_plan *c, int status_fd, int tree, struct err *e)
{
    unsigned long flags = r->spec->full_isolation ? isolate_clone_flags(r->spaces) : 0;
    r->pid = tree < 0 ? -1 : fork_with(flags, tree);
    if (r->pid == 0)
        become_run(r, c, status_fd, true);
    /* Kernels before 5.7 have no CLONE_INTO_CGROUP; nobody moves when we went ahead, so that there is no other way then. */
    if (r->pid < 0 && (tree < 0 || !r->ahead)) {
        struct clone_args args = {.flags = flags, .exit_signal = SIGCHLD};
        r->pid = flags ? (pid_t)syscall(SYS_clone3, &args, sizeof args) : fork();
        if (r->pid == 0)
            become_run(r, c, status_fd, false);
    }
    return r->pid < 0 ? err_sys(e, -errno, "cannot fork the run's first process") : 0;
}

/* In the run's network, out of which only our relay leads. */
static int fork_in_network(struct runner *r, struct child_plan *c, int status_fd, int tree, struct err *e)
{
    char what[120] = "";
    int n = run_relay_enter_network(&r->relay, r->spec, r->spaces ? r->spaces->network : -1, r->dirfd, what, sizeof what);
    if (n == 0)
        n = fork_run(r, c, status_fd, tree, e);
    else
        n = err_sys(e, n, "cannot make the run's network%s%s", *what ? ": " : "", what);
    run_relay_return(&r->relay);
    return n;
}

/* Ends of the pipes between the run and us; closed again as far as they are not taken. */
struct run_pipes {
    int out[2], err[2], report[2], status[2];
};

static int open_pipes(struct run_pipes *p, bool status, struct err *e)
{
    if (pipe2(p->out, O_CLOEXEC) < 0 || pipe2(p->err, O_CLOEXEC) < 0 || pipe2(p->report, O_CLOEXEC) < 0 ||
        (status && pipe2(p->status, O_CLOEXEC | O_NONBLOCK) < 0))
        return err_sys(e, -errno, "cannot make pipes");
    return 0;
}

static void close_pipes(const struct run_pipes *p)
{
    const int all[] = {p->out[0], p->out[1], p->err[0], p->err[1], p->report[0], p->report[1], p->status[0], p->status[1]};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i] >= 0)
            close(all[i]);
}
#define AUTO_PIPES __attribute__((cleanup(close_pipes)))

static void free_list(char **v)
{
    for (char **at = v; *at; at++)
        free(*at);
    free(v);
}

/* Forks the run in its cgroup and learns whether exec came about. */
static int launch(struct runner *r, struct child_plan *c, struct run_pipes *p, struct err *e)
{
    struct cgroup_limits limits = start_limits(r->spec);
    AUTO_FD int tree = -1;
    int n = r->ahead ? cgroup_adopt(r->cg, r->ahead, r->spec->claim, &limits, &tree, e)
                     : cgroup_make(r->cg, r->spec->claim, &limits, c->procs, &tree, e);
    if (n < 0)
        return n;
    r->started_ms = clk_now_ms();
    r->started_wall_ms = clk_wall_ms();
    crash_at(CRASH_run_fork);
    n = r->spec->own_network ? fork_in_network(r, c, p->status[1], tree, e) : fork_run(r, c, p->status[1], tree, e);
    if (n == 0)
        n = cgroup_limit_cpu(r->cg, r->spec->claim, &limits, e);
    for (int k = 0; k < CGROUP_N_KINDS; k++)
        if (c->procs[k] >= 0)
            close(c->procs[k]);
    int *ours[] = {&p->out[1], &p->err[1], &p->report[1], &p->status[1]};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (*ours[i] >= 0)
            close(fd_take(ours[i]));
    if (n == 0 && read(p->report[0], &r->failure, sizeof r->failure) == (ssize_t)sizeof r->failure)
        r->evidence.exec_errno = r->failure.err_no;
    return n;
}

static int hold_image(struct runner *r, struct err *e)
{
    const char *path = r->spec->image;
    if (!*path)
        return 0;
    r->image = beneath_root(path, O_RDONLY | O_DIRECTORY);
    if (r->image < 0)
        return err_sys(e, r->image, "cannot open the image %s", path);
    return flock(r->image, LOCK_SH | LOCK_NB) < 0 ? err_sys(e, -errno, "cannot lock the image %s", path) : 0;
}

/* What lies beside the executable may be read at any time until the run has ended. One that cannot be held was removed, or is just
 * being: the run was decided on before another one was activated, and is tried again with that. */
static int hold_version(struct runner *r, struct err *e)
{
    const struct run_spec *s = r->spec;
    if (!app_version_valid(s->version)) /* none; or what is active cannot be read: then what cannot be executed parks the app */
        return 0;
    AUTO_FD int home = open(s->home, O_PATH | O_DIRECTORY | O_CLOEXEC); /* lint: ours */
    r->version = home < 0 ? -errno : version_use_hold(home, s->tenant, s->app, s->version, r->lock);
    return r->version < 0 ? err_sys(e, r->version, "cannot hold version %s of the app, which may have been deleted", s->version)
                          : 0;
}

int start_app(struct runner *r, struct err *e)
{
    const struct run_spec *s = r->spec;
    AUTO_PIPES struct run_pipes p = {{-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}};
    AUTO_FREE char *dir = xasprintf("%s/app", s->dir);
    struct child_plan plan = {.spec = s, .exec_fd = -1, .scratch = -1, .dir = dir};
    /* The manager may write below work/: a link of its must not lead the runner elsewhere. */
    AUTO_FD int in = beneath_root(*s->stdin_path ? s->stdin_path : "/dev/null", O_RDONLY);
    if (in < 0)
        return err_sys(e, in, "cannot open %s", s->stdin_path);
    int n = hold_image(r, e);
    if (n == 0)
        n = hold_version(r, e);
    if (n == 0)
        n = open_pipes(&p, s->full_isolation, e);
    if (n < 0)
        return n;
    AUTO_FD int exec_fd = s->builtin ? open(s->exec, O_RDONLY | O_CLOEXEC) : -1; /* lint: ours */
    if (s->builtin && exec_fd < 0)
        return err_sys(e, -errno, "cannot open the platform's own %s", s->exec);
    for (int k = 0; k < CGROUP_N_KINDS; k++)
        plan.procs[k] = -1;
    plan.argv = make_argv(s);
    plan.envp = make_envp(s);
    plan.exec_fd = exec_fd;
    plan.scratch = s->scratch_in_memory ? r->app : -1;
    plan.in = in;
    plan.out = r->collects ? p.out[1] : p.err[1];
    plan.err = p.err[1];
    plan.report_fd = p.report[1];
    n = launch(r, &plan, &p, e);
    free_list(plan.envp);
    free(plan.argv);
    r->out = fd_take(&p.out[0]);
    r->err = fd_take(&p.err[0]);
    r->status = fd_take(&p.status[0]);
    fd_set_nonblock(r->out);
    fd_set_nonblock(r->err);
    return n;
}
