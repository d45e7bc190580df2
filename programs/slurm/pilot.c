/* One thread, one zmq_poll: the wire to the launcher, a channel to each runner, and signals.
 *
 * Runners are started by simbdp-run --spawn, as they are on the platform's machine: it has one ready ahead. The pilot speaks for
 * the manager on their channels: it acknowledges a step's end at once, since the result is on the shared disk by then, where all
 * that counts is. A runner whose channel ends without a result died; what is left of its step is ended here, and then the file is
 * made that says so.
 *
 * The launcher may be gone, or another: its address is read again whenever it is not heard. Nothing ends for that; a pilot without
 * runs ends when it has been alone for long. */
#include "pilot.h"
#include "pilot_files.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "host/cgroup.h"
#include "host/home.h"
#include "run/spec.h"
#include "sandbox/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

enum {
    HELLO_MS = 1000,
    DEAF_MS = 4000,   /* not heard for so long, the launcher is looked for anew */
    ALONE_MS = 10000, /* at least; a launcher that was killed is back by then */
    MAX_TEXT = 256,
};

struct held {
    char claim[ID_SIZE + 16];
    int conn;
    bool ended;
};

struct pilot_host {
    struct pilot_file file;
    const char *home;
    char *dir; /* of specs */
    void *zmq, *socket;
    struct launcher_address address;
    int sigfd, spawner;
    pid_t spawner_pid;
    struct held *runs;
    size_t n, room;
    int64_t end_ms, hello_ms, heard_ms, looked_ms;
    bool ending, stopping;
};

/* ---- the wire ---- */

static void say(struct pilot_host *h, const char *word, const char *claim)
{
    AUTO_FREE char *text = claim ? xasprintf("%s %s", word, claim) : xstrdup(word);
    if (h->socket && zmq_send(h->socket, text, strlen(text), ZMQ_DONTWAIT) < 0)
        log_debug("say", NULL, claim, "the launcher does not listen");
}

static void hello(struct pilot_host *h)
{
    AUTO_BUF struct buf b = {0};
    int64_t now = clk_now_ms(), left = (h->end_ms - now) / 1000;
    buf_addf(&b, "hello %lld", (long long)(left > 0 ? left : 0));
    for (size_t i = 0; i < h->n; i++)
        buf_addf(&b, "\n%s", h->runs[i].claim);
    buf_add(&b, "", 0);
    h->hello_ms = now;
    if (h->socket && zmq_send(h->socket, b.p, b.n, ZMQ_DONTWAIT) < 0)
        log_debug("say", NULL, NULL, "the launcher does not listen");
    if (h->stopping)
        say(h, "bye", NULL);
}

static void connect_to_launcher(struct pilot_host *h)
{
    const int none = 0, high = 10000;
    struct err e = {0};
    AUTO_FREE char *path = xasprintf("%s/launcher", h->dir);
    h->looked_ms = clk_now_ms();
    if (launcher_address_read(path, &h->address, &e) < 0) {
        log_warn("launcher", NULL, NULL, "%s; trying again", e.msg);
        return;
    }
    if (h->socket)
        zmq_close(h->socket);
    h->socket = zmq_socket(h->zmq, ZMQ_DEALER);
    zmq_setsockopt(h->socket, ZMQ_LINGER, &none, sizeof none);
    zmq_setsockopt(h->socket, ZMQ_SNDHWM, &high, sizeof high);
    if (zmq_setsockopt(h->socket, ZMQ_CURVE_SERVERKEY, h->address.public_key, Z85_KEY) < 0 ||
        zmq_setsockopt(h->socket, ZMQ_CURVE_PUBLICKEY, h->file.public_key, Z85_KEY) < 0 ||
        zmq_setsockopt(h->socket, ZMQ_CURVE_SECRETKEY, h->file.secret_key, Z85_KEY) < 0 ||
        zmq_connect(h->socket, h->address.endpoint) < 0)
        log_warn("launcher", NULL, NULL, "cannot connect to %s: %s; trying again", h->address.endpoint, zmq_strerror(errno));
    hello(h);
}

/* ---- runs ---- */

/* A program that lies where this one does. Caller frees. */
static char *beside(const char *name)
{
    char own[4096] = "";
    ssize_t n = readlink("/proc/self/exe", own, sizeof own - 1);
    char *slash = n > 0 ? strrchr(own, '/') : NULL;
    return slash ? xasprintf("%.*s/%s", (int)(slash - own), own, name) : xstrdup(name);
}

static struct held *held_of(struct pilot_host *h, const char *claim)
{
    for (size_t i = 0; i < h->n; i++)
        if (!strcmp(h->runs[i].claim, claim))
            return &h->runs[i];
    return NULL;
}

