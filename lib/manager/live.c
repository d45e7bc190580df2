#include "live.h"
#include "base/clk.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "spawner.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    TELL_AGAIN_MS = 100,
    DENIED_PAUSE_MS = 1000,
    RESOLVE_MS = 50,
    RESOLVE_AGAIN_MS = 1000,
    KILL_TICK_MS = 20,
    NO_FORK_PAUSE_MS = 1000
};

struct live {
    struct spawner *s;
    const struct live_ops *ops;
    void *arg;
    char *tenant, *run_id, *claim, *dir;
    int conn;
    bool deserted; /* its channel closed: whoever could have started it is gone */
    struct event *conn_ev, *timer;
    bool stop, ended;
};

/* ---- one run ---- */

struct live *live_new(struct spawner *s, const char *tenant, const char *run_id, const struct live_ops *ops, void *arg)
{
    struct live *l = xcalloc(1, sizeof *l);
    *l = (struct live){.s = s, .ops = ops, .arg = arg, .tenant = xstrdup(tenant), .run_id = xstrdup(run_id), .conn = -1};
    return l;
}

static void drop_conn(struct live *l)
{
    if (l->conn_ev)
        event_free(l->conn_ev);
    l->conn_ev = NULL;
    if (l->conn >= 0)
        close(fd_take(&l->conn));
}

void live_free(struct live *l)
{
    if (!l)
        return;
    drop_conn(l);
    if (l->timer)
        event_free(l->timer);
    free(l->tenant);
    free(l->run_id);
    free(l->claim);
    free(l->dir);
    free(l);
}

void live_set_step(struct live *l, const char *claim, const char *dir)
{
    xstr_set(&l->claim, claim);
    xstr_set(&l->dir, dir);
    l->ended = l->deserted = false;
}

static void call_in(struct live *l, int64_t ms, void (*fn)(evutil_socket_t, short, void *))
{
    struct timeval tv = {ms / 1000, ms % 1000 * 1000};
    if (l->timer)
        event_free(l->timer);
    l->timer = event_new(spawner_base(l->s), -1, 0, fn, l);
    event_add(l->timer, &tv);
}

