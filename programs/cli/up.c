/* `mysimbdp up` supervises the programs of a home, not their runs. A program that ends is started again at once, then
 * with a delay that doubles up to ten seconds (its upper half at random, so that what failed together does not come back
 * together) and is forgotten after ten seconds of health. Before everything was ready
 * once, a program that ends with an error ends `up` too, with that program's last words: nothing starts half-configured.
 *
 * A program's stdin is a pipe that only `up` holds: when `up` is killed, the programs see its end and stop (runs live on),
 * so that the next `up` finds the home free.
 *
 * SIGINT, SIGTERM and `mysimbdp down`: the managers are asked to drain (runs end with grace, their files are queued again;
 * instances of stream apps end), then the programs are stopped in reverse order. A second signal, or `down --leave-runs`, ends
 * the drain: somebody is in a hurry, or a manager hangs.
 *
 * `mysimbdp upgrade`: one program after the other is stopped, started from what is installed now, and has to answer before the next
 * one's turn comes. Runs and instances are no children of theirs in this sense: they go on, as when a program is killed. */
#include "accept.h"
#include "account_change.h"
#include "cli.h"
#include "mongo.h"
#include "service.h"
#include "up_table.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/log_sink.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "conf/history.h"
#include "run/leftovers.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum {
    MAX_PROGRAMS = 8,
    FIRST_DELAY_MS = 100,
    MAX_DELAY_MS = 10000,
    HEALTHY_MS = 10000,
    TICK_MS = 50,
    TERM_WAIT_MS = 10000,
    WARNINGS_WAIT_MS = 2000,
    LOG_ROTATE_BYTES = 64 << 20,
    N_DRAINS = 2,
    MAX_WAITERS = 16,
    LEASH_FD = 3,
    UPGRADE_WAIT_MS = 120000, /* for a program to answer, which may have much to read first */
    UPGRADE_MAX_ENDS = 5,     /* of a program that was started again: then it will not come up */
    HURRY_MS = 500,           /* a second signal so soon after the first counts as the same */
    DRAIN_ASK_MS = 10000,
};

struct program {
    const char *name;
    char **argv;
    char *own_argv[5]; /* argv of our own programs points here: they read the configuration themselves */
    pid_t pid;         /* 0: not running */
    int leash;         /* write end of its stdin (its leash): the program ends when `up` is gone */
    int listener;      /* a descriptor that it gets as stdin; its leash is LEASH_FD then. -1: none */
    int64_t started_ms, restart_at_ms, delay_ms;
    int64_t started_wall_ms, ended_wall_ms, restarts;
    int status; /* of its last end */
};

struct up {
    struct home home;
    struct conf *conf;
    struct conf_texts texts; /* what the programs are started with, until they are ready */
    char *who;               /* started it */
    struct mongo_plan mongo;
    struct program programs[MAX_PROGRAMS];
    size_t n;
    int sigfd, listener;
    struct drain {
        const char *program;
        int fd; /* the connection on which a manager tells when no run is left; -1: it was not asked yet */
        bool wanted;
    } drains[N_DRAINS];
    pid_t warnings;      /* the checks for warnings; 0: not running */
    int64_t stopping_ms; /* since then */
    bool ready, stopping, leave_runs, failed;
    bool news;                /* of programs, which state/programs.json does not have yet */
    int waiters[MAX_WAITERS]; /* connections of those who asked for `down`, which are answered when it is done */
    size_t n_waiters;
    struct upgrade {
        int waiter;       /* the connection of who asked; -1: none is going on */
        size_t at;        /* the program whose turn it is */
        int64_t since_ms; /* when it was told to end; 0: it was not */
        int n_ends;       /* after that */
    } upgrade;
};

static bool is_ours(const struct program *p)
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

static void tell_programs(struct up *u)
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

static void start(struct up *u, struct program *p)
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

