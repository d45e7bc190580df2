/* The life of a run's step, and what survives a crash at each point:
 *
 *   lock     <runtime>/<claim>.lock is flocked: held means "a runner is alive". Released by the kernel with the process.
 *   fence    mkdir <dir>; EEXIST means that another runner or a recovering manager was first, and nothing is started.
 *   files    the spec's files, app/, the log, and result.json.tmp with its space reserved.
 *   fork     the app, in its cgroup, session and identity; exec failures come back with stage and errno.
 *   end      the main process ended, or wall clock, output cap or a stop order ended it: the whole tree is killed, and
 *            only when the cgroup is empty and no child is left the step counts as over.
 *   output   what an output mode collected gets its final name: only complete output has it.
 *   result   result.json.tmp is written and renamed to result.json: from here on the step's end survives its runner
 *            (and, where output is kept, a power cut: then it is fsynced).
 *   told     the manager is told, and told again whenever one connects, until it acknowledges. Then lock, socket and
 *            cgroup go.
 *
 * A runner that dies before `result` leaves a fence without lock and result: the next manager ends what is left of the
 * tree (by cgroup, else by run id in the environment) and calls the run lost. */
#include "runner.h"
#include "start.h"
#include "take.h"

#include "base/clk.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "host/reach.h"
#include "run/script.h"
#include "run/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    KILL_TICK_MS = 20,
    INIT_TICKS = 15, /* so long the run's init may kill, since what it reaps is counted; its group may be out of CPU time */
    LEAVE_MS = 50,   /* short runs are over by then and never pay for it */
    HOME_CHECK_MS = 10000,
    LOCK_TRIES = 100,
    LOCK_RETRY_MS = 2,
    NOT_FOUND = 127, /* POSIX: a shell, or env, did not find the command */
    N_POLLED = 5,    /* descriptors, beside those of the run's network */
};

static void say(struct runner *r, char what)
{
    r->said = what;
    /* Who does not listen may have given an order before: whoever reads finds out that the channel is closed. */
    if (r->conn >= 0 && send(r->conn, &what, 1, MSG_NOSIGNAL) < 0)
        log_debug("say", r->spec->tenant, r->spec->run_id, "the manager does not listen");
}

static int open_lock(struct runner *r, struct err *e)
{
    AUTO_FREE char *path = xasprintf("%s/%s.lock", r->spec->runtime, r->spec->claim);
    for (int i = 0; i < LOCK_TRIES; i++) {
        struct stat st;
        r->lock = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (r->lock < 0)
            return err_sys(e, -errno, "cannot open %s", path);
        bool taken = flock(r->lock, LOCK_EX | LOCK_NB) == 0;
        if (taken && fstat(r->lock, &st) == 0 && st.st_nlink)
            return 0;
        close(fd_take(&r->lock)); /* whoever clears up what dead runners left has looked at it (lib/run/remains.c) */
        if (!taken)
            poll(NULL, 0, LOCK_RETRY_MS);
    }
    return err_set(e, ERR_REFUSED, "another runner works on %s", r->spec->claim);
}

static int claim(struct runner *r, struct err *e)
{
    const struct run_spec *s = r->spec;
    int n = open_lock(r, e);
    if (n < 0)
        return n;
    /* Below runs/ the manager writes, too: no link of its is followed. (runs/ itself may be the provider's.) */
    const char *slash = strrchr(s->dir, '/');
    AUTO_FREE char *parent = xstrndup(s->dir, slash > s->dir ? (size_t)(slash - s->dir) : 1);
    AUTO_FD int at = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC | (s->step == RUN_STEP_load ? O_NOFOLLOW : 0));
    if (at < 0)
        return err_sys(e, -errno, "cannot open %s", parent);
    if (mkdirat(at, slash + 1, 0711) < 0)
        return errno == EEXIST ? err_set(e, ERR_REFUSED, "%s exists: this run was claimed or cancelled before", s->dir)
                               : err_sys(e, -errno, "cannot make %s", s->dir);
    crash_at(CRASH_run_claim_mkdir);
    r->dirfd = openat(at, slash + 1, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (r->dirfd < 0)
        return err_sys(e, -errno, "cannot open %s", s->dir);
    AUTO_FREE char *sock = xasprintf("%s/%s.sock", s->runtime, s->claim);
    r->listener = fd_unix_listen(sock, 0600);
    if (r->listener < 0)
        return err_sys(e, r->listener, "cannot listen on %s", sock);
    say(r, RUN_SAID_CLAIMED);
    return 0;
}

