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
#include "restored_note.h"
#include "service.h"
#include "up_parts.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/log_sink.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "db/versions.h"
#include "run/leftovers.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum {
    WARNINGS_WAIT_MS = 2000,
    HURRY_MS = 500, /* a second signal so soon after the first counts as the same */
};

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

static void say_restored(const struct home *h)
{
    AUTO_BSON bson_t *note = restored_note(h);
    AUTO_FREE char *text = note ? restored_text(note) : NULL;
    if (text)
        printf("mysimbdp: %s\n", text);
}

/* Everything answers: that is said once. */
static void check_ready(struct up *u)
{
    AUTO_BSON bson_t *batchmgr = NULL, *broker = NULL, *streammgr = NULL, *monitor = NULL, *gateway = NULL;
    if (!(batchmgr = up_status_of(u, "batchmgr")) || !(streammgr = up_status_of(u, "streammgr")) ||
        !(monitor = up_status_of(u, "monitor")) || !(broker = up_status_of(u, "broker")) || !up_is_listening(u, "desk") ||
        (has_gateway(u) && !((gateway = up_status_of(u, "gateway")) && json_get_bool(gateway, "ready", false))))
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
    say_restored(&u->home);
    if (!up)
        printf("mysimbdp: MongoDB does not answer; files are taken in and wait (`mysimbdp status` says why)\n");
    fflush(stdout);
}

void up_on_down(struct up *u)
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
        up_begin_upgrade(u, fd);
        return;
    }
    u->waiters[u->n_waiters++] = fd;
    u->leave_runs |= strstr(line, "leave_runs") != NULL;
    if (u->leave_runs)
        up_end_drain(u);
    up_begin_stop(u);
}

static void on_signal(struct up *u)
{
    struct signalfd_siginfo si;
    while (read(u->sigfd, &si, sizeof si) == (ssize_t)sizeof si) {
        if (si.ssi_signo == SIGHUP) {
            start_reload(u);
        } else if (si.ssi_signo != SIGCHLD) {
            if (u->stopping && clk_now_ms() - u->stopping_ms >= HURRY_MS)
                up_end_drain(u);
            up_begin_stop(u);
        }
    }
}

/* What every loop does between two waits. */
void up_attend(struct up *u)
{
    on_signal(u);
    up_reap(u);
    service_alive();
}

static void tick(struct up *u)
{
    int64_t now = clk_now_ms();
    for (size_t i = 0; i < u->n && !u->stopping; i++) {
        struct program *p = &u->programs[i];
        if (!p->pid && p->restart_at_ms <= now)
            up_start(u, p);
    }
    if (!u->ready && !u->stopping)
        check_ready(u);
    if (u->upgrade.waiter >= 0 && !u->stopping)
        up_upgrade_step(u);
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

/* The checks have the databases open. Who asked for `down` may then do with the home's files as he likes. */
static void stop_warnings(struct up *u)
{
    up_wait_for_end(u, &u->warnings, WARNINGS_WAIT_MS);
    if (u->warnings) {
        kill(-u->warnings, SIGKILL); /* a group of its own; not reaped, so the id is still its own */
        waitpid(u->warnings, NULL, 0);
        u->warnings = 0;
    }
}

static void serve(struct up *u)
{
    while (!u->stopping) {
        tick(u);
        up_tell_programs(u);
        struct pollfd p[] = {{u->sigfd, POLLIN, 0}, {u->listener, POLLIN, 0}};
        poll(p, 2, next_tick_ms(u));
        if (p[1].revents)
            up_on_down(u);
        up_attend(u);
    }
    if (u->upgrade.waiter >= 0)
        up_upgrade_end(u, "the platform is stopping");
    if (!u->failed)
        up_wait_for_drain(u);
    for (size_t i = u->n; i-- > 0;)
        up_stop_program(u, &u->programs[i]);
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
    up_add_program(u, "broker");
    up_add_program(u, "monitor");
    up_add_program(u, "streammgr");
    up_add_program(u, "batchmgr");
    up_add_program(u, "desk");
    if (has_gateway(u))
        up_add_program(u, "gateway"); /* tenants find it closed while the rest goes down */
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
        int lock = up_is_ours(&u->programs[i]) ? home_lock(&u->home, u->programs[i].name, 0, NULL) : -1;
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
    int r = versions_check(&u->home, e); /* before anything is changed */
    if (r == 0)
        r = home_mend(&u->home, e);
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
    *e = (struct err){0}; /* what failed has spoken for itself */
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
        if (up_is_ours(&u.programs[i]))
            free(u.programs[i].own_argv[0]);
    mongo_plan_free(&u.mongo);
    conf_texts_fini(&u.texts);
    conf_free(u.conf);
    home_close(&u.home);
    return r < 0 ? CLI_FAILED : CLI_DONE;
}
