#include "command.h"

#include "base/fd.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "loop/timer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_OUTPUT = 64 << 20 };

struct command {
    struct commands *all;
    struct command *next;
    pid_t pid;
    int fd;
    struct event *ev, *timer;
    struct buf out;
    bool late, exited;
    int status;
    command_ended_fn ended;
    void *arg;
};

struct commands {
    struct event_base *base;
    struct event *sigchld;
    struct command *first;
};

static void unlink_command(struct command *k)
{
    struct command **at = &k->all->first;
    while (*at != k)
        at = &(*at)->next;
    *at = k->next;
}

static void free_command(struct command *k)
{
    if (k->ev)
        event_free(k->ev);
    if (k->timer)
        event_free(k->timer);
    if (k->fd >= 0)
        close(k->fd);
    buf_fini(&k->out);
    free(k);
}

/* It ended, and what it printed is read; a child of its own that holds the pipe open is not waited for. */
static void settle(struct command *k)
{
    unlink_command(k);
    buf_add(&k->out, "", 0);
    if (k->ended)
        k->ended(k->arg, k->status, k->late, &k->out);
    free_command(k);
}

static void take_output(struct command *k)
{
    char chunk[65536];
    ssize_t n = 0;
    while (k->fd >= 0 && (n = read(k->fd, chunk, sizeof chunk)) > 0)
        if (k->out.n < MAX_OUTPUT)
            buf_add(&k->out, chunk, (size_t)n);
    if (k->fd >= 0 && n == 0) {
        event_del(k->ev);
        close(fd_take(&k->fd));
    }
}

static void on_output(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    take_output(arg);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
    struct command *k = arg;
    (void)fd;
    (void)what;
    k->late = true;
    kill(k->pid, SIGKILL); /* our child, not reaped yet: the pid is its own */
}

static void on_child(evutil_socket_t fd, short what, void *arg)
{
    struct commands *c = arg;
    (void)fd;
    (void)what;
    for (struct command *k = c->first; k; k = k->next)
        if (!k->exited && waitpid(k->pid, &k->status, WNOHANG) == k->pid)
            k->exited = true;
    for (struct command *k = c->first; k;) {
        if (!k->exited) {
            k = k->next;
            continue;
        }
        take_output(k);
        settle(k); /* which may start others */
        k = c->first;
    }
}

struct commands *commands_new(struct event_base *base)
{
    struct commands *c = xcalloc(1, sizeof *c);
    c->base = base;
    c->sigchld = evsignal_new(base, SIGCHLD, on_child, c);
    event_add(c->sigchld, NULL);
    return c;
}

void commands_free(struct commands *c)
{
    if (!c)
        return;
    for (struct command *k; (k = c->first);) {
        kill(k->pid, SIGKILL);
        while (waitpid(k->pid, NULL, 0) < 0 && errno == EINTR) {
        }
        c->first = k->next;
        free_command(k);
    }
    event_free(c->sigchld);
    free(c);
}

void command_start(struct commands *c, char *const argv[], int64_t deadline_ms, command_ended_fn ended, void *arg)
{
    struct command *k = xcalloc(1, sizeof *k);
    struct buf none = {0};
    int out[2];
    *k = (struct command){.all = c, .fd = -1, .ended = ended, .arg = arg};
    int r = pipe2(out, O_CLOEXEC) < 0 ? -errno : 0;
    if (r == 0) {
        posix_spawn_file_actions_t fa;
        posix_spawn_file_actions_init(&fa);
        posix_spawn_file_actions_addopen(&fa, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
        posix_spawn_file_actions_adddup2(&fa, out[1], STDOUT_FILENO);
        posix_spawn_file_actions_adddup2(&fa, out[1], STDERR_FILENO);
        r = spawn_start(argv, environ, &fa, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP, &k->pid);
        close(out[1]);
        if (r < 0)
            close(out[0]);
    }
    if (r < 0) {
        free(k);
        buf_addf(&none, "cannot start %s: %s", argv[0], strerror(-r));
        ended(arg, r, false, &none);
        buf_fini(&none);
        return;
    }
    k->fd = out[0];
    fd_set_nonblock(k->fd);
    k->ev = event_new(c->base, k->fd, EV_READ | EV_PERSIST, on_output, k);
    event_add(k->ev, NULL);
    k->timer = event_new(c->base, -1, 0, on_deadline, k);
    timer_set(k->timer, deadline_ms);
    k->next = c->first;
    c->first = k;
}

void commands_forget(struct commands *c, const void *arg)
{
    for (struct command *k = c->first; k; k = k->next)
        if (k->arg == arg)
            k->ended = NULL;
}

size_t commands_n(const struct commands *c)
{
    size_t n = 0;
    for (const struct command *k = c->first; k; k = k->next)
        n++;
    return n;
}