static const char *exec_hint(const struct run_spec *s, int err_no)
{
    switch (err_no) {
    case ENOENT:
        if (*s->image)
            return "; it, its loader, or the interpreter named in its first line is not in the image";
        if (script_has_crlf(s->exec))
            return "; " SCRIPT_CRLF;
        return access(s->exec, F_OK) == 0 ? "; the interpreter named in its first line, or its loader, does not exist"
                                          : "; copy the executable there";
    case EACCES:
        return "; it must be executable and reachable for the tenant's uid (chmod +x; directories above it need x)";
    case ENOEXEC:
        return "; it is neither a binary for this machine nor a script starting with #!";
    default:
        return "";
    }
}

static void signal_tree(struct runner *r, int sig)
{
    if (cgroup_has_tree(r->cg))
        cgroup_signal(r->cg, r->spec->claim, sig);
    else
        tree_signal(sig);
}

static void begin_kill(struct runner *r)
{
    way_out_stop_relay(&r->out_there);
    if (!r->main_ended)
        r->forced = true;
    r->state = KILLING;
    r->kill_ticks = 0;
}

static void begin_stop(struct runner *r)
{
    if (r->state != RUNNING)
        return;
    signal_tree(r, SIGTERM);
    r->state = STOPPING;
    r->grace_end_ms = clk_now_ms() + r->spec->grace_s * 1000;
}

/* One attempt to end everything. True when the kernel confirms that nothing is left. */
static bool kill_tick(struct runner *r)
{
    bool tree = cgroup_has_tree(r->cg);
    if (r->kill_ticks == 0 && r->main_ended && tree_reap(r->pid, &r->main_ended, &r->evidence.status) &&
        cgroup_is_empty(r->cg, r->spec->claim))
        return true; /* as most runs end: nothing was left behind */
    if (r->status >= 0 && r->kill_ticks < INIT_TICKS && !r->main_ended && kill(r->pid, ISOLATE_END_SIGNAL) == 0) {
        r->kill_ticks++;
        tree_reap(r->pid, &r->main_ended, &r->evidence.status);
        return false;
    }
    if (tree)
        cgroup_kill(r->cg, r->spec->claim);
    if (!tree || r->kill_ticks > 5) {
        tree_signal(SIGSTOP); /* so that a fork bomb cannot outrun the scan */
        tree_signal(SIGKILL);
    }
    if (r->kill_ticks++ == 500)
        log_warn("kill_slow", r->spec->tenant, r->spec->run_id,
                 "processes do not end after SIGKILL for 10 s; the run "
                 "stays running until the kernel says they are gone");
    bool no_child = tree_reap(r->pid, &r->main_ended, &r->evidence.status);
    return no_child && cgroup_is_empty(r->cg, r->spec->claim);
}

/* Reads one pipe; returns false at its end. */
static bool drain(struct runner *r, int *fd, struct capture *to, int max_reads)
{
    static char chunk[65536]; /* on the stack, every runner would have a page behind it, too */
    for (int i = 0; i < max_reads; i++) {
        ssize_t n = read(*fd, chunk, sizeof chunk);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        if (n == 0) {
            close(fd_take(fd));
            return false;
        }
        capture_write(to, chunk, (size_t)n);
        if (to == &r->log)
            tail_add(&r->last_words, chunk, (size_t)n);
        if (to->exceeded && !r->evidence.output_exceeded) {
            r->evidence.output_exceeded = true;
            begin_kill(r);
        }
    }
    return true;
}

static void on_order(struct runner *r)
{
    char order;
    ssize_t n = recv(r->conn, &order, 1, 0);
    if (n <= 0) {
        close(fd_take(&r->conn));
    } else if (order == RUN_ORDER_STOP && (r->state == RUNNING || r->state == STARTING)) {
        r->evidence.stopped = true;
        begin_stop(r);
    }
}

static void on_connect(struct runner *r)
{
    int fd = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    if (r->conn >= 0)
        close(r->conn);
    r->conn = fd;
    say(r, r->said);
}