static void order(struct live *l, char what)
{
    if (l->conn >= 0 && send(l->conn, &what, 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        log_debug("order", l->tenant, l->run_id, "the runner does not listen");
}

void live_stop(struct live *l)
{
    l->stop = true;
    order(l, RUN_ORDER_STOP);
}

void live_acknowledge(struct live *l)
{
    spawner_take_scratch(l->s, l->dir);
    order(l, RUN_ORDER_ACK);
    drop_conn(l);
}

void live_dismiss_ended(const struct home *h, bool (*is_ended)(void *arg, const char *claim), void *arg)
{
    DIR *d = fd_open_dir(AT_FDCWD, h->runtime);
    for (struct dirent *ent; d && (ent = readdir(d));) {
        char claim[ID_SIZE + 16];
        size_t n = strlen(ent->d_name);
        if (n < 6 || n - 5 >= sizeof claim || strcmp(ent->d_name + n - 5, ".sock") != 0)
            continue;
        memcpy(claim, ent->d_name, n - 5);
        claim[n - 5] = 0;
        if (!is_ended(arg, claim))
            continue;
        AUTO_FREE char *path = xasprintf("%s/%s", h->runtime, ent->d_name);
        AUTO_FD int fd = fd_unix_connect(path, false);
        char ack = RUN_ORDER_ACK;
        if (fd >= 0 && send(fd, &ack, 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
            log_debug("order", NULL, claim, "the runner does not listen");
    }
    if (d)
        closedir(d);
}

static void end(struct live *l, struct run_result *res)
{
    l->ended = true;
    l->ops->ended(l->arg, res);
}

static struct run_result *read_result(const struct live *l)
{
    AUTO_BUF struct buf b = {0};
    AUTO_FREE char *path = xasprintf("%s/result.json", l->dir);
    struct run_result *res = xcalloc(1, sizeof *res);
    struct err e = {0};
    int n = fd_read_file(AT_FDCWD, path, &b, RUN_MAX_RESULT_BYTES, &e);
    if (n == 0)
        n = run_result_parse(b.p, b.n, res, &e);
    if (n == 0)
        return res;
    if (n != -ENOENT)
        log_error("result", l->tenant, l->run_id, "%s", e.msg);
    free(res);
    return NULL;
}

static void on_conn(evutil_socket_t fd, short what, void *arg)
{
    struct live *l = arg;
    char said;
    (void)what;
    ssize_t n = recv(fd, &said, 1, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        drop_conn(l);
        l->deserted = true;
        if (!l->ended)
            live_resolve(l);
    } else if (said == RUN_SAID_STARTED) {
        l->ops->started(l->arg);
    } else if (said == RUN_SAID_ENDED) {
        struct run_result *res = read_result(l);
        crash_at(CRASH_result_read);
        event_del(l->conn_ev); /* nothing more is to come; the channel stays for the acknowledgement */
        if (res)
            end(l, res);
        else
            live_resolve(l);
    } else if (said == RUN_SAID_NO_FORK) {
        drop_conn(l);
        spawner_pause(l->s, NO_FORK_PAUSE_MS);
        l->ops->cancelled(l->arg, "the process table is full; trying again later", NO_FORK_PAUSE_MS);
    } else if (said == RUN_SAID_DENIED) {
        drop_conn(l);
        l->ops->cancelled(l->arg, "the warden refused it (its line in the log says why); trying again later", DENIED_PAUSE_MS);
    }
}

static void watch(struct live *l, int fd)
{
    drop_conn(l);
    l->conn = fd;
    l->conn_ev = event_new(spawner_base(l->s), fd, EV_READ | EV_PERSIST, on_conn, l);
    event_add(l->conn_ev, NULL);
    if (l->stop)
        order(l, RUN_ORDER_STOP);
}

void live_start(struct live *l, const struct run_spec *spec)
{
    AUTO_BUF struct buf text = {0};
    AUTO_FD int file = memfd_create("run-spec", MFD_CLOEXEC);
    int pair[2] = {-1, -1};
    run_spec_write(spec, &text);
    int n = file < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 ? -errno : 0;
    if (n == 0)
        n = fd_write_all(file, text.p, text.n);
    if (n == 0) {
        int fds[] = {file, pair[1]};
        n = spawner_tell(l->s, &(struct warden_request){.op = WARDEN_RUN}, NULL, fds, 2);
    }
    crash_at(CRASH_spawn_send);
    if (pair[1] >= 0)
        close(pair[1]);
    if (n == 0) {
        watch(l, pair[0]);
        return;
    }
    AUTO_FREE char *why = xasprintf("cannot hand the run to the warden: %s", err_text(n));
    if (pair[0] >= 0)
        close(pair[0]);
    spawner_pause(l->s, TELL_AGAIN_MS);
    l->ops->cancelled(l->arg, why, TELL_AGAIN_MS);
}

/* ---- without a channel ---- */

static void on_resolve(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    live_resolve(arg);
}

/* True when nothing is left of the step; the rest is killed. Its cgroup goes with that. */
static bool end_rest(struct live *l, bool kills)
{
    char answer = 'n';
    return spawner_ask(l->s, &(struct warden_request){.op = WARDEN_END, .number = kills}, l->claim, &answer, 1) == 1 &&
           answer == 'y';
}

/* Ends what a dead runner left. */
static void on_lost_tick(evutil_socket_t fd, short what, void *arg)
{
    struct live *l = arg;
    (void)fd;
    (void)what;
    if (!end_rest(l, true)) {
        call_in(l, KILL_TICK_MS, on_lost_tick);
        return;
    }
    struct run_result *res = xcalloc(1, sizeof *res);
    *res = (struct run_result){.run_id = xstrdup(l->run_id),
                               .outcome = RUN_lost,
                               .exit_code = -1,
                               .signal = -1,
                               .network_refused = -1,
                               .ended_wall_ms = clk_wall_ms(),
                               .error = xstrdup("its runner died; everything that was left of the run was ended")};
    end(l, res);
}

/* With the directory that it lies in, which nobody else makes again. */
static int make_fence(const char *dir)
{
    AUTO_FREE char *parent = xstrdup(dir);
    *strrchr(parent, '/') = 0; /* an absolute path */
    return mkdir(dir, 0711) == 0 || (errno == ENOENT && mkdir(parent, 0711) == 0 && mkdir(dir, 0711) == 0) ? 0 : -1;
}

void live_resolve(struct live *l)
{
    AUTO_FREE char *lock_path = xasprintf("%s/%s.lock", spawner_home(l->s)->runtime, l->claim);
    AUTO_FREE char *sock_path = xasprintf("%s/%s.sock", spawner_home(l->s)->runtime, l->claim);
    AUTO_FD int lock = open(lock_path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (lock < 0 || flock(lock, LOCK_EX | LOCK_NB) < 0) {
        int fd = lock < 0 ? -1 : fd_unix_connect(sock_path, false);
        if (fd >= 0)
            watch(l, fd);
        else
            call_in(l, RESOLVE_MS, on_resolve); /* it took the lock and is about to listen, or is about to end */
        return;
    }
    struct run_result *res = read_result(l);
    unlink(sock_path);
    unlink(lock_path);
    if (res) {
        end_rest(l, false);
        end(l, res);
    } else if (make_fence(l->dir) == 0) {
        l->ops->cancelled(l->arg, "it was never started", 0);
    } else if (errno != EEXIST && l->deserted) {
        AUTO_FREE char *why = xasprintf("it was never started: cannot make %s: %s", l->dir, strerror(errno));
        l->ops->cancelled(l->arg, why, RESOLVE_AGAIN_MS);
    } else if (errno == EEXIST) {
        on_lost_tick(-1, 0, l);
    } else {
        call_in(l, RESOLVE_AGAIN_MS, on_resolve);
    }
}
