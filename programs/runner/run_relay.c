#include "run_relay.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { AGAIN_MS = 100, FIRST_LISTENER = 3 };

static int write_hosts(const struct buf *names, int dirfd)
{
    AUTO_BUF struct buf text = {0};
    buf_adds(&text, "127.0.0.1 localhost\n::1 localhost\n");
    buf_add(&text, names->p, names->n);
    AUTO_FD int fd = openat(dirfd, "hosts", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0444);
    int r = fd < 0 ? -errno : fd_write_all(fd, text.p, text.n);
    return r == 0 && fchmod(fd, 0444) < 0 ? -errno : r;
}

static int open_own(void)
{
    return open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
}

static int go(struct netns *ns, const struct run_spec *s, int prepared, int dirfd, char *what, size_t what_size)
{
    AUTO_BUF struct buf names = {0};
    int r = prepared < 0 ? netns_new() : setns(prepared, CLONE_NEWNET) < 0 ? -errno : 0;
    if (r == 0)
        r = netns_open(ns, s, &names, what, what_size);
    return r == 0 && names.n ? write_hosts(&names, dirfd) : r;
}

struct errand {
    int r, space;
    struct netns ns;
    char what[120];
};

/* Has a child prepare the network. It shares our table of descriptors, so what it opens is open here; it reports the numbers. */
static int send_child(struct run_relay *w, const struct run_spec *s, int prepared, int dirfd, char *what, size_t what_size)
{
    struct errand done = {.r = -ECHILD, .space = -1, .ns = w->ns};
    struct clone_args args = {.flags = CLONE_FILES, .exit_signal = SIGCHLD};
    int told[2];
    if (pipe2(told, O_CLOEXEC) < 0)
        return -errno;
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0) {
        done.r = go(&done.ns, s, prepared, dirfd, done.what, sizeof done.what);
        done.space = done.r < 0 ? -1 : open_own();
        _exit(write(told[1], &done, sizeof done) < 0);
    }
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
    close(told[1]);
    if (read(told[0], &done, sizeof done) != (ssize_t)sizeof done)
        done.r = -ECHILD;
    close(told[0]);
    w->ns = done.ns;
    w->space = done.space;
    snprintf(what, what_size, "%s", done.what);
    return done.r;
}

int run_relay_enter_network(struct run_relay *w, const struct run_spec *s, int prepared, int dirfd, char *what, size_t what_size)
{
    w->host = open_own();
    if (w->host < 0)
        return -errno;
    if (setns(w->host, CLONE_NEWNET) == 0) /* a move to where we are: it only tells whether we would be allowed to come back */
        return go(&w->ns, s, prepared, dirfd, what, what_size);
    close(fd_take(&w->host));
    return send_child(w, s, prepared, dirfd, what, what_size);
}

void run_relay_return(struct run_relay *w)
{
    if (w->space >= 0)
        close(fd_take(&w->space));
    if (w->host < 0)
        return;
    if (setns(w->host, CLONE_NEWNET) < 0) {
        log_error("network", NULL, NULL, "cannot return to the host's network: %s", strerror(errno));
        _exit(1); /* the manager will find the run lost; without a network of ours there is no going on */
    }
    close(fd_take(&w->host));
}

int run_relay_poll(const struct run_relay *w, struct pollfd *p, int64_t now_ms)
{
    if (w->relay || now_ms < w->again_ms)
        return 0;
    for (int i = 0; i < w->ns.n; i++)
        p[i] = (struct pollfd){w->ns.listeners[i].fd, POLLIN, 0};
    return w->ns.n;
}

static char **make_argv(const struct run_relay *w, const struct run_spec *s)
{
    char **v = xcalloc((size_t)w->ns.n + 7, sizeof *v);
    v[0] = xstrdup(s->relay);
    v[1] = xstrdup("--home");
    v[2] = xstrdup(s->home);
    v[3] = xstrdup("--runtime");
    v[4] = xstrdup(s->runtime);
    v[5] = xasprintf("--uid=%lld", (long long)s->relay_uid);
    for (int i = 0; i < w->ns.n; i++) {
        const struct run_pair *t = &s->targets.v[w->ns.listeners[i].target];
        v[6 + i] = xasprintf(strchr(t->name, ':') ? "[%s]:%s" : "%s:%s", t->name, t->value);
    }
    return v;
}

void run_relay_start(struct run_relay *w, const struct run_spec *s, int64_t now_ms)
{
    int leash[2];
    if (pipe2(leash, O_CLOEXEC) < 0) {
        w->again_ms = now_ms + AGAIN_MS;
        return;
    }
    posix_spawn_file_actions_t fa;
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_adddup2(&fa, leash[0], 0);
    posix_spawn_file_actions_addopen(&fa, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&fa, 1, 2);
    for (int i = 0; i < w->ns.n; i++)
        posix_spawn_file_actions_adddup2(&fa, w->ns.listeners[i].fd, FIRST_LISTENER + i);
    posix_spawn_file_actions_addclosefrom_np(&fa, FIRST_LISTENER + w->ns.n);
    char **argv = make_argv(w, s);
    char *envp[] = {"PATH=/usr/bin:/bin", NULL};
    int r = spawn_start(argv, envp, &fa, POSIX_SPAWN_SETSIGDEF, &w->relay);
    for (char **at = argv; *at; at++)
        free(*at);
    free(argv);
    close(leash[0]);
    w->leash = leash[1];
    if (r == 0)
        return;
    log_error("relay", s->tenant, s->run_id, "cannot start %s: %s", s->relay, strerror(-r));
    w->relay = 0;
    close(fd_take(&w->leash));
    w->again_ms = now_ms + AGAIN_MS;
}

void run_relay_reap(struct run_relay *w, int64_t now_ms)
{
    if (!w->relay || waitpid(w->relay, NULL, WNOHANG) != w->relay)
        return;
    w->relay = 0;
    close(fd_take(&w->leash));
    w->again_ms = now_ms + AGAIN_MS;
}

void run_relay_stop(struct run_relay *w)
{
    if (!w->relay)
        return;
    kill(w->relay, SIGKILL);
    while (waitpid(w->relay, NULL, 0) < 0 && errno == EINTR) {
    }
    w->relay = 0;
    close(fd_take(&w->leash));
}

void run_relay_close(struct run_relay *w)
{
    run_relay_stop(w);
    netns_close(&w->ns);
    if (w->host >= 0)
        close(fd_take(&w->host));
}
