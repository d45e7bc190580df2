#include "up_parts.h"
#include "up_table.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum { HEALTHY_MS = 10000, LOG_ROTATE_BYTES = 64 << 20, LEASH_FD = 3 };

bool up_is_ours(const struct program *p)
{
    return p->argv == p->own_argv;
}

static char *log_path(struct up *u, const struct program *p)
{
    return xasprintf("%s/logs/%s.log", u->home.path, p->name);
}

/* A manager may write to logs/, so no link is followed there. */
static int open_log(struct up *u, const struct program *p)
{
    AUTO_FREE char *rel = xasprintf("logs/%s.log", p->name);
    fd_rotate(u->home.dirfd, rel, LOG_ROTATE_BYTES);
    int fd = openat(u->home.dirfd, rel, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0640);
    if (fd < 0)
        log_error("start", NULL, NULL, "cannot open %s/%s: %s", u->home.path, rel, strerror(errno));
    return fd;
}

void up_tell_programs(struct up *u)
{
    struct up_line v[MAX_PROGRAMS];
    if (!u->news)
        return;
    u->news = false;
    for (size_t i = 0; i < u->n; i++) {
        const struct program *p = &u->programs[i];
        v[i] = (struct up_line){p->name, p->pid, p->started_wall_ms, p->ended_wall_ms, p->restarts, p->status};
    }
    up_table_write(u->home.dirfd, v, u->n);
}

void up_start(struct up *u, struct program *p)
{
    AUTO_FD int log = open_log(u, p);
    int leash[2] = {-1, -1};
    if (p->leash >= 0)
        close(p->leash);
    p->leash = -1;
    if (pipe2(leash, O_CLOEXEC) < 0) {
        p->restart_at_ms = clk_now_ms() + MAX_DELAY_MS;
        return;
    }
    posix_spawn_file_actions_t fa;
    posix_spawn_file_actions_init(&fa);
    if (p->listener >= 0)
        posix_spawn_file_actions_adddup2(&fa, p->listener, 0);
    posix_spawn_file_actions_adddup2(&fa, leash[0], p->listener >= 0 ? LEASH_FD : 0);
    if (log >= 0)
        posix_spawn_file_actions_adddup2(&fa, log, 1);
    posix_spawn_file_actions_adddup2(&fa, 1, 2);
    int r = spawn_start(p->argv, environ, &fa, POSIX_SPAWN_SETPGROUP, &p->pid); /* a terminal's ^C reaches `up` alone */
    close(leash[0]);
    p->leash = leash[1];
    p->started_ms = clk_now_ms();
    p->restart_at_ms = 0;
    if (r < 0) {
        p->pid = 0;
        log_error("start", NULL, NULL, "cannot start %s: %s", p->argv[0], err_text(r));
        p->restart_at_ms = p->started_ms + MAX_DELAY_MS;
        return;
    }
    p->restarts += p->started_wall_ms != 0;
    p->started_wall_ms = clk_wall_ms();
    u->news = true;
}

static void last_words(struct up *u, const struct program *p)
{
    AUTO_FREE char *path = log_path(u, p);
    AUTO_BUF struct buf b = {0};
    if (fd_read_file(AT_FDCWD, path, &b, 256 << 20, NULL) < 0 || !b.n)
        return;
    b.p[b.n - 1] = 0;
    char *line = strrchr(b.p, '\n') ? strrchr(b.p, '\n') + 1 : b.p;
    AUTO_BSON bson_t *doc = json_parse(line, strlen(line), NULL);
    fprintf(stderr, "mysimbdp up: %s: %s\n", p->name, doc ? json_get_str(doc, "msg", line) : line);
}

