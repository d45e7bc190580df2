#include "run_handle.h"
#include "base/clk.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "loop/timer.h"
#include "spawner.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
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

struct run_handle {
    struct spawner *s;
    const struct run_handle_ops *ops;
    void *arg;
    char *tenant, *run_id, *claim, *dir;
    int conn;
    bool deserted; /* its channel closed: whoever could have started it is gone */
    struct event *conn_ev, *timer;
    bool stop, ended;
    bool unheard; /* its launcher says that its node may be off */
};

/* ---- one run ---- */

struct run_handle *run_handle_new(struct spawner *s, const char *tenant, const char *run_id, const struct run_handle_ops *ops,
                                  void *arg)
{
    struct run_handle *h = xcalloc(1, sizeof *h);
    *h = (struct run_handle){.s = s, .ops = ops, .arg = arg, .tenant = xstrdup(tenant), .run_id = xstrdup(run_id), .conn = -1};
    return h;
}

static void drop_conn(struct run_handle *h)
{
    if (h->conn_ev)
        event_free(h->conn_ev);
    h->conn_ev = NULL;
    if (h->conn >= 0)
        close(fd_take(&h->conn));
}

void run_handle_free(struct run_handle *h)
{
    if (!h)
        return;
    drop_conn(h);
    if (h->timer)
        event_free(h->timer);
    free(h->tenant);
    free(h->run_id);
    free(h->claim);
    free(h->dir);
    free(h);
}

void run_handle_set_step(struct run_handle *h, const char *claim, const char *dir)
{
    xstr_set(&h->claim, claim);
    xstr_set(&h->dir, dir);
    h->ended = h->deserted = false;
}

static void call_in(struct run_handle *h, int64_t ms, void (*fn)(evutil_socket_t, short, void *))
{
    if (h->timer)
        event_free(h->timer);
    h->timer = event_new(spawner_base(h->s), -1, 0, fn, h);
    timer_set(h->timer, ms);
}