/* We went into the run's cgroups ahead of it; what we use there should not be the tenant's for long. */
static void leave_cgroups(struct runner *r)
{
    const struct run_spec *s = r->spec;
    struct cgroup_limits limits = start_limits(s);
    if (r->ahead)
        cgroup_leave(r->cg, s->claim, &limits);
    r->ahead = NULL;
}

/* The earlier of two times; a negative one is never. */
static int64_t earlier(int64_t a, int64_t b)
{
    return a < 0 || (b >= 0 && b < a) ? b : a;
}

static int next_timeout(const struct runner *r, int64_t now)
{
    int64_t at = r->deadline_ms;
    if (r->state == KILLING)
        return KILL_TICK_MS;
    if (r->ahead)
        at = earlier(at, r->started_ms + LEAVE_MS);
    if (r->state == STOPPING)
        at = r->grace_end_ms;
    at = earlier(at, r->look_ms);
    if (r->out_there.ns.n && !r->out_there.relay && r->out_there.again_ms > now)
        at = earlier(at, r->out_there.again_ms);
    if (at < 0)
        return HOME_CHECK_MS;
    return at <= now ? 0 : at - now > HOME_CHECK_MS ? HOME_CHECK_MS : (int)(at - now);
}

static void on_sigchld(struct runner *r)
{
    struct signalfd_siginfo si[8];
    bool stop = false;
    for (ssize_t n; (n = read(r->sigfd, si, sizeof si)) > 0;)
        for (size_t i = 0; i < (size_t)n / sizeof *si; i++)
            stop |= si[i].ssi_signo == SIGTERM;
    way_out_reap(&r->out_there, clk_now_ms());
    tree_reap(r->pid, &r->main_ended, &r->evidence.status);
    if (r->main_ended && r->state != KILLING)
        begin_kill(r);
    if (stop && r->state == RUNNING) {
        r->evidence.stopped = true;
        begin_stop(r);
    }
}

/* Only a tenant of its own uid is told from others here. */
static enum run_limit look_at_held(struct runner *r)
{
    AUTO_BUF struct buf pids = {0};
    if (r->spec->uid < 0 || cgroup_procs(r->cg, r->spec->claim, &pids) < 0)
        return RUN_LIMIT_none;
    return scratch_look_held(&r->scratch, r->dirfd, "log", r->spec->uid, pids.p);
}

/* A tenant that makes looking slow is looked at less often: this is not its own time. */
static void look_at_scratch(struct runner *r)
{
    int64_t before = clk_now_ms();
    r->evidence.scratch = scratch_look(&r->scratch, r->dirfd, "app");
    if (!r->evidence.scratch)
        r->evidence.scratch = look_at_held(r);
    int64_t now = clk_now_ms();
    int64_t ms = scratch_interval_ms(&r->scratch), rest = (now - before) * 20;
    r->look_ms = ms < 0 || r->evidence.scratch ? -1 : now + (rest > ms ? rest : ms);
    if (r->evidence.scratch && r->state != KILLING)
        begin_kill(r);
}

static void on_clock(struct runner *r)
{
    int64_t now = clk_now_ms();
    if (r->look_ms >= 0 && now >= r->look_ms && r->state != KILLING)
        look_at_scratch(r);
    if (r->ahead && now >= r->started_ms + LEAVE_MS)
        leave_cgroups(r);
    if (r->state == RUNNING && r->deadline_ms >= 0 && now >= r->deadline_ms) {
        r->evidence.wall_exceeded = true;
        begin_stop(r);
    } else if (r->state == STOPPING && now >= r->grace_end_ms) {
        begin_kill(r);
    }
}

/* Its time and memory are the run's. */
static void start_relay(struct runner *r)
{
    way_out_start_relay(&r->out_there, r->spec, clk_now_ms());
    if (r->out_there.relay)
        cgroup_join(r->cg, r->spec->claim, r->out_there.relay);
}

/* Whether an app that could not be executed has itself to thank; one that is still being written will be whole in a moment. */
static bool is_apps_own(const struct child_failure *f)
{
    static const int others[] = {ETXTBSY, ENOMEM, EAGAIN, EIO, ENOSPC, EMFILE, ENFILE, EINTR, EDQUOT, ESTALE};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (f->err_no == others[i])
            return false;
    return f->stage == CHILD_EXEC;
}

