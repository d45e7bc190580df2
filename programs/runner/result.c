#include "result.h"
#include "collect.h"
#include "node.h"

#include "base/clk.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/mem.h"
#include "host/cgroup_use.h"
#include "host/path_closed.h"
#include "run/script.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { NOT_FOUND = 127 }; /* POSIX: a shell, or env, did not find the command */

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

/* Whether an app that could not be executed has itself to thank; one that is still being written will be whole in a moment. */
bool result_is_apps_own(const struct child_failure *f)
{
    static const int others[] = {ETXTBSY, ENOMEM, EAGAIN, EIO, ENOSPC, EMFILE, ENFILE, EINTR, EDQUOT, ESTALE};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (f->err_no == others[i])
            return false;
    return f->stage == CHILD_EXEC;
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

/* What kept it from its work for longer than it worked is most likely why it was not done in time. */
static void take_waited(struct runner *r)
{
    static const char *const what[] = {"the profile's cpu_pct held it back", "it waited for a CPU", "it waited for memory",
                                       "it waited for a disk"};
    const struct cgroup_waited w = cgroup_waited_of(r->cg, r->spec->claim);
    const double all[] = {w.throttled_s, w.cpu_s, w.memory_s, w.io_s};
    int most = 0;
    r->result.waited = w;
    for (int i = 1; i < 4; i++)
        if (isnan(all[most]) || all[i] > all[most])
            most = i;
    if (r->result.outcome != RUN_timeout || !(all[most] > r->result.wall_s / 2))
        return;
    AUTO_FREE char *said = r->result.error;
    r->result.error =
        xasprintf("for %.1f of %.1f s %s%s%s", all[most], r->result.wall_s, what[most], said ? "; " : "", said ? said : "");
}

/* Why its executable did not become the run's first process. Caller frees. */
static char *describe_failure(const struct runner *r)
{
    const struct run_spec *s = r->spec;
    const struct child_failure *f = &r->failure;
    AUTO_FREE char *closed = f->stage == CHILD_REACH ? path_closed(s->dir) : NULL;
    if (f->stage == CHILD_EXEC)
        return xasprintf("cannot execute %s: %s%s", s->exec, strerror(f->err_no), exec_hint(s, f->err_no));
    if (closed)
        return xasprintf("uid %lld cannot reach %s: %s is closed to others; `chmod o+x %s`, or have the home elsewhere",
                         (long long)s->uid, s->dir, closed, closed);
    return xasprintf("%s failed: %s%s%s", child_stage_name(f->stage), f->what, *f->what ? ": " : "", strerror(f->err_no));
}

void result_make(struct runner *r)
{
    const struct run_spec *s = r->spec;
    struct rusage ru;
    char node[256] = "";
    getrusage(RUSAGE_CHILDREN, &ru);
    node_name(s->cluster, node, sizeof node);
    r->evidence.cpu_s =
        (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) + (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
    r->evidence.cpu_limit_s = s->cpu_s;
    if (!r->evidence.exec_errno && !r->evidence.scratch)
        r->evidence.scratch = scratch_look(&r->scratch, r->dirfd, "app");
    r->evidence.oom_kills = cgroup_oom_kills(r->cg, s->claim);
    bool own_job = s->cluster && r->conn < 0; /* Slurm's limit is the run's then; a pilot's is nobody's */
    r->evidence.host_oom = r->evidence.oom_kills > 0 && !own_job && !cgroup_met_memory_limit(r->cg, s->claim);
    r->evidence.pids_refused = cgroup_pids_refused(r->cg, s->claim);
    int status;
    if (r->status >= 0 && read(r->status, &status, sizeof status) == (ssize_t)sizeof status)
        r->evidence.status = status; /* ours is that of its init */
    r->result.output_bytes = r->log.total + r->collected.total;
    r->result.output_bytes_dropped = r->log.dropped + r->collected.dropped;
    r->evidence.log_cut = r->log.dropped > 0;
    r->evidence.full_file = r->scratch.full_file;
    struct outcome o = exit_status_meaning(&r->evidence);
    r->result.not_started = r->evidence.exec_errno && r->evidence.not_apps;
    if (r->evidence.exec_errno)
        r->result.error = describe_failure(r);
    else if (o.outcome == RUN_lost)
        r->result.error = xstrdup("this host ran out of memory, and the kernel killed a process of the run for it; no limit of its "
                                  "profile was met");
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
    take_waited(r);
}

int result_write(struct runner *r, struct err *e)
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
    bool keeps = r->spec->output != RUN_OUTPUT_none || r->spec->cluster; /* another machine is to see it */
    if (n == 0 && (ftruncate(r->result_fd, (off_t)b.n) < 0 || (keeps && fsync(r->result_fd) < 0)))
        n = -errno;
    crash_at(CRASH_run_result_write);
    if (n == 0 && (renameat(r->dirfd, "result.json.tmp", r->dirfd, "result.json") < 0 || (keeps && fsync(r->dirfd) < 0)))
        n = -errno;
    crash_at(CRASH_run_result_rename);
    return n < 0 ? err_sys(e, n, "cannot write %s/result.json", r->spec->dir) : 0;
}