static void drop(struct pilot_host *h, struct held *r)
{
    if (r->conn >= 0)
        close(r->conn);
    *r = h->runs[--h->n];
}

static int start_spawner(struct pilot_host *h)
{
    AUTO_FREE char *program = beside("simbdp-run");
    char *argv[] = {program, "--spawn", h->file.tag, "--home", (char *)h->home, NULL};
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    posix_spawn_file_actions_t fa;
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_addopen(&fa, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&fa, pair[1], 3);
    int r = spawn_start(argv, environ, &fa, POSIX_SPAWN_SETSIGDEF, &h->spawner_pid);
    close(pair[1]);
    if (r < 0)
        close(pair[0]);
    else
        h->spawner = pair[0];
    return r;
}

static int hand_over(struct pilot_host *h, int spec, int conn)
{
    int r = h->spawner < 0 ? start_spawner(h) : 0;
    if (r == 0)
        r = fd_send(h->spawner, "r", 1, (int[]){spec, conn}, 2);
    if (r == -EPIPE) { /* it has just ended */
        close(fd_take(&h->spawner));
        r = start_spawner(h);
        if (r == 0)
            r = fd_send(h->spawner, "r", 1, (int[]){spec, conn}, 2);
    }
    return r;
}

/* A run's id, or that and "-load": it becomes part of a path. */
static bool is_claim(const char *claim)
{
    char run_id[ID_SIZE];
    snprintf(run_id, sizeof run_id, "%s", claim);
    return home_valid_id(run_id) && (!claim[ID_SIZE - 1] || !strcmp(claim + ID_SIZE - 1, "-load"));
}

static void run(struct pilot_host *h, const char *claim)
{
    int pair[2] = {-1, -1};
    if (!is_claim(claim) || held_of(h, claim))
        return;
    AUTO_FREE char *path = xasprintf("%s/%s.json", h->dir, claim);
    AUTO_FD int spec = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    bool may = !h->stopping && (int64_t)h->n < h->file.runs;
    int r = !may ? -EAGAIN : spec < 0 ? -errno : socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 ? -errno : 0;
    if (r == 0) {
        r = hand_over(h, spec, pair[1]);
        close(pair[1]);
    }
    if (r < 0) {
        log_error("run", NULL, claim, "cannot be started: %s", err_text(r));
        if (pair[0] >= 0)
            close(pair[0]);
        say(h, "refused", claim);
        return;
    }
    if (h->n == h->room)
        h->runs = xrealloc(h->runs, (h->room = h->room ? 2 * h->room : 16) * sizeof *h->runs);
    struct held *new = &h->runs[h->n++];
    *new = (struct held){.conn = pair[0]};
    snprintf(new->claim, sizeof new->claim, "%s", claim);
}