static void order(struct run_handle *h, char what)
{
    if (h->conn >= 0 && send(h->conn, &what, 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        log_debug("order", h->tenant, h->run_id, "the runner does not listen");
}

/* The step is a job of the cluster, and is told of by its launcher alone. */
static bool is_job(const struct run_handle *h)
{
    AUTO_FREE char *path = xasprintf(WARDEN_JOBS "/%s.json", h->claim);
    return fd_exists(spawner_home(h->s)->dirfd, path);
}

bool run_handle_is_unheard(const struct run_handle *h)
{
    return h->unheard;
}

void run_handle_stop(struct run_handle *h)
{
    h->stop = true;
    order(h, RUN_ORDER_STOP);
}

bool run_handle_node_is_off(struct run_handle *h)
{
    if (h->unheard)
        order(h, RUN_ORDER_NODE_IS_OFF);
    return h->unheard;
}

void run_handle_acknowledge(struct run_handle *h)
{
    spawner_take_scratch(h->s, h->dir);
    order(h, RUN_ORDER_ACK);
    drop_conn(h);
}

/* The claim in a name CLAIM.sock or CLAIM.json; false: it is none. */
static bool claim_of(const char *name, const char *ending, char ret[ID_SIZE + 16])
{
    size_t n = strlen(name), m = strlen(ending);
    if (n <= m || n - m >= ID_SIZE + 16 || strcmp(name + n - m, ending) != 0)
        return false;
    memcpy(ret, name, n - m);
    ret[n - m] = 0;
    return true;
}

static void dismiss(int fd, const char *claim)
{
    char ack = RUN_ORDER_ACK;
    if (fd >= 0 && send(fd, &ack, 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        log_debug("order", NULL, claim, "nobody listens");
}

void run_handle_dismiss_ended(const struct home *h, bool (*is_ended)(void *arg, const char *claim), void *arg)
{
    DIR *d = fd_open_dir(AT_FDCWD, h->runtime);
    for (struct dirent *ent; d && (ent = readdir(d));) {
        char claim[ID_SIZE + 16];
        if (!claim_of(ent->d_name, ".sock", claim) || !is_ended(arg, claim))
            continue;
        AUTO_FREE char *path = xasprintf("%s/%s", h->runtime, ent->d_name);
        AUTO_FD int fd = fd_unix_connect(path, false);
        dismiss(fd, claim);
    }
    if (d)
        closedir(d);
}

static void end(struct run_handle *h, struct run_result *res)
{
    h->ended = true;
    h->ops->ended(h->arg, res);
}

static void on_resolve(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    run_handle_resolve(arg);
}

static struct run_result *lost(const struct run_handle *h, const char *why)
{
    struct run_result *res = xcalloc(1, sizeof *res);
    *res = (struct run_result){.run_id = xstrdup(h->run_id),
                               .outcome = RUN_lost,
                               .exit_code = -1,
                               .signal = -1,
                               .network_refused = -1,
                               .waited = RUN_WAITED_UNKNOWN,
                               .ended_wall_ms = clk_wall_ms(),
                               .error = xstrdup(why)};
    return res;
}

/* NULL: there is none, or none that can be read; then *ret_code says why. */
static struct run_result *read_result(const struct run_handle *h, int *ret_code)
{
    AUTO_BUF struct buf b = {0};
    AUTO_FREE char *path = xasprintf("%s/result.json", h->dir);
    struct run_result *res = xcalloc(1, sizeof *res);
    struct err e = {0};
    int n = fd_read_file(AT_FDCWD, path, &b, RUN_MAX_RESULT_BYTES, &e);
    if (n == 0)
        n = run_result_parse(b.p, b.n, res, &e);
    if (n == 0)
        return res;
    if (n != -ENOENT)
        log_error("result", h->tenant, h->run_id, "%s", e.msg);
    free(res);
    *ret_code = n;
    return NULL;
}

/* The runner has proved that nothing is left of the step, and waits for its acknowledgement. What it wrote may be of a newer
 * version, or damaged, and will not change: the step counts as lost. */
static void on_said_ended(struct run_handle *h)
{
    int code = 0;
    struct run_result *res = read_result(h, &code);
    crash_at(CRASH_result_read);
    event_del(h->conn_ev); /* nothing more is to come; the channel stays for the acknowledgement */
    if (!res && (code == ERR_VERSION || code == ERR_FORMAT))
        res = lost(h, "its result.json cannot be read, since it is damaged or of another version");
    if (res)
        end(h, res);
    else
        call_in(h, RESOLVE_AGAIN_MS, on_resolve);
}

/* A launcher sends what it says and the line in one piece, so the line is there. */
static void read_line(int fd, char line[RUN_SAID_MAX_TEXT + 2])
{
    size_t n = 0;
    while (n < RUN_SAID_MAX_TEXT + 1 && recv(fd, &line[n], 1, MSG_DONTWAIT) == 1 && line[n] != '\n')
        n++;
    line[n] = 0;
}

static void on_cannot(struct run_handle *h, int fd)
{
    char line[RUN_SAID_MAX_TEXT + 2];
    read_line(fd, line);
    drop_conn(h);
    AUTO_FREE char *why = xasprintf("it cannot be made a job: %s; trying again", line);
    h->ops->cancelled(h->arg, why, NO_FORK_PAUSE_MS);
}

/* What a launcher says of the run elsewhere. */
static void on_note(struct run_handle *h, int fd, enum run_said said)
{
    char line[RUN_SAID_MAX_TEXT + 2];
    read_line(fd, line);
    if (said != RUN_SAID_NODE)
        h->unheard = said == RUN_SAID_UNHEARD;
    if (h->ops->noted)
        h->ops->noted(h->arg, said == RUN_SAID_UNHEARD ? RUN_SAID_WAITS : said, line);
}

static void on_conn(evutil_socket_t fd, short what, void *arg)
{
    struct run_handle *h = arg;
    char said;
    (void)what;
    ssize_t n = recv(fd, &said, 1, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        drop_conn(h);
        h->deserted = true;
        if (!h->ended && is_job(h))
            call_in(h, RESOLVE_AGAIN_MS, on_resolve); /* the launcher ended; the warden starts another */
        else if (!h->ended)
            run_handle_resolve(h);
    } else if (said == RUN_SAID_NODE || said == RUN_SAID_WAITS || said == RUN_SAID_UNHEARD) {
        on_note(h, fd, (enum run_said)said);
    } else if (said == RUN_SAID_CANNOT) {
        on_cannot(h, fd);
    } else if (said == RUN_SAID_STARTED) {
        h->ops->started(h->arg);
    } else if (said == RUN_SAID_ENDED) {
        on_said_ended(h);
    } else if (said == RUN_SAID_NO_FORK) {
        drop_conn(h);
        spawner_pause(h->s, NO_FORK_PAUSE_MS);
        h->ops->cancelled(h->arg, "the process table is full; trying again later", NO_FORK_PAUSE_MS);
    } else if (said == RUN_SAID_DENIED) {
        drop_conn(h);
        h->ops->cancelled(h->arg, "the warden refused it (its line in the log says why); trying again later", DENIED_PAUSE_MS);
    }
}

static void watch(struct run_handle *h, int fd)
{
    drop_conn(h);
    h->conn = fd;
    h->conn_ev = event_new(spawner_base(h->s), fd, EV_READ | EV_PERSIST, on_conn, h);
    event_add(h->conn_ev, NULL);
    if (h->stop)
        order(h, RUN_ORDER_STOP);
}

void run_handle_start(struct run_handle *h, const struct run_spec *spec)
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
        n = spawner_tell(h->s, &(struct warden_request){.op = WARDEN_RUN}, NULL, fds, 2);
    }
    crash_at(CRASH_spawn_send);
    if (pair[1] >= 0)
        close(pair[1]);
    if (n == 0) {
        watch(h, pair[0]);
        return;
    }
    AUTO_FREE char *why = xasprintf("cannot hand the run to the warden: %s", err_text(n));
    if (pair[0] >= 0)
        close(pair[0]);
    spawner_pause(h->s, TELL_AGAIN_MS);
    h->ops->cancelled(h->arg, why, TELL_AGAIN_MS);
}

/* ---- without a channel ---- */

/* True when nothing is left of the step; the rest is killed. Its cgroup goes with that. */
static bool end_rest(struct run_handle *h, bool kills)
{
    char answer = 'n';
    return spawner_ask(h->s, &(struct warden_request){.op = WARDEN_END, .number = kills}, h->claim, &answer, 1) == 1 &&
           answer == 'y';
}

/* Ends what a dead runner left. */
static void on_lost_tick(evutil_socket_t fd, short what, void *arg)
{
    struct run_handle *h = arg;
    (void)fd;
    (void)what;
    if (!end_rest(h, true)) {
        call_in(h, KILL_TICK_MS, on_lost_tick);
        return;
    }
    end(h, lost(h, "its runner died; everything that was left of the run was ended"));
}

/* With the directory that it lies in, which nobody else makes again. */
static int make_fence(const char *dir)
{
    AUTO_FREE char *parent = xstrdup(dir);
    *strrchr(parent, '/') = 0; /* an absolute path */
    return mkdir(dir, 0711) == 0 || (errno == ENOENT && mkdir(parent, 0711) == 0 && mkdir(dir, 0711) == 0) ? 0 : -1;
}

/* The channel to the launcher of the step's job, or -errno. */
static int attach_to(struct spawner *s, const char *claim)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    int n = spawner_tell(s, &(struct warden_request){.op = WARDEN_ATTACH}, claim, &pair[1], 1);
    close(pair[1]);
    if (n < 0)
        close(pair[0]);
    return n < 0 ? n : pair[0];
}

void run_handle_dismiss_ended_jobs(struct spawner *s, bool (*is_ended)(void *arg, const char *claim), void *arg)
{
    DIR *d = fd_open_dir(spawner_home(s)->dirfd, WARDEN_JOBS);
    for (struct dirent *ent; d && (ent = readdir(d));) {
        char claim[ID_SIZE + 16];
        if (!claim_of(ent->d_name, ".json", claim) || !is_ended(arg, claim))
            continue;
        AUTO_FD int fd = attach_to(s, claim);
        dismiss(fd, claim); /* which is read before the end of the channel is */
    }
    if (d)
        closedir(d);
}

static void attach(struct run_handle *h)
{
    int n = attach_to(h->s, h->claim);
    if (n >= 0) {
        watch(h, n);
        return;
    }
    log_error("attach", h->tenant, h->run_id, "cannot ask the warden for the run's job: %s; trying again", err_text(n));
    call_in(h, RESOLVE_AGAIN_MS, on_resolve);
}

void run_handle_resolve(struct run_handle *h)
{
    if (is_job(h)) {
        attach(h);
        return;
    }
    AUTO_FREE char *lock_path = xasprintf("%s/%s.lock", spawner_home(h->s)->runtime, h->claim);
    AUTO_FREE char *sock_path = xasprintf("%s/%s.sock", spawner_home(h->s)->runtime, h->claim);
    AUTO_FD int lock = open(lock_path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (lock < 0 || flock(lock, LOCK_EX | LOCK_NB) < 0) {
        int fd = lock < 0 ? -1 : fd_unix_connect(sock_path, false);
        if (fd >= 0)
            watch(h, fd);
        else
            call_in(h, RESOLVE_MS, on_resolve); /* it took the lock and is about to listen, or is about to end */
        return;
    }
    int code;
    struct run_result *res = read_result(h, &code);
    unlink(sock_path);
    unlink(lock_path);
    if (res) {
        end_rest(h, false);
        end(h, res);
    } else if (make_fence(h->dir) == 0) {
        h->ops->cancelled(h->arg, "it was never started", 0);
    } else if (errno != EEXIST && h->deserted) {
        AUTO_FREE char *why = xasprintf("it was never started: cannot make %s: %s", h->dir, strerror(errno));
        h->ops->cancelled(h->arg, why, RESOLVE_AGAIN_MS);
    } else if (errno == EEXIST) {
        on_lost_tick(-1, 0, h);
    } else {
        call_in(h, RESOLVE_AGAIN_MS, on_resolve);
    }
}
