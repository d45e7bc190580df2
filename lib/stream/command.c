#include "command.h"
#include "base/clk.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TICK_MS = 200, LOOK_MS = 2 };

void command_add_line(struct buf *out, const char *p, size_t n)
{
    buf_reserve(out, n + 1);
    for (size_t i = 0; i < n; i++)
        switch (p[i]) {
        case '\n':
            buf_adds(out, "\\n");
            break;
        case '\r':
            buf_adds(out, "\\r");
            break;
        case '\\':
            buf_adds(out, "\\\\");
            break;
        case 0:
            buf_adds(out, "\\0");
            break;
        default:
            buf_add(out, p + i, 1);
        }
    buf_add(out, "\n", 1);
}

static int start(char **argv, bool with_output, bool own_group, struct command *c, struct err *e)
{
    int in[2], out[2] = {-1, -1};
    if (pipe2(in, O_CLOEXEC) < 0)
        return err_sys(e, -errno, "cannot make a pipe");
    if (with_output && pipe2(out, O_CLOEXEC) < 0) {
        int r = err_sys(e, -errno, "cannot make a pipe");
        close(in[0]);
        close(in[1]);
        return r;
    }
    posix_spawn_file_actions_t fa;
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_adddup2(&fa, in[0], 0);
    if (with_output)
        posix_spawn_file_actions_adddup2(&fa, out[1], 1);
    posix_spawnattr_t attr;
    sigset_t ours;
    sigemptyset(&ours);
    sigaddset(&ours, SIGPIPE); /* ignored here, and that would be inherited */
    posix_spawnattr_init(&attr);
    posix_spawnattr_setsigdefault(&attr, &ours);
    posix_spawnattr_setflags(&attr, (short)(POSIX_SPAWN_SETSIGDEF | (own_group ? POSIX_SPAWN_SETPGROUP : 0)));
    int r = posix_spawnp(&c->pid, argv[0], &fa, &attr, argv, environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&fa);
    close(in[0]);
    if (with_output)
        close(out[1]);
    c->in = in[1];
    c->out = out[0];
    fd_set_nonblock(c->in);
    if (with_output)
        fd_set_nonblock(c->out);
    if (r) {
        close(c->in);
        if (with_output)
            close(c->out);
        return err_sys(e, -r, "cannot start %s", argv[0]);
    }
    return 0;
}

int command_start(char **argv, bool with_output, struct command *c, struct err *e)
{
    return start(argv, with_output, false, c, e);
}

int command_code(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Writes to it and reads from it what is possible now; *at: of what it gets. */
static int exchange(const struct command_job *job, struct command *c, size_t *at, struct err *e)
{
    struct pollfd p[] = {{c->in, POLLOUT, 0}, {c->out, POLLIN, 0}};
    char chunk[65536];
    poll(p, 2, TICK_MS);
    ssize_t put = p[0].revents ? write(c->in, job->in + *at, job->n - *at) : 0;
    if (put < 0 && errno != EAGAIN && errno != EINTR)
        *at = job->n; /* EPIPE: it has read enough; its exit code counts */
    *at += put > 0 ? (size_t)put : 0;
    if (*at == job->n && c->in >= 0)
        close(fd_take(&c->in));
    ssize_t got = job->out && p[1].revents ? read(c->out, chunk, sizeof chunk) : -1;
    if (got > 0 && job->out->n + (size_t)got > job->max_out)
        return err_set(e, ERR_LIMIT, "the command prints more than %zu bytes", job->max_out);
    if (got > 0)
        buf_add(job->out, chunk, (size_t)got);
    if (got == 0)
        close(fd_take(&c->out));
    return 0;
}

static int check_time(const struct command_job *job, int64_t began_ms, struct err *e)
{
    return job->max_ms && clk_now_ms() - began_ms >= job->max_ms
               ? err_set(e, -ETIMEDOUT, "the command takes longer than %lld ms", (long long)job->max_ms)
               : 0;
}

static void give_up(const struct command_job *job, struct command *c)
{
    kill(job->max_ms ? -c->pid : c->pid, SIGKILL);
    if (c->in >= 0)
        close(fd_take(&c->in));
    if (c->out >= 0)
        close(fd_take(&c->out));
}

int command_run(const struct command_job *job, struct err *e)
{
    struct command c;
    size_t at = 0;
    int64_t began_ms = clk_now_ms();
    int status, r = start(job->argv, job->out != NULL, job->max_ms > 0, &c, e);
    if (r < 0)
        return r;
    while (r == 0 && (c.in >= 0 || c.out >= 0)) {
        job->tick(job->arg);
        r = exchange(job, &c, &at, e);
        if (r == 0)
            r = check_time(job, began_ms, e);
    }
    if (r < 0)
        give_up(job, &c);
    while (waitpid(c.pid, &status, WNOHANG) == 0) {
        job->tick(job->arg);
        poll(NULL, 0, LOOK_MS);
        if (r == 0 && (r = check_time(job, began_ms, e)) < 0)
            give_up(job, &c);
    }
    return r ? r : command_code(status);
}