static void order(const struct held *r, char what)
{
    if (r->conn >= 0 && send(r->conn, &what, 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        log_debug("order", NULL, r->claim, "the runner does not listen");
}

/* The runner died. In a process of its own, since it may take long; the launcher sees the file that it makes. */
static void end_rest_of(struct pilot_host *h, const struct held *r)
{
    AUTO_FREE char *program = beside("simbdp-slurm"), *gone = xasprintf("%s/%s.gone", h->dir, r->claim);
    char *argv[] = {program, "--end", h->file.runtime, h->file.tag, (char *)r->claim, gone, NULL};
    posix_spawn_file_actions_t fa;
    pid_t pid;
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_addopen(&fa, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    int n = spawn_start(argv, environ, &fa, POSIX_SPAWN_SETSIGDEF, &pid);
    if (n < 0)
        log_error("end", NULL, r->claim, "cannot start %s: %s; the launcher has another job do it", program, err_text(n));
}

/* What it said; false: it is over. */
static bool take_word(struct pilot_host *h, struct held *r)
{
    char said;
    ssize_t n = recv(r->conn, &said, 1, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n == 1 && (said == RUN_SAID_CLAIMED || said == RUN_SAID_STARTED)) {
        say(h, "began", r->claim);
        return true;
    }
    if (n == 1 && said == RUN_SAID_ENDED) {
        order(r, RUN_ORDER_ACK);
        say(h, "ended", r->claim);
    } else if (n == 1) { /* refused: the fence stood, or there was no process to be had */
        say(h, "refused", r->claim);
    } else {
        end_rest_of(h, r);
        say(h, "ended", r->claim);
    }
    return false;
}

static void stop_all(struct pilot_host *h)
{
    if (!h->stopping)
        say(h, "bye", NULL);
    h->stopping = true;
    for (size_t i = 0; i < h->n; i++)
        order(&h->runs[i], RUN_ORDER_STOP);
}

/* ---- the loop ---- */

static void on_word(struct pilot_host *h, const char *text)
{
    const char *claim = strchr(text, ' ');
    h->heard_ms = clk_now_ms();
    if (!strcmp(text, "end"))
        h->ending = true;
    if (claim && !strncmp(text, "run ", 4))
        run(h, claim + 1);
    struct held *r = claim && !strncmp(text, "stop ", 5) ? held_of(h, claim + 1) : NULL;
    if (r)
        order(r, RUN_ORDER_STOP);
}

static void take_words(struct pilot_host *h)
{
    char text[MAX_TEXT];
    for (int n; h->socket && (n = zmq_recv(h->socket, text, sizeof text - 1, ZMQ_DONTWAIT)) >= 0;)
        if (n < (int)sizeof text) {
            text[n] = 0;
            on_word(h, text);
        }
}

static void take_signals(struct pilot_host *h)
{
    struct signalfd_siginfo si[8];
    int status;
    for (ssize_t n; (n = read(h->sigfd, si, sizeof si)) > 0;)
        for (size_t i = 0; i < (size_t)n / sizeof *si; i++)
            if (si[i].ssi_signo == SIGTERM)
                stop_all(h);
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
        if (pid == h->spawner_pid) { /* runners live on; there is another with the next run */
            h->spawner_pid = 0;
            if (h->spawner >= 0)
                close(fd_take(&h->spawner));
        }
}

static bool is_done(const struct pilot_host *h)
{
    int64_t idle_ms = h->file.idle_s * 1000;
    return !h->n && (h->ending || h->stopping || clk_now_ms() - h->heard_ms > (idle_ms > ALONE_MS ? idle_ms : ALONE_MS));
}

static void serve(struct pilot_host *h)
{
    zmq_pollitem_t *p = NULL;
    while (!is_done(h)) {
        size_t n = h->n;
        p = xrealloc(p, (n + 2) * sizeof *p);
        p[0] = (zmq_pollitem_t){NULL, h->sigfd, ZMQ_POLLIN, 0};
        p[1] = (zmq_pollitem_t){h->socket, h->socket ? 0 : h->sigfd, ZMQ_POLLIN, 0};
        for (size_t i = 0; i < n; i++)
            p[i + 2] = (zmq_pollitem_t){NULL, h->runs[i].conn, ZMQ_POLLIN, 0};
        int64_t now = clk_now_ms(), wait = h->hello_ms + HELLO_MS - now;
        zmq_poll(p, (int)(n + 2), wait < 0 ? 0 : (long)wait);
        for (size_t i = n; i-- > 0;) /* backwards: the last one takes the place of one that goes */
            if (p[i + 2].revents && !take_word(h, &h->runs[i]))
                drop(h, &h->runs[i]);
        if (p[0].revents)
            take_signals(h);
        take_words(h);
        now = clk_now_ms();
        if (now - h->heard_ms > DEAF_MS && now - h->looked_ms > DEAF_MS) /* it is given time to answer */
            connect_to_launcher(h);
        if (now - h->hello_ms >= HELLO_MS)
            hello(h);
    }
    free(p);
}

/* ---- life ---- */

static void block_signals(struct pilot_host *h)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    h->sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void leave(struct pilot_host *h, const struct cgroup_host *cg)
{
    if (h->spawner >= 0)
        close(fd_take(&h->spawner));
    while (h->spawner_pid > 0 && waitpid(h->spawner_pid, NULL, 0) < 0 && errno == EINTR) {
    }
    cgroup_retire(cg);
    if (h->socket)
        zmq_close(h->socket);
    zmq_ctx_term(h->zmq);
    free(h->runs);
    free(h->dir);
    pilot_file_free(&h->file);
}

int pilot_main(const char *file, const char *home, struct err *e)
{
    struct pilot_host h = {.home = home, .spawner = -1, .sigfd = -1};
    struct cgroup_host cg;
    const char *restarts = getenv("SLURM_RESTART_COUNT"), *slash = strrchr(file, '/');
    if (restarts && atoi(restarts) > 0)
        return err_set(e, ERR_REFUSED, "this pilot was requeued: what it had is lost, and there is another");
    int r = slash ? pilot_file_read(file, &h.file, e) : err_set(e, ERR_USAGE, "%s is no absolute path", file);
    if (r < 0)
        return r;
    confine_manager();
    block_signals(&h);
    fd_raise_limit();
    cgroup_probe(&cg, h.file.tag);
    h.dir = xstrndup(file, (size_t)(slash - file));
    h.heard_ms = clk_now_ms();
    h.end_ms = h.heard_ms + h.file.time_s * 1000;
    h.zmq = zmq_ctx_new();
    connect_to_launcher(&h);
    serve(&h);
    leave(&h, &cg);
    return 0;
}
