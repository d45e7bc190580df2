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
#include "channel.h"
#include "kill_tree.h"
#include "result.h"
#include "start.h"
#include "step_lock.h"

#include "base/clk.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "run/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    LEAVE_MS = 50,   /* by then short runs have ended, and were spared the move out of their cgroups */
    LOOK_SHARE = 20, /* looking at scratch takes one part in so many of the time */
    OOM_LOOK_MS = 1000,
    N_POLLED = 5, /* descriptors, not counting those of the run's network */
};

/* Reads one pipe; returns false at its end. */
static bool drain(struct runner *r, int *fd, struct capture *to, int max_reads)
{
    static char chunk[65536]; /* static: on the stack it would touch as many pages again in every runner */
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
            kill_tree_kill(r);
        }
    }
    return true;
}

/* A runner that was made ahead is in the run's cgroups itself (see spawner.c). It leaves, so that the tenant is not charged for it.
 */
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
    if (r->state == RUNNER_killing)
        return KILL_TREE_TICK_MS;
    if (r->ahead)
        at = earlier(at, r->started_ms + LEAVE_MS);
    if (r->state == RUNNER_stopping)
        at = r->grace_end_ms;
    at = earlier(at, earlier(r->look_ms, r->oom_look_ms));
    if (r->relay.ns.n && !r->relay.relay && r->relay.again_ms > now)
        at = earlier(at, r->relay.again_ms);
    if (at < 0)
        return CHANNEL_HOME_CHECK_MS;
    return at <= now ? 0 : at - now > CHANNEL_HOME_CHECK_MS ? CHANNEL_HOME_CHECK_MS : (int)(at - now);
}

static void on_sigchld(struct runner *r)
{
    struct signalfd_siginfo si[8];
    bool stop = false;
    for (ssize_t n; (n = read(r->sigfd, si, sizeof si)) > 0;)
        for (size_t i = 0; i < (size_t)n / sizeof *si; i++)
            stop |= si[i].ssi_signo == SIGTERM;
    run_relay_reap(&r->relay, clk_now_ms());
    tree_reap(r->pid, &r->main_ended, &r->evidence.status);
    if (r->main_ended && r->state != RUNNER_killing)
        kill_tree_kill(r);
    if (stop && r->state == RUNNER_running) {
        r->evidence.stopped = true;
        kill_tree_stop(r);
    }
}

/* Deleted files that the run still holds open. Whose they are is known by uid, so only for a tenant that has one of its own. */
static enum run_limit look_at_held(struct runner *r)
{
    AUTO_BUF struct buf pids = {0};
    if (r->spec->uid < 0 || cgroup_procs(r->cg, r->spec->claim, &pids) < 0)
        return RUN_LIMIT_none;
    return scratch_look_held(&r->scratch, r->dirfd, "log", r->spec->uid, pids.p);
}

/* The slower a look is, the rarer it is done: its CPU time is the platform's, and how many files there are is the tenant's choice.
 */
static void look_at_scratch(struct runner *r)
{
    int64_t before = clk_now_ms();
    r->evidence.scratch = scratch_look(&r->scratch, r->dirfd, "app");
    if (!r->evidence.scratch)
        r->evidence.scratch = look_at_held(r);
    int64_t now = clk_now_ms();
    int64_t ms = scratch_interval_ms(&r->scratch), rest = (now - before) * LOOK_SHARE;
    r->look_ms = ms < 0 || r->evidence.scratch ? -1 : now + (rest > ms ? rest : ms);
    if (r->evidence.scratch && r->state != RUNNER_killing)
        kill_tree_kill(r);
}

/* A run of which the kernel killed a process for memory ends as a whole, since an app that lost one may wait for it for ever, or go
 * on without it. Where the run has a limit, and its group is of cgroup v2, the kernel sees to that (memory.oom.group). */
static void look_at_oom(struct runner *r, int64_t now)
{
    r->oom_look_ms = now + OOM_LOOK_MS;
    if (cgroup_oom_kills(r->cg, r->spec->claim) > 0 && r->state != RUNNER_killing)
        kill_tree_kill(r);
}

static void on_clock(struct runner *r)
{
    int64_t now = clk_now_ms();
    if (r->oom_look_ms >= 0 && now >= r->oom_look_ms)
        look_at_oom(r, now);
    if (r->look_ms >= 0 && now >= r->look_ms && r->state != RUNNER_killing)
        look_at_scratch(r);
    if (r->ahead && now >= r->started_ms + LEAVE_MS)
        leave_cgroups(r);
    if (r->state == RUNNER_running && r->deadline_ms >= 0 && now >= r->deadline_ms) {
        r->evidence.wall_exceeded = true;
        kill_tree_stop(r);
    } else if (r->state == RUNNER_stopping && now >= r->grace_end_ms) {
        kill_tree_kill(r);
    }
}

/* Into the run's cgroup: its CPU time and memory are charged to the run. */
static void start_relay(struct runner *r)
{
    run_relay_start(&r->relay, r->spec, clk_now_ms());
    if (r->relay.relay)
        cgroup_join(r->cg, r->spec->claim, r->relay.relay);
}

/* Says in the run's log what its network did not let out, since that is where the tenant looks for the cause. */
static void log_refused(struct runner *r)
{
    r->result.network_refused = r->spec->own_network ? netns_refused(&r->relay.ns) : -1;
    if (r->result.network_refused <= 0)
        return;
    AUTO_FREE char *line =
        xasprintf("[simbdp] %lld connections or datagrams had nowhere to go: the profile's `network` does not lead there\n",
                  (long long)r->result.network_refused);
    capture_write(&r->log, line, strlen(line));
}

