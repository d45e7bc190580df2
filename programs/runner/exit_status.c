#include "exit_status.h"

#include <signal.h>
#include <sys/wait.h>
#include <sysexits.h>

enum {
    SHELL_SIGNAL = 128
}; /* POSIX, Shell Command Language 2.8.2: a shell adds it to the number of the signal that ended a command */

/* Whatever the app says of its end: part of it was killed in the middle of its work. */
static struct outcome by_oom(const struct evidence *v, int code, int sig)
{
    return v->host_oom ? (struct outcome){RUN_lost, code, sig, RUN_LIMIT_none}
                       : (struct outcome){RUN_oom, code, sig, RUN_LIMIT_memory_bytes};
}

static struct outcome by_signal(const struct evidence *v, int sig)
{
    struct outcome o = {RUN_killed, -1, sig, RUN_LIMIT_none};
    if (v->oom_kills > 0 && sig == SIGKILL) {
        o = by_oom(v, -1, sig);
    } else if (sig == SIGXCPU || (sig == SIGKILL && v->cpu_limit_s >= 0 && v->cpu_s >= (double)v->cpu_limit_s)) {
        /* The kernel sends SIGXCPU at the soft limit and SIGKILL at the hard one. */
        o.outcome = RUN_limit;
        o.limit = RUN_LIMIT_cpu_s;
    } else if (sig == SIGXFSZ) {
        o.outcome = RUN_limit;
        o.limit = RUN_LIMIT_fsize_bytes;
    }
    return o;
}

struct outcome exit_status_meaning(const struct evidence *v)
{
    bool exited = v->exec_errno == 0 && WIFEXITED(v->status);
    int code = exited ? WEXITSTATUS(v->status) : -1;
    int sig = v->exec_errno == 0 && WIFSIGNALED(v->status) ? WTERMSIG(v->status) : -1;
    if (v->exec_errno)
        return (struct outcome){v->not_apps ? RUN_lost : RUN_exec_error, -1, -1, RUN_LIMIT_none};
    if (v->output_exceeded)
        return (struct outcome){RUN_limit, code, sig, RUN_LIMIT_output_bytes};
    if (v->scratch)
        return (struct outcome){RUN_limit, code, sig, v->scratch};
    if (v->wall_exceeded) /* if forks were refused, it probably waited for processes that it never got */
        return (struct outcome){RUN_timeout, code, sig, v->pids_refused > 0 ? RUN_LIMIT_pids : RUN_LIMIT_wall_s};
    if (v->stopped)
        return (struct outcome){RUN_killed, code, sig, RUN_LIMIT_none};
    if (!exited)
        return by_signal(v, sig);
    if (v->oom_kills > 0)
        return by_oom(v, code, -1);
    if (code == 0)
        return (struct outcome){RUN_ok, 0, -1,
                                v->log_cut     ? RUN_LIMIT_output_bytes
                                : v->full_file ? RUN_LIMIT_fsize_bytes
                                               : RUN_LIMIT_none};
    if (code == SHELL_SIGNAL + SIGXFSZ || code == SHELL_SIGNAL + SIGXCPU)
        return (struct outcome){RUN_limit, code, -1, code == SHELL_SIGNAL + SIGXFSZ ? RUN_LIMIT_fsize_bytes : RUN_LIMIT_cpu_s};
    if (code == EX_DATAERR)
        return (struct outcome){RUN_data_error, code, -1, RUN_LIMIT_none};
    if (code == EX_TEMPFAIL)
        return (struct outcome){RUN_temp_fail, code, -1, RUN_LIMIT_none};
    if (v->pids_refused > 0)
        return (struct outcome){RUN_limit, code, -1, RUN_LIMIT_pids};
    return (struct outcome){RUN_failed, code, -1, v->full_file ? RUN_LIMIT_fsize_bytes : RUN_LIMIT_none};
}