static void on_end(struct up *u, struct program *p, int status)
{
    int64_t now = clk_now_ms();
    p->pid = 0;
    p->ended_wall_ms = clk_wall_ms();
    p->status = status;
    if (u->stopping)
        return;
    u->news = true;
    if (up_is_being_upgraded(u, p) && u->upgrade.n_ends++ == 0) {
        p->restart_at_ms = now;
        p->delay_ms = FIRST_DELAY_MS;
        return;
    }
    if (!u->ready && WIFEXITED(status) && WEXITSTATUS(status)) {
        last_words(u, p);
        u->failed = u->stopping = true;
        u->leave_runs = true;
        return;
    }
    if (now - p->started_ms >= HEALTHY_MS)
        p->delay_ms = 0;
    p->restart_at_ms = now + p->delay_ms / 2 + (p->delay_ms ? (int64_t)randombytes_uniform((uint32_t)(p->delay_ms / 2 + 1)) : 0);
    log_warn("program_ended", NULL, NULL, "%s ended (%s %d); starting it again %s", p->name,
             WIFSIGNALED(status) ? "signal" : "exit code", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
             p->delay_ms ? "after a delay" : "at once");
    p->delay_ms = p->delay_ms ? (p->delay_ms * 2 > MAX_DELAY_MS ? MAX_DELAY_MS : p->delay_ms * 2) : FIRST_DELAY_MS;
}

void up_reap(struct up *u)
{
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
        for (size_t i = 0; i < u->n; i++)
            if (u->programs[i].pid == pid)
                on_end(u, &u->programs[i], status);
            else if (u->warnings == pid)
                u->warnings = 0;
}

/* A connection to one of our programs. Does not wait for a program that does not accept it. */
int up_connect(const struct up *u, const char *program)
{
    AUTO_FREE char *name = xasprintf("%s.sock", program);
    AUTO_FREE char *path = home_socket(&u->home, name);
    return fd_unix_connect(path, false);
}

bson_t *up_status_of(const struct up *u, const char *program)
{
    bson_t *status = NULL;
    AUTO_FD int fd = up_connect(u, program);
    struct timeval patience = {1, 0};
    if (fd < 0 || fcntl(fd, F_SETFL, 0) < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) < 0 ||
        cli_exchange(fd, "{\"op\":\"status\"}", &status, NULL) < 0)
        return NULL;
    return status;
}

/* The desk has no orders that it takes from `up`: it answers tenants. */
bool up_is_listening(const struct up *u, const char *program)
{
    AUTO_FD int fd = up_connect(u, program);
    return fd >= 0;
}

/* Waits until reaping has set *pid to 0, or for so long. */
void up_wait_for_end(struct up *u, const pid_t *pid, int64_t ms)
{
    int64_t until = clk_now_ms() + ms;
    while (*pid && clk_now_ms() < until) {
        struct pollfd f = {u->sigfd, POLLIN, 0};
        poll(&f, 1, TICK_MS);
        up_attend(u);
    }
}

void up_stop_program(struct up *u, struct program *p)
{
    if (!p->pid)
        return;
    kill(p->pid, SIGTERM); /* it is our child and was not reaped, so the pid is still its own */
    up_wait_for_end(u, &p->pid, TERM_WAIT_MS);
    if (p->pid) {
        log_warn("kill", NULL, NULL, "%s does not end after SIGTERM", p->name);
        kill(p->pid, SIGKILL);
        waitpid(p->pid, NULL, 0);
        p->pid = 0;
    }
}

struct program *up_program(struct up *u, const char *name)
{
    for (size_t i = 0; i < u->n; i++)
        if (!strcmp(u->programs[i].name, name))
            return &u->programs[i];
    return NULL;
}

void up_add_program(struct up *u, const char *name)
{
    struct program *p = &u->programs[u->n++];
    *p = (struct program){.name = name, .leash = -1, .listener = -1, .argv = p->own_argv};
    p->own_argv[0] = home_program(&u->home, name);
    p->own_argv[1] = "--supervised";
    p->own_argv[2] = "--home";
    p->own_argv[3] = u->home.path;
}