static void watch(struct runner *r)
{
    while (r->state != RUNNER_ended) {
        struct pollfd p[N_POLLED + NETNS_MAX_LISTENERS] = {
            {r->sigfd, POLLIN, 0}, {r->out, POLLIN, 0}, {r->err, POLLIN, 0}, {r->conn, POLLIN, 0}, {r->listener, POLLIN, 0}};
        int n = r->state == RUNNER_killing ? 0 : run_relay_poll(&r->relay, p + N_POLLED, clk_now_ms());
        poll(p, N_POLLED + (nfds_t)n, next_timeout(r, clk_now_ms()));
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
            channel_take_order(r);
        if (p[4].revents)
            channel_accept(r);
        on_clock(r);
        if (r->state == RUNNER_killing && kill_tree_tick(r))
            runner_set_state(r, RUNNER_ended);
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

/* Acknowledged, or without a manager: removes what marked the step as alive. */
static void leave(struct runner *r)
{
    run_relay_close(&r->relay);
    leave_cgroups(r);
    cgroup_remove(r->cg, r->spec->claim);
    claim_release(r);
    int *fds[] = {&r->dirfd, &r->lock, &r->conn, &r->listener, &r->sigfd, &r->result_fd,
                  &r->app,   &r->out,  &r->err,  &r->status,   &r->image, &r->version};
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
        own = n == 0 && result_is_apps_own(&r->failure);
    }
    r->evidence.not_apps = !own;
    if (n < 0) {
        /* The step is claimed, so nobody else will end it: it needs a result all the same. */
        r->evidence.exec_errno = -n > 0 && -n < 2000 ? -n : EIO;
        r->failure = (struct child_failure){.stage = -1, .err_no = r->evidence.exec_errno};
    }
    if (n == 0 && !r->evidence.exec_errno) {
        channel_say(r, RUN_SAID_STARTED);
        malloc_trim(0); /* gives back what reading the spec took; there is a runner for every run */
        runner_set_state(r, RUNNER_running);
        if (r->spec->wall_s >= 0)
            r->deadline_ms = r->started_ms + r->spec->wall_s * 1000;
        int first = scratch_interval_ms(&r->scratch);
        r->look_ms = first < 0 ? -1 : r->started_ms + first;
        if (r->spec->cg_memory_bytes < 0 || !r->cg->v2[CGROUP_MEMORY])
            r->oom_look_ms = r->started_ms + OOM_LOOK_MS;
    } else if (r->state != RUNNER_killing) {
        kill_tree_kill(r);
        r->forced = false;
    }
    watch(r);
    if (r->spec->secrets.n && fd_remove_tree(r->dirfd, "secrets") < 0)
        log_warn("secrets", r->spec->tenant, r->spec->run_id, "cannot remove %s/secrets", r->spec->dir);
    result_make(r);
    if (r->app >= 0)
        close(fd_take(&r->app)); /* frees a scratch directory in memory now, since the acknowledgement may take long */
    if (n < 0)
        xstr_set(&r->result.error, e->msg);
    return r->result_fd < 0 ? n : result_write(r, e);
}

/* A step before anything of it is there. */
static struct runner new_runner(const struct run_spec *spec, const struct cgroup_host *cg, int conn)
{
    struct runner r = {.spec = spec,
                       .cg = cg,
                       .dirfd = -1,
                       .lock = -1,
                       .conn = conn,
                       .listener = -1,
                       .sigfd = -1,
                       .result_fd = -1,
                       .app = -1,
                       .image = -1,
                       .version = -1,
                       .out = -1,
                       .err = -1,
                       .status = -1,
                       .deadline_ms = -1,
                       .look_ms = -1,
                       .oom_look_ms = -1,
                       .relay = {.host = -1, .space = -1, .leash = -1, .ns.counters = {-1, -1}},
                       .scratch = {.max_bytes = -1, .max_inodes = -1, .fsize_bytes = -1},
                       .said = RUN_SAID_CLAIMED,
                       .log = {.fd = -1},
                       .collected = {.fd = -1}};
    if (!spec->scratch_in_memory)
        r.scratch = (struct scratch){
            .max_bytes = spec->scratch_bytes, .max_inodes = spec->scratch_inodes, .fsize_bytes = spec->fsize_bytes};
    return r;
}

/* What was made ahead of the run; namespaces that it has no use for go. */
static void take_ahead(struct runner *r, struct runner_ahead *ahead)
{
    if (!ahead)
        return;
    r->ahead = ahead->cgroups;
    if (ahead->has_spaces && r->spec->full_isolation)
        r->spaces = &ahead->spaces;
    else if (ahead->has_spaces)
        isolate_release(&ahead->spaces);
}

/* Ends of children and SIGTERM come by a descriptor; orphans of the step become our children. */
static void take_signals(struct runner *r)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_SETMASK, &set, NULL);
    signal(SIGCHLD, SIG_DFL);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    r->sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int runner_main(const struct run_spec *spec, const struct cgroup_host *cg, int conn, struct runner_ahead *ahead, struct err *e)
{
    struct runner r = new_runner(spec, cg, conn);
    take_ahead(&r, ahead);
    take_signals(&r);
    int n = claim_step(&r, e);
    if (n < 0) {
        channel_say(&r, RUN_SAID_REFUSED);
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
        channel_say(&r, RUN_SAID_ENDED);
        if (conn >= 0)
            channel_wait_for_ack(&r);
    }
    leave(&r);
    return n;
}