static bool is_being_upgraded(const struct up *u, const struct program *p)
{
    return u->upgrade.waiter >= 0 && u->upgrade.since_ms && &u->programs[u->upgrade.at] == p;
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
    if (is_being_upgraded(u, p) && u->upgrade.n_ends++ == 0) {
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

static void reap(struct up *u)
{
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
        for (size_t i = 0; i < u->n; i++)
            if (u->programs[i].pid == pid)
                on_end(u, &u->programs[i], status);
            else if (u->warnings == pid)
                u->warnings = 0;
}

/* The programs that tenants reach over ZeroMQ. */
static void add_endpoint(struct buf *b, const char *program, const bson_t *status)
{
    json_begin(b, program, '{');
    json_str(b, "ipc", json_get_str(status, "ipc", NULL));
    json_str(b, "tcp", json_get_str(status, "tcp", NULL));
    json_str(b, "server_key", json_get_str(status, "server_key", NULL));
    json_end(b, '}');
}

/* gateway NULL: there is none. */
static void write_endpoints(struct up *u, const bson_t *broker, const bson_t *monitor, const bson_t *gateway)
{
    AUTO_BUF struct buf b = {0};
    AUTO_FREE char *sock = home_socket(&u->home, "batchmgr.sock");
    struct err e = {0};
    json_begin(&b, NULL, '{');
    json_str(&b, "mongo_url", u->mongo.url);
    json_begin(&b, "batchmgr", '{');
    json_str(&b, "ipc", sock);
    json_end(&b, '}');
    AUTO_FREE char *stream_sock = home_socket(&u->home, "streammgr.sock");
    json_begin(&b, "streammgr", '{');
    json_str(&b, "ipc", stream_sock);
    json_end(&b, '}');
    add_endpoint(&b, "broker", broker);
    add_endpoint(&b, "monitor", monitor);
    if (gateway) {
        json_begin(&b, "gateway", '{');
        json_str(&b, "http", json_get_str(gateway, "url", NULL));
        json_end(&b, '}');
    }
    json_end(&b, '}');
    buf_adds(&b, "\n");
    if (fd_write_file(u->home.dirfd, "state/endpoints.json", b.p, b.n, 0600, &e) < 0)
        log_error("endpoints", NULL, NULL, "%s", e.msg);
}

/* A connection to one of our programs. Does not wait for a program that does not accept it. */
static int connect_to(const struct up *u, const char *program)
{
    AUTO_FREE char *name = xasprintf("%s.sock", program);
    AUTO_FREE char *path = home_socket(&u->home, name);
    return fd_unix_connect(path, false);
}

static bson_t *status_of(const struct up *u, const char *program)
{
    bson_t *status = NULL;
    AUTO_FD int fd = connect_to(u, program);
    struct timeval patience = {1, 0};
    if (fd < 0 || fcntl(fd, F_SETFL, 0) < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) < 0 ||
        cli_exchange(fd, "{\"op\":\"status\"}", &status, NULL) < 0)
        return NULL;
    return status;
}

/* Starts the checks for warnings (what will go wrong although the platform is well). */
static void start_warnings(struct up *u)
{
    AUTO_FREE char *program = home_program(&u->home, "mysimbdp");
    char *argv[] = {program, "doctor", "--warn", "--home", u->home.path, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
    int r = spawn_start(argv, environ, &actions, POSIX_SPAWN_SETPGROUP, &u->warnings);
    if (r < 0) {
        u->warnings = 0;
        log_warn("warnings", NULL, NULL, "cannot start %s: %s", program, err_text(r));
    }
}

/* The configuration is in force: it is kept, unless it was changed since the first of the programs began to read it. */
static void keep_configuration(struct up *u)
{
    struct conf_texts now = {0};
    struct err e = {0};
    AUTO_FD int lock = accept_lock(&u->home, 0, &e); /* who has it keeps what comes of that */
    if (lock >= 0 && conf_texts_read(u->home.dirfd, &now, &e) == 0 && conf_texts_equal(&now, &u->texts))
        accept_note(&u->home, u->who, "up");
    conf_texts_fini(&now);
    conf_texts_fini(&u->texts);
}

/* All programs read the configuration again, in their order, and it is kept who asked. */
static void start_reload(struct up *u)
{
    AUTO_FREE char *program = home_program(&u->home, "mysimbdp");
    char *argv[] = {program, "reload", "--by", u->who, "--home", u->home.path, NULL};
    posix_spawn_file_actions_t actions;
    pid_t pid;
    posix_spawn_file_actions_init(&actions);
    int r = spawn_start(argv, environ, &actions, POSIX_SPAWN_SETPGROUP, &pid); /* its end is reaped with the others' */
    if (r < 0)
        log_error("reload", NULL, NULL, "cannot start %s: %s", program, err_text(r));
}

static bool has_gateway(const struct up *u)
{
    return *u->conf->platform.http.listen;
}

/* The desk has no orders that it takes from `up`: it answers tenants. */
static bool is_listening(const struct up *u, const char *program)
{
    AUTO_FD int fd = connect_to(u, program);
    return fd >= 0;
}

/* Everything answers: that is said once. */
static void check_ready(struct up *u)
{
    AUTO_BSON bson_t *batchmgr = NULL, *broker = NULL, *streammgr = NULL, *monitor = NULL, *gateway = NULL;
    if (!(batchmgr = status_of(u, "batchmgr")) || !(streammgr = status_of(u, "streammgr")) ||
        !(monitor = status_of(u, "monitor")) || !(broker = status_of(u, "broker")) || !is_listening(u, "desk") ||
        (has_gateway(u) && !((gateway = status_of(u, "gateway")) && json_get_bool(gateway, "ready", false))))
        return;
    bool up = !strcmp(json_get_str(batchmgr, "database", ""), "up");
    /* A MongoDB that is not ours may be down for long: the platform works without it and says so. */
    if (!up && strcmp(u->mongo.kind, "url"))
        return;
    u->ready = true;
    write_endpoints(u, broker, monitor, gateway);
    keep_configuration(u);
    service_tell(up ? "READY=1\nSTATUS=ready" : "READY=1\nSTATUS=ready, but MongoDB does not answer");
    start_warnings(u);
    printf("mysimbdp: ready; home %s; `mysimbdp down --home %s` or ^C stops\n", u->home.path, u->home.path);
    if (gateway)
        printf("mysimbdp: tenants at %s\n", json_get_str(gateway, "url", ""));
    if (!up)
        printf("mysimbdp: MongoDB does not answer; files are taken in and wait (`mysimbdp status` says why)\n");
    fflush(stdout);
}

static void begin_stop(struct up *u)
{
    if (u->stopping)
        return;
    u->stopping = true;
    u->stopping_ms = clk_now_ms();
    service_tell(u->leave_runs ? "STOPPING=1\nSTATUS=stopping; runs go on"
                               : "STOPPING=1\nSTATUS=stopping; waiting for runs to end");
    if (u->leave_runs)
        return;
    for (size_t i = 0; i < N_DRAINS; i++)
        u->drains[i].wanted = true;
}

static void end_drain(struct up *u)
{
    for (size_t i = 0; i < N_DRAINS; i++) {
        struct drain *d = &u->drains[i];
        if (!d->wanted)
            continue;
        log_warn("drain", NULL, NULL, "not waiting for the runs of %s; they go on, and the next `up` takes them back", d->program);
        d->wanted = false;
        if (d->fd >= 0)
            close(fd_take(&d->fd));
    }
}

/* ---- upgrade ---- */

static void upgrade_end(struct up *u, const char *error)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_bool(&b, "ok", !error);
    if (error) {
        json_str(&b, "error", error);
        json_str(&b, "code", "unavailable");
    }
    json_i64(&b, "n", (int64_t)u->upgrade.at);
    json_end(&b, '}');
    buf_adds(&b, "\n");
    if (send(u->upgrade.waiter, b.p, b.n, MSG_NOSIGNAL) < 0)
        log_debug("upgrade", NULL, NULL, "whoever asked is gone");
    close(fd_take(&u->upgrade.waiter));
    service_tell(error ? "STATUS=ready; an upgrade ended before it was done" : "STATUS=ready");
    log_info("upgrade", NULL, NULL, "%zu of %zu programs were started again%s%s", u->upgrade.at, u->n, error ? ": " : "",
             error ? error : "");
}

static bool answers(struct up *u, const struct program *p)
{
    if (!is_ours(p)) /* MongoDB: what it is asked by answers for it */
        return p->pid != 0;
    if (!strcmp(p->name, "desk"))
        return is_listening(u, p->name);
    AUTO_BSON bson_t *status = status_of(u, p->name);
    return status && (strcmp(p->name, "gateway") || json_get_bool(status, "ready", false)) &&
           (strcmp(p->name, "batchmgr") || !strcmp(u->mongo.kind, "url") || !strcmp(json_get_str(status, "database", ""), "up"));
}

/* The program whose turn it is. One that ended meanwhile by itself is started by tick() anyway. */
static void upgrade_step(struct up *u)
{
    struct program *p = &u->programs[u->upgrade.at];
    int64_t now = clk_now_ms();
    if (!u->upgrade.since_ms) {
        u->upgrade.since_ms = now;
        u->upgrade.n_ends = p->pid == 0;
        if (p->pid)
            kill(p->pid, SIGTERM); /* it was not reaped, so the pid is still its own */
    } else if (p->pid && p->started_ms < u->upgrade.since_ms) {
        if (now - u->upgrade.since_ms >= TERM_WAIT_MS)
            kill(p->pid, SIGKILL);
    } else if (p->pid && answers(u, p)) {
        u->upgrade.since_ms = 0;
        if (++u->upgrade.at == u->n)
            upgrade_end(u, NULL);
    } else if (u->upgrade.n_ends > UPGRADE_MAX_ENDS || now - u->upgrade.since_ms >= UPGRADE_WAIT_MS) {
        AUTO_FREE char *error = xasprintf("%s does not answer after it was started again; logs/%s.log says why. It goes on being "
                                          "started; those after it run as they were",
                                          p->name, p->name);
        u->upgrade.since_ms = 0;
        upgrade_end(u, error);
    }
}

/* The connection is ours from here on. */
static void begin_upgrade(struct up *u, int fd)
{
    static const char busy[] =
        "{\"ok\":false,\"error\":\"the platform is starting or stopping, or an upgrade is going on\",\"code\":\"busy\"}\n";
    if (!u->ready || u->stopping || u->upgrade.waiter >= 0) {
        if (send(fd, busy, sizeof busy - 1, MSG_NOSIGNAL) < 0)
            log_debug("upgrade", NULL, NULL, "whoever asked is gone");
        close(fd);
        return;
    }
    u->upgrade = (struct upgrade){.waiter = fd};
    service_tell("STATUS=upgrading");
}

static void on_down(struct up *u)
{
    char line[256];
    int fd = accept4(u->listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    struct timeval tv = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
    ssize_t n = recv(fd, line, sizeof line - 1, 0);
    if (n <= 0 || u->n_waiters == MAX_WAITERS) {
        close(fd);
        return;
    }
    line[n] = 0;
    if (strstr(line, "\"upgrade\"")) {
        begin_upgrade(u, fd);
        return;
    }
    u->waiters[u->n_waiters++] = fd;
    u->leave_runs |= strstr(line, "leave_runs") != NULL;
    if (u->leave_runs)
        end_drain(u);
    begin_stop(u);
}

static void on_signal(struct up *u)
{
    struct signalfd_siginfo si;
    while (read(u->sigfd, &si, sizeof si) == (ssize_t)sizeof si) {
        if (si.ssi_signo == SIGHUP) {
            start_reload(u);
        } else if (si.ssi_signo != SIGCHLD) {
            if (u->stopping && clk_now_ms() - u->stopping_ms >= HURRY_MS)
                end_drain(u);
            begin_stop(u);
        }
    }
}

/* What every loop does between two waits. */
static void attend(struct up *u)
{
    on_signal(u);
    reap(u);
    service_alive();
}

static void tick(struct up *u)
{
    int64_t now = clk_now_ms();
    for (size_t i = 0; i < u->n && !u->stopping; i++) {
        struct program *p = &u->programs[i];
        if (!p->pid && p->restart_at_ms <= now)
            start(u, p);
    }
    if (!u->ready && !u->stopping)
        check_ready(u);
    if (u->upgrade.waiter >= 0 && !u->stopping)
        upgrade_step(u);
}

/* How long to wait: for ever, unless something is starting or waits for its restart, or a service manager is to hear of us. */
static int next_tick_ms(const struct up *u)
{
    bool busy = !u->ready || u->upgrade.waiter >= 0;
    const int due = service_due_ms();
    for (size_t i = 0; i < u->n; i++)
        busy |= u->programs[i].pid == 0;
    return !busy || (due >= 0 && due < TICK_MS) ? due : TICK_MS;
}

/* Waits until reaping has set *pid to 0, or for so long. */
static void wait_for_end(struct up *u, const pid_t *pid, int64_t ms)
{
    int64_t until = clk_now_ms() + ms;
    while (*pid && clk_now_ms() < until) {
        struct pollfd f = {u->sigfd, POLLIN, 0};
        poll(&f, 1, TICK_MS);
        attend(u);
    }
}

/* The checks have the databases open. Who asked for `down` may then do with the home's files as he likes. */
static void stop_warnings(struct up *u)
{
    wait_for_end(u, &u->warnings, WARNINGS_WAIT_MS);
    if (u->warnings) {
        kill(-u->warnings, SIGKILL); /* a group of its own; not reaped, so the id is still its own */
        waitpid(u->warnings, NULL, 0);
        u->warnings = 0;
    }
}

static void stop_program(struct up *u, struct program *p)
{
    if (!p->pid)
        return;
    kill(p->pid, SIGTERM); /* it is our child and was not reaped, so the pid is still its own */
    wait_for_end(u, &p->pid, TERM_WAIT_MS);
    if (p->pid) {
        log_warn("kill", NULL, NULL, "%s does not end after SIGTERM", p->name);
        kill(p->pid, SIGKILL);
        waitpid(p->pid, NULL, 0);
        p->pid = 0;
    }
}

static struct program *program_of(struct up *u, const char *name)
{
    for (size_t i = 0; i < u->n; i++)
        if (!strcmp(u->programs[i].name, name))
            return &u->programs[i];
    return NULL;
}

/* Asks both managers to end all runs. A manager that is not running is started for that, since nobody else knows its runs. */
static void ask_to_drain(struct up *u, struct drain *d)
{
    struct program *p = program_of(u, d->program);
    int64_t now = clk_now_ms();
    if (now - u->stopping_ms > DRAIN_ASK_MS) {
        log_error("drain", NULL, NULL, "%s cannot be asked to end its runs; they may go on, and the next `up` takes them back",
                  d->program);
        d->wanted = false;
        return;
    }
    if (p && !p->pid && p->restart_at_ms <= now)
        start(u, p);
    d->fd = connect_to(u, d->program);
    if (d->fd >= 0 && send(d->fd, "{\"op\":\"drain\"}\n", 15, MSG_NOSIGNAL) < 0)
        close(fd_take(&d->fd));
}

static void wait_for_drain(struct up *u)
{
    bool wanted = true;
    while (wanted) {
        struct pollfd p[N_DRAINS + 2] = {{u->sigfd, POLLIN, 0}, {u->listener, POLLIN, 0}};
        char answer[256];
        bool asking = false;
        wanted = false;
        for (size_t i = 0; i < N_DRAINS; i++) {
            struct drain *d = &u->drains[i];
            if (d->wanted && d->fd < 0)
                ask_to_drain(u, d);
            p[2 + i] = (struct pollfd){d->fd, POLLIN, 0};
            wanted |= d->wanted;
            asking |= d->wanted && d->fd < 0;
        }
        if (!wanted)
            break;
        poll(p, N_DRAINS + 2, asking ? TICK_MS : service_due_ms());
        for (size_t i = 0; i < N_DRAINS; i++) {
            struct drain *d = &u->drains[i];
            ssize_t n = p[2 + i].revents ? recv(d->fd, answer, sizeof answer, MSG_DONTWAIT) : -1;
            if (n < 0)
                continue;
            close(fd_take(&d->fd));
            d->wanted = n == 0; /* it ended before it could answer */
        }
        if (p[1].revents)
            on_down(u);
        attend(u);
    }
}

static void serve(struct up *u)
{
    while (!u->stopping) {
        tick(u);
        tell_programs(u);
        struct pollfd p[] = {{u->sigfd, POLLIN, 0}, {u->listener, POLLIN, 0}};
        poll(p, 2, next_tick_ms(u));
        if (p[1].revents)
            on_down(u);
        attend(u);
    }
    if (u->upgrade.waiter >= 0)
        upgrade_end(u, "the platform is stopping");
    if (!u->failed)
        wait_for_drain(u);
    for (size_t i = u->n; i-- > 0;)
        stop_program(u, &u->programs[i]);
    stop_warnings(u);
}

/* Programs of an `up` that was killed are about to end: gives them some time. */
static int wait_for_predecessor(struct up *u, struct err *e)
{
    int64_t until = clk_now_ms() + TERM_WAIT_MS;
    static const char *const names[] = {"gateway", "desk", "batchmgr", "streammgr", "monitor", "broker"};
    for (size_t i = 0; i < sizeof names / sizeof *names;) {
        int lock = home_lock(&u->home, names[i], 0, e);
        if (lock >= 0) {
            close(lock);
            i++;
            continue;
        }
        if (lock != -EWOULDBLOCK || clk_now_ms() >= until)
            return lock;
        poll(NULL, 0, TICK_MS);
    }
    return 0;
}

static void add_program(struct up *u, const char *name)
{
    struct program *p = &u->programs[u->n++];
    *p = (struct program){.name = name, .leash = -1, .listener = -1, .argv = p->own_argv};
    p->own_argv[0] = home_program(&u->home, name);
    p->own_argv[1] = "--supervised";
    p->own_argv[2] = "--home";
    p->own_argv[3] = u->home.path;
}

/* From here on this program's lines, and those of all that it starts, go to the host's log as well. */
static void choose_log(const struct conf *c)
{
    static const char *const sockets[] = {[LOG_TO_syslog] = "/dev/log", [LOG_TO_journald] = "/run/systemd/journal/socket"};
    const char *path = *c->platform.log_socket ? c->platform.log_socket : sockets[c->platform.log];
    AUTO_FREE char *spec = xasprintf("%s:%s", c->platform.log == LOG_TO_journald ? "journald" : "syslog", path ? path : "");
    if (c->platform.log == LOG_TO_file)
        unsetenv(LOG_SINK_ENV);
    else
        setenv(LOG_SINK_ENV, spec, 1);
    log_sink_open(getenv(LOG_SINK_ENV));
}

static int read_configuration(struct up *u, struct err *e)
{
    AUTO_BUF struct buf all = {0};
    struct err unread = {0};
    AUTO_FD int lock = accept_lock(&u->home, ACCEPT_WAIT_MS, e); /* nobody is half-way through a change of it */
    int r = lock < 0 ? lock : conf_load_all(u->home.path, &all, &u->conf, e);
    if (r < 0 && all.n)
        fputs(all.p, stderr);
    if (r == 0 && conf_texts_read(u->home.dirfd, &u->texts, &unread) < 0)
        log_warn("history", NULL, NULL, "the configuration is not kept for `mysimbdp history`: %s", unread.msg);
    return r;
}

static int prepare(struct up *u, struct err *e)
{
    int r = read_configuration(u, e);
    if (r == 0)
        choose_log(u->conf);
    if (r == 0)
        r = wait_for_predecessor(u, e);
    if (r == 0)
        r = mongo_plan(&u->home, u->conf, &u->mongo, e);
    if (r < 0)
        return r;
    if (u->mongo.argv)
        u->programs[u->n++] = (struct program){.name = "mongo", .leash = -1, .listener = u->mongo.listener, .argv = u->mongo.argv};
    /* Stops the programs in reverse order. The managers were started after what they use and drained before, so they are stopped
     * first. */
    add_program(u, "broker");
    add_program(u, "monitor");
    add_program(u, "streammgr");
    add_program(u, "batchmgr");
    add_program(u, "desk");
    if (has_gateway(u))
        add_program(u, "gateway"); /* tenants find it closed while the rest goes down */
    AUTO_FREE char *sock = home_socket(&u->home, "up.sock");
    u->listener = fd_unix_listen(sock, 0600);
    if (u->listener < 0)
        return err_sys(e, u->listener, "cannot listen on %s", sock);
    return 0;
}

/* Removes what nobody needs any more; what belongs to runs that go on stays. */
static void clear_up(struct up *u)
{
    struct cgroup_host cg;
    for (size_t i = 0; i < u->n; i++) { /* a program that gave its rights up cannot remove its sockets itself */
        int lock = is_ours(&u->programs[i]) ? home_lock(&u->home, u->programs[i].name, 0, NULL) : -1;
        AUTO_FREE char *sock = xasprintf("%s/%s.sock", u->home.runtime, u->programs[i].name);
        AUTO_FREE char *of_gateway = xasprintf("%s/%s.gateway.sock", u->home.runtime, u->programs[i].name);
        AUTO_FREE char *ipc = xasprintf("%s/%s.ipc", u->home.runtime, u->programs[i].name);
        if (lock < 0) /* somebody started it by hand already */
            continue;
        unlink(sock);
        unlink(of_gateway);
        unlink(ipc);
        close(lock);
    }
    cgroup_probe(&cg, u->home.tag);
    remains_retire(&u->home, &cg);
}

static int run(struct up *u, struct err *e)
{
    sigset_t set;
    int lock = home_lock(&u->home, "up", 0, e);
    if (lock < 0)
        return lock;
    sigemptyset(&set);
    int sigs[] = {SIGCHLD, SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof sigs / sizeof *sigs; i++)
        sigaddset(&set, sigs[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    setenv("MONGOC_DISABLE_SHM", "1", 0); /* libmongoc's counters in /dev/shm would outlive a killed program */
    u->sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    unlinkat(u->home.dirfd, "state/endpoints.json", 0);
    int r = home_mend(&u->home, e);
    if (r == 0 && home_put_tools(&u->home, e) < 0) /* on a full disk, say: apps that call these tools fail, others do not */
        log_warn("tools", NULL, NULL, "apps may not find simbdp-pipe: %s", e->msg);
    if (r == 0)
        r = prepare(u, e);
    if (r < 0)
        return r;
    serve(u);
    clear_up(u);
    unlinkat(u->home.dirfd, "state/endpoints.json", 0);
    for (size_t i = 0; i < u->n_waiters; i++)
        if (send(u->waiters[i], "{\"ok\":true}\n", 12, MSG_NOSIGNAL) < 0)
            log_debug("down", NULL, NULL, "whoever asked is gone");
    AUTO_FREE char *sock = home_socket(&u->home, "up.sock");
    unlink(sock);
    return u->failed ? -ECHILD : 0;
}

int verb_up(struct cli *c)
{
    struct up u = {.sigfd = -1,
                   .listener = -1,
                   .mongo = {.listener = -1},
                   .drains = {{"batchmgr", -1, false}, {"streammgr", -1, false}},
                   .upgrade = {.waiter = -1}};
    struct err e = {0};
    int r = cli_args(c, 0, 0);
    service_take();
    AUTO_FREE char *who = account_who();
    u.who = who;
    if (r || cli_enter(c, &u.home))
        return r ? r : CLI_FAILED;
    if (geteuid() == 0) /* without root this may enter a user namespace */
        cli_warn_reach(c, u.home.path);
    r = run(&u, &e);
    if (r < 0 && e.msg[0])
        cli_fail(c, &e);
    for (size_t i = 0; i < u.n; i++)
        if (is_ours(&u.programs[i]))
            free(u.programs[i].own_argv[0]);
    mongo_plan_free(&u.mongo);
    conf_texts_fini(&u.texts);
    conf_free(u.conf);
    home_close(&u.home);
    return r < 0 ? CLI_FAILED : CLI_DONE;
}
