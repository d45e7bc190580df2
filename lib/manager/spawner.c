#include "spawner.h"
#include "scrap.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "loop/timer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

struct spawner {
    struct event_base *base;
    const struct home *home;
    void (*ready)(void *arg);
    void *arg;
    int fd;
    pid_t pid;
    struct event *ev, *timer;
    int64_t pause_until_ms;
    struct scrap *scrap;
};

struct job {
    int leash;
    struct event *ev;
    job_ended_fn ended;
    void *arg;
};

static void wake_in(struct spawner *s, int64_t ms)
{
    timer_set(s->timer, ms);
}

/* A timer may fire a little before its time. */
static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct spawner *s = arg;
    int64_t left = s->pause_until_ms - clk_now_ms();
    (void)fd;
    (void)what;
    if (left > 0)
        wake_in(s, left);
    else
        s->ready(s->arg);
}

static void on_gone(evutil_socket_t fd, short what, void *arg)
{
    struct spawner *s = arg;
    (void)fd;
    (void)what;
    log_error("stop", NULL, NULL, "the warden ended, without which this program cannot go on; runs are left alone");
    event_del(s->ev);
    event_base_loopbreak(s->base);
}

int spawner_new(struct event_base *base, const struct home *home, const char *manager, void (*ready)(void *arg), void *arg,
                struct spawner **ret, struct err *e)
{
    AUTO_FREE char *program = home_program(home, "simbdp-warden");
    char *argv[] = {program, (char *)manager, "--home", home->path, NULL};
    int fd;
    pid_t pid;
    int r = spawn_partner(argv, &fd, &pid, e);
    if (r < 0)
        return r;
    struct spawner *s = xcalloc(1, sizeof *s);
    *s = (struct spawner){.base = base, .home = home, .ready = ready, .arg = arg, .fd = fd, .pid = pid};
    s->timer = event_new(base, -1, 0, on_timer, s);
    s->ev = event_new(base, s->fd, EV_READ, on_gone, s); /* it says nothing */
    event_add(s->ev, NULL);
    *ret = s;
    return 0;
}

void spawner_begin(struct spawner *s)
{
    s->scrap = scrap_new(s->home);
}

void spawner_free(struct spawner *s)
{
    if (!s)
        return;
    event_free(s->ev);
    event_free(s->timer);
    spawn_part(s->fd, s->pid);
    scrap_free(s->scrap);
    free(s);
}

bool spawner_is_ready(const struct spawner *s)
{
    return s && clk_now_ms() >= s->pause_until_ms;
}

void spawner_pause(struct spawner *s, int64_t ms)
{
    s->pause_until_ms = clk_now_ms() + ms;
    wake_in(s, ms);
}

struct event_base *spawner_base(const struct spawner *s)
{
    return s->base;
}

const struct home *spawner_home(const struct spawner *s)
{
    return s->home;
}

int spawner_tell(struct spawner *s, const struct warden_request *rq, const char *text, const int *fds, size_t n_fds)
{
    AUTO_BUF struct buf b = {0};
    size_t n = text ? strlen(text) : 0;
    if (n > WARDEN_MAX_TEXT)
        return -EMSGSIZE;
    buf_add(&b, rq, sizeof *rq);
    if (n)
        buf_add(&b, text, n);
    return fd_send(s->fd, b.p, b.n, fds, n_fds);
}

/* With a socket for the answer, and `fd` behind that (-1: none). The length of the answer, or -errno. */
static ssize_t exchange(struct spawner *s, const struct warden_request *rq, const char *text, int fd, void *answer, size_t size)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    ssize_t n = spawner_tell(s, rq, text, (int[]){pair[1], fd}, fd < 0 ? 1 : 2);
    close(pair[1]);
    while (n == 0 && (n = recv(pair[0], answer, size, 0)) < 0 && errno == EINTR)
        n = 0;
    n = n == -1 ? -errno : n;
    close(pair[0]);
    return n;
}

ssize_t spawner_ask(struct spawner *s, const struct warden_request *rq, const char *text, char *answer, size_t size)
{
    return exchange(s, rq, text, -1, answer, size);
}

int spawner_discard(struct spawner *s, int dirfd, const char *path)
{
    return s && s->scrap && scrap_put(s->scrap, dirfd, path) ? 0 : fd_remove_tree(dirfd, path);
}

void spawner_take_scratch(struct spawner *s, const char *dir)
{
    if (s->scrap)
        scrap_take(s->scrap, dir);
}

/* ---- jobs ---- */

void job_free(struct job *j)
{
    if (!j)
        return;
    event_free(j->ev);
    close(j->leash);
    free(j);
}

static void on_leash(evutil_socket_t fd, short what, void *arg)
{
    struct job *j = arg;
    int status;
    (void)what;
    ssize_t n = recv(fd, &status, sizeof status, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    job_ended_fn ended = j->ended;
    void *its = j->arg;
    job_free(j);
    ended(its, n == (ssize_t)sizeof status ? status : -EPIPE);
}

struct job *job_start(struct spawner *s, enum warden_op op, const char *tenant, const char *text, int fd, job_ended_fn ended,
                      void *arg)
{
    struct warden_request rq = {.op = op};
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return NULL;
    snprintf(rq.tenant, sizeof rq.tenant, "%s", tenant ? tenant : "");
    int r = spawner_tell(s, &rq, text, (int[]){pair[1], fd}, 2);
    close(pair[1]);
    if (r < 0) {
        log_error("job", tenant, NULL, "cannot ask the warden for a program: %s", err_text(r));
        close(pair[0]);
        return NULL;
    }
    struct job *j = xmalloc(sizeof *j);
    *j = (struct job){pair[0], NULL, ended, arg};
    j->ev = event_new(s->base, pair[0], EV_READ | EV_PERSIST, on_leash, j);
    event_add(j->ev, NULL);
    return j;
}

int job_wait(struct spawner *s, enum warden_op op, const char *tenant, int64_t number)
{
    struct warden_request rq = {.op = op, .number = number};
    int status;
    snprintf(rq.tenant, sizeof rq.tenant, "%s", tenant);
    ssize_t n = exchange(s, &rq, NULL, STDERR_FILENO, &status, sizeof status);
    return n == (ssize_t)sizeof status ? status : -EPIPE;
}

void job_order(struct job *j, enum warden_order order)
{
    char byte = (char)order;
    if (send(j->leash, &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        log_debug("job", NULL, NULL, "the program has ended");
}