/* What its network did not let out, where the tenant looks for what went wrong. */
static void log_refused(struct runner *r)
{
    r->result.network_refused = r->spec->own_network ? netns_refused(&r->out_there.ns) : -1;
    if (r->result.network_refused <= 0)
        return;
    AUTO_FREE char *line =
        xasprintf("[simbdp] %lld connections or datagrams had nowhere to go: the profile's `network` does not lead there\n",
                  (long long)r->result.network_refused);
    capture_write(&r->log, line, strlen(line));
}

static void watch(struct runner *r)
{
    while (r->state != ENDED) {
        struct pollfd p[N_POLLED + NETNS_MAX_LISTENERS] = {
            {r->sigfd, POLLIN, 0}, {r->out, POLLIN, 0}, {r->err, POLLIN, 0}, {r->conn, POLLIN, 0}, {r->listener, POLLIN, 0}};
        int n = r->state == KILLING ? 0 : way_out_poll(&r->out_there, p + N_POLLED, clk_now_ms());
        poll(p, (nfds_t)(N_POLLED + n), next_timeout(r, clk_now_ms()));
        for (int i = 0; i < n; i++)
            if (p[N_POLLED + i].revents) {
                start_relay(r);
                break;
            }
        if (p[0].revents)
            on_sigchld(r);
        if (p[1].revents && r->out >= 0)
            drain(r, &r->out, r->collects ? &r->collected : &r->log, 16);
        if (p[2].revents && r->err >= 0)
            drain(r, &r->err, &r->log, 16);
        if (p[3].revents && r->conn >= 0)
            on_order(r);
        if (p[4].revents)
            on_connect(r);
        on_clock(r);
        if (r->state == KILLING && kill_tick(r))
            r->state = ENDED;
    }
    crash_at(CRASH_run_exit_seen);
    while (r->out >= 0 && drain(r, &r->out, r->collects ? &r->collected : &r->log, 1024) && !r->collected.exceeded) {
    }
    while (r->err >= 0 && drain(r, &r->err, &r->log, 1024)) {
        struct pollfd none = {r->err, POLLIN, 0};
        if (poll(&none, 1, 0) <= 0)
            break;
    }
    log_refused(r);
    capture_close(&r->log);
}

/* What an app said last is mostly why it failed, and whoever looks at the file should not have to look for it in the log. */
static void take_last_words(struct runner *r, const struct outcome *o)
{
    AUTO_FREE char *line = tail_line(&r->last_words);
    if (o->exit_code == NOT_FOUND && !r->result.error && !*r->spec->image && script_has_crlf(r->spec->exec)) /* env was found */
        r->result.error = xasprintf("%s: %s", r->spec->exec, SCRIPT_CRLF);
    if (line && !r->result.error && o->outcome != RUN_ok && !r->evidence.stopped)
        r->result.error = xasprintf("it printed last: %s", line);
}

/* Why its executable did not become the run's first process. Caller frees. */
static char *describe_failure(const struct runner *r)
{
    const struct run_spec *s = r->spec;
    const struct child_failure *f = &r->failure;
    AUTO_FREE char *closed = f->stage == CHILD_REACH ? reach_closed(s->dir) : NULL;
    if (f->stage == CHILD_EXEC)
        return xasprintf("cannot execute %s: %s%s", s->exec, strerror(f->err_no), exec_hint(s, f->err_no));
    if (closed)
        return xasprintf("uid %lld cannot reach %s: %s is closed to others; `chmod o+x %s`, or have the home elsewhere",
                         (long long)s->uid, s->dir, closed, closed);
    return xasprintf("%s failed: %s%s%s", child_stage_name(f->stage), f->what, *f->what ? ": " : "", strerror(f->err_no));
}

static void make_result(struct runner *r)
{
    const struct run_spec *s = r->spec;
    struct rusage ru;
    char node[256] = "";
    getrusage(RUSAGE_CHILDREN, &ru);
    gethostname(node, sizeof node - 1);
    r->evidence.cpu_s =
        (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) + (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
    r->evidence.cpu_limit_s = s->cpu_s;
    if (!r->evidence.exec_errno && !r->evidence.scratch)
        r->evidence.scratch = scratch_look(&r->scratch, r->dirfd, "app");
    r->evidence.oom_kills = cgroup_oom_kills(r->cg, s->claim);
    r->evidence.pids_refused = cgroup_pids_refused(r->cg, s->claim);
    int status;
    if (r->status >= 0 && read(r->status, &status, sizeof status) == (ssize_t)sizeof status)
        r->evidence.status = status; /* ours is that of its init */
    r->result.output_bytes = r->log.total + r->collected.total;
    r->result.output_bytes_dropped = r->log.dropped + r->collected.dropped;
    r->evidence.log_cut = r->log.dropped > 0;
    r->evidence.full_file = r->scratch.full_file;
    struct outcome o = outcome_of(&r->evidence);
    r->result.not_started = r->evidence.exec_errno && r->evidence.not_apps;
    if (r->evidence.exec_errno)
        r->result.error = describe_failure(r);
    take_output(r, &o);
    capture_close(&r->collected);
    take_app_result(r);
    take_last_words(r, &o);
    r->result.run_id = xstrdup(s->run_id);
    r->result.step = s->step;
    r->result.node = xstrdup(node);
    r->result.outcome = o.outcome;
    r->result.exit_code = o.exit_code;
    r->result.signal = o.signal;
    r->result.limit = o.limit;
    r->result.forced = r->forced;
    r->result.stopped = r->evidence.stopped;
    r->result.started_wall_ms = r->started_wall_ms;
    r->result.ended_wall_ms = clk_wall_ms();
    r->result.wall_s = r->started_ms ? (double)(clk_now_ms() - r->started_ms) / 1000 : 0; /* 0: it never began */
    r->result.cpu_s = r->evidence.cpu_s;
    r->result.max_rss_bytes = ru.ru_maxrss * 1024;
}

static int write_result(struct runner *r, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    run_result_write(&r->result, &b);
    int n = fd_write_all(r->result_fd, b.p, b.n);
    if (n == -ENOSPC && r->result.app_result) { /* what counts fits the space that was reserved */
        xstr_set(&r->result.app_result, NULL);
        xstr_set(&r->result.error, "the disk is full: what the app said in its result file was not kept");
        buf_reset(&b);
        run_result_write(&r->result, &b);
        n = lseek(r->result_fd, 0, SEEK_SET) < 0 ? -errno : fd_write_all(r->result_fd, b.p, b.n);
    }
    /* Kept output must be there when the ledger says so, also after a power cut. A result alone that a power cut takes
     * makes its run `lost`, which costs no attempt and stores nothing twice; two journal commits a run would cost more. */
    bool keeps = r->spec->output != RUN_OUTPUT_none;
    if (n == 0 && (ftruncate(r->result_fd, (off_t)b.n) < 0 || (keeps && fsync(r->result_fd) < 0)))
        n = -errno;
    crash_at(CRASH_run_result_write);
    if (n == 0 && (renameat(r->dirfd, "result.json.tmp", r->dirfd, "result.json") < 0 || (keeps && fsync(r->dirfd) < 0)))
        n = -errno;
    crash_at(CRASH_run_result_rename);
    return n < 0 ? err_sys(e, n, "cannot write %s/result.json", r->spec->dir) : 0;
}

/* Until the end is acknowledged; also ends when the whole home was removed. */
static void wait_for_ack(struct runner *r)
{
    while (access(r->spec->dir, F_OK) == 0) {
        struct pollfd p[] = {{r->conn, POLLIN, 0}, {r->listener, POLLIN, 0}};
        poll(p, 2, HOME_CHECK_MS);
        char order = 0;
        if (p[0].revents && r->conn >= 0) {
            if (recv(r->conn, &order, 1, 0) <= 0)
                close(fd_take(&r->conn));
            if (order == RUN_ORDER_ACK)
                return;
        }
        if (p[1].revents)
            on_connect(r);
    }
}

static void leave(struct runner *r)
{
    AUTO_FREE char *sock = xasprintf("%s/%s.sock", r->spec->runtime, r->spec->claim);
    AUTO_FREE char *lock = xasprintf("%s/%s.lock", r->spec->runtime, r->spec->claim);
    way_out_close(&r->out_there);
    leave_cgroups(r);
    cgroup_remove(r->cg, r->spec->claim);
    if (r->dirfd >= 0)
        unlink(sock);
    if (r->lock >= 0 && r->dirfd >= 0)
        unlink(lock);
    int *fds[] = {&r->dirfd, &r->lock, &r->conn, &r->listener, &r->sigfd, &r->result_fd,
                  &r->app,   &r->out,  &r->err,  &r->status,   &r->image};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (*fds[i] >= 0)
            close(fd_take(fds[i]));
    run_result_free(&r->result);
}

static int run_step(struct runner *r, struct err *e)
{
    int n = start_files(r, e);
    bool own = n == 0 && (n = start_secrets(r, e)) < 0;
    if (n == 0) {
        n = start_app(r, e);
        own = n == 0 && is_apps_own(&r->failure);
    }
    r->evidence.not_apps = !own;
    if (n < 0) {
        /* The fence stands, so the step must end with a result all the same. */
        r->evidence.exec_errno = -n > 0 && -n < 2000 ? -n : EIO;
        r->failure = (struct child_failure){.stage = -1, .err_no = r->evidence.exec_errno};
    }
    if (n == 0 && !r->evidence.exec_errno) {
        say(r, RUN_SAID_STARTED);
        malloc_trim(0); /* what reading the spec took: there are as many of us as there are runs */
        r->state = RUNNING;
        if (r->spec->wall_s >= 0)
            r->deadline_ms = r->started_ms + r->spec->wall_s * 1000;
        int first = scratch_interval_ms(&r->scratch);
        r->look_ms = first < 0 ? -1 : r->started_ms + first;
    } else if (r->state != KILLING) {
        begin_kill(r);
        r->forced = false;
    }
    watch(r);
    if (r->spec->secrets.n && fd_remove_tree(r->dirfd, "secrets") < 0)
        log_warn("secrets", r->spec->tenant, r->spec->run_id, "cannot remove %s/secrets", r->spec->dir);
    make_result(r);
    if (r->app >= 0)
        close(fd_take(&r->app)); /* with it goes what is in memory: the manager may be long in coming */
    if (n < 0)
        xstr_set(&r->result.error, e->msg);
    return r->result_fd < 0 ? n : write_result(r, e);
}

int runner_main(const struct run_spec *spec, const struct cgroup_host *cg, int conn, struct runner_ahead *ahead, struct err *e)
{
    struct runner r = {.spec = spec,
                       .cg = cg,
                       .ahead = ahead ? ahead->cgroups : NULL,
                       .spaces = ahead && ahead->has_spaces && spec->full_isolation ? &ahead->spaces : NULL,
                       .dirfd = -1,
                       .lock = -1,
                       .conn = conn,
                       .listener = -1,
                       .sigfd = -1,
                       .result_fd = -1,
                       .app = -1,
                       .image = -1,
                       .out = -1,
                       .err = -1,
                       .status = -1,
                       .deadline_ms = -1,
                       .look_ms = -1,
                       .out_there = {.host = -1, .space = -1, .leash = -1, .ns.counters = {-1, -1}},
                       .scratch = {.max_bytes = -1, .max_inodes = -1, .fsize_bytes = -1},
                       .said = RUN_SAID_CLAIMED,
                       .log = {.fd = -1},
                       .collected = {.fd = -1}};
    if (!spec->scratch_in_memory)
        r.scratch = (struct scratch){
            .max_bytes = spec->scratch_bytes, .max_inodes = spec->scratch_inodes, .fsize_bytes = spec->fsize_bytes};
    if (ahead && ahead->has_spaces && !r.spaces)
        isolate_release(&ahead->spaces);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_SETMASK, &set, NULL);
    signal(SIGCHLD, SIG_DFL);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    r.sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    int n = claim(&r, e);
    if (n < 0) {
        say(&r, RUN_SAID_REFUSED);
        close(r.sigfd);
        if (r.conn >= 0)
            close(r.conn);
        if (r.lock >= 0)
            close(r.lock);
        return n;
    }
    n = run_step(&r, e);
    if (n == 0) {
        crash_at(CRASH_run_told);
        say(&r, RUN_SAID_ENDED);
        if (conn >= 0)
            wait_for_ack(&r);
    }
    leave(&r);
    return n;
}
