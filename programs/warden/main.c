/* simbdp-warden: starts programs for a manager (lib/manager/warden.h), and refuses what the configuration does not have.
 *
 * Runs are handed on to the spawner (programs/runner/spawner.h), which the warden starts, and starts again when it ends. What is
 * handed on is a copy: the manager cannot change it after it was judged. */
#include "check_spec.h"
#include "cluster.h"
#include "home_writes.h"
#include "jobs.h"

#include "manager/warden.h"

#include "base/crash.h"
#include "base/clk.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "host/cgroup.h"
#include "host/uid_block.h"
#include "run/leftovers.h"
#include "run/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MANAGER = STDIN_FILENO, REFUSALS_PER_S = 10, RESTART_MS = 100 };

struct warden {
    struct home home;
    struct isolation_host isolation;
    struct cgroup_host cgroups;
    struct check_spec *judge;
    struct jobs jobs;
    struct cluster cluster;
    bool streams;
    int spawner; /* -1: there is none */
    pid_t spawner_pid;
    int64_t spawner_started_ms;
    int64_t refusals_since_ms;
    int n_refusals; /* in this second; beyond some they are not logged, so that a manager cannot fill the disk with them */
};

static void log_refusal(struct warden *w, const char *tenant, const char *run_id, const char *why)
{
    int64_t now = clk_now_ms();
    if (now - w->refusals_since_ms >= 1000) {
        w->refusals_since_ms = now;
        w->n_refusals = 0;
    }
    if (w->n_refusals++ < REFUSALS_PER_S)
        log_error("refused", tenant, run_id, "the warden refuses what %s asks for: %s", w->streams ? "streammgr" : "batchmgr", why);
}

static void say(int conn, char what)
{
    if (send(conn, &what, 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        log_debug("say", NULL, NULL, "the manager does not listen");
}

/* ---- runs ---- */

static void start_spawner(struct warden *w)
{
    AUTO_FREE char *program = home_program(&w->home, "simbdp-run");
    char *argv[] = {program, "--spawn", w->home.tag, "--home", w->home.path, NULL};
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return;
    posix_spawn_file_actions_t fa;
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_addopen(&fa, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&fa, pair[1], 3);
    int r = spawn_start(argv, environ, &fa, 0, &w->spawner_pid);
    close(pair[1]);
    if (r < 0) {
        close(pair[0]);
        log_error("spawner", NULL, NULL, "cannot start %s: %s; trying again", program, err_text(r));
        return;
    }
    w->spawner = pair[0];
    w->spawner_started_ms = clk_now_ms();
}

/* A sealed copy, which nobody can change any more. */
static int copy_spec(const char *text, size_t n)
{
    int fd = memfd_create("run-spec", MFD_CLOEXEC);
    int r = fd < 0 ? -errno : fd_write_all(fd, text, n);
    if (r < 0 && fd >= 0)
        close(fd);
    return r < 0 ? r : fd;
}

/* Regular files only: reading anything else may block for as long as the manager likes. */
static int read_spec(int fd, struct buf *text)
{
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return -EINVAL;
    return lseek(fd, 0, SEEK_SET) < 0 ? -errno : fd_read_all(fd, text, RUN_MAX_SPEC_BYTES);
}

static void hand_over(struct warden *w, const char *text, size_t n, int conn)
{
    AUTO_FD int copy = copy_spec(text, n);
    if (w->spawner < 0)
        start_spawner(w);
    int r = copy < 0 ? copy : w->spawner < 0 ? -EPIPE : fd_send(w->spawner, "r", 1, (int[]){copy, conn}, 2);
    if (r == -EPIPE && w->spawner >= 0) { /* it has just ended */
        close(fd_take(&w->spawner));
        start_spawner(w);
        r = w->spawner < 0 ? r : fd_send(w->spawner, "r", 1, (int[]){copy, conn}, 2);
    }
    if (r < 0) {
        log_error("spawner", NULL, NULL, "cannot hand a run to the spawner: %s", err_text(r));
        say(conn, RUN_SAID_NO_FORK);
    }
}

/* Of a run that is to be a job; NULL: it is to be on this host. */
static const struct conf_profile *profile_of_job(const struct warden *w, const struct run_spec *spec)
{
    const struct conf *c = check_spec_conf(w->judge);
    const struct conf_tenant *t = conf_tenant(c, spec->tenant);
    const struct conf_batch *batch = t && !w->streams ? conf_app(t, spec->app) : NULL;
    const struct conf_stream_app *stream = t && w->streams ? conf_stream_app(t, spec->app) : NULL;
    const char *profile = batch ? batch->profile : stream ? stream->profile : NULL;
    const struct conf_profile *p = profile ? conf_profile(c, profile) : NULL;
    return p && conf_launcher_of(c, p) == LAUNCHER_slurm ? p : NULL;
}

static void hand_to_cluster(struct warden *w, struct run_spec *spec, const struct conf_profile *p, int conn)
{
    int r = cluster_run(&w->cluster, &w->home, spec, check_spec_conf(w->judge), p, w->streams, conn);
    if (r < 0) {
        log_error("launcher", NULL, NULL, "cannot hand a run to the launcher of jobs: %s", err_text(r));
        say(conn, RUN_SAID_NO_FORK);
    }
}

static void run(struct warden *w, int spec_fd, int conn)
{
    AUTO_BUF struct buf text = {0};
    struct run_spec spec = {0};
    struct err e = {0};
    int r = read_spec(spec_fd, &text);
    if (r < 0)
        err_sys(&e, r, "the spec cannot be read");
    if (r == 0)
        r = run_spec_parse(text.p ? text.p : "", text.n, &spec, &e);
    if (r == 0 && (r = check_spec_spec(w->judge, &spec, &e)) < 0)
        err_context(&e, "app %s, step %s", spec.app, run_step_name(spec.step));
    const struct conf_profile *of_job = r == 0 ? profile_of_job(w, &spec) : NULL;
    if (of_job) {
        hand_to_cluster(w, &spec, of_job, conn);
    } else if (r == 0) {
        hand_over(w, text.p, text.n, conn);
    } else {
        log_refusal(w, spec.tenant, spec.run_id, e.msg);
        say(conn, RUN_SAID_DENIED);
    }
    run_spec_free(&spec);
}

/* <run id> or <run id>-load. */
static bool is_claim(const char *claim, char run_id[ID_SIZE])
{
    snprintf(run_id, ID_SIZE, "%s", claim);
    return home_valid_id(run_id) && (!claim[ID_SIZE - 1] || !strcmp(claim + ID_SIZE - 1, "-load"));
}

static void attach(struct warden *w, const char *claim, int conn)
{
    char run_id[ID_SIZE];
    int r = is_claim(claim, run_id) ? cluster_attach(&w->cluster, &w->home, claim, conn) : -EINVAL;
    if (r < 0)
        log_error("launcher", NULL, NULL, "cannot ask the launcher of jobs: %s", err_text(r));
}

static void end_step(struct warden *w, const char *claim, bool kills, int to)
{
    char run_id[ID_SIZE];
    if (!is_claim(claim, run_id)) {
        log_refusal(w, NULL, NULL, "what is to be ended is not a run");
        return;
    }
    int marked = 0;
    if (kills) {
        cgroup_kill(&w->cgroups, claim);
        marked = tree_signal_marked("SIMBDP_RUN_ID", run_id, SIGKILL);
    }
    bool over = cgroup_is_empty(&w->cgroups, claim) && marked <= 0;
    if (over)
        cgroup_remove(&w->cgroups, claim);
    say(to, over ? 'y' : 'n');
}

static void tell_whose(int64_t pid, int to)
{
    AUTO_BUF struct buf b = {0};
    AUTO_FREE char *path = xasprintf("/proc/%lld/environ", (long long)pid);
    static const char name[] = "SIMBDP_INSTANCE_ID=";
    const char *id = "";
    if (pid > 0 && fd_read_file(AT_FDCWD, path, &b, 4 << 20, NULL) == 0 && b.n)
        for (const char *p = b.p, *end = b.p + b.n; p < end; p += strnlen(p, (size_t)(end - p)) + 1)
            if (!strncmp(p, name, sizeof name - 1) && home_valid_id(p + sizeof name - 1))
                id = p + sizeof name - 1;
    if (send(to, id, strlen(id), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        log_debug("whose", NULL, NULL, "nobody waits for it");
}

/* ---- jobs ---- */

static void inspect(struct warden *w, int fd, int leash)
{
    const struct conf *c = check_spec_conf(w->judge);
    AUTO_FREE char *program = home_program(&w->home, "simbdp-inspect");
    AUTO_FREE char *uid = xasprintf("%lld", (long long)uid_of_inspector(c->platform.uid_base));
    AUTO_FREE char *memory = xasprintf("%lld", (long long)c->platform.inspector_memory_bytes);
    jobs_start(&w->jobs, (char *[]){program, uid, memory, "--home", w->home.path, NULL}, (char *[]){NULL}, fd, 3, leash);
}

/* The job comes by stdin, since the helper's uid can open nothing of the home. */
static void delete (struct warden *w, const char *tenant, const char *url, int fd, int leash)
{
    static const char *const kept[] = {"ASAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS"};
    const struct conf *c = check_spec_conf(w->judge);
    AUTO_FREE char *program = home_program(&w->home, "simbdp-load"), *url_env = xasprintf("MONGO_URL=%s", url);
    AUTO_FREE char *uid = xasprintf("%lld", (long long)uid_of_program(&w->home, c->platform.uid_base, UID_HELPER));
    char *envp[8] = {"SIMBDP_LOAD_JOB=/dev/stdin", url_env, "MONGOC_DISABLE_SHM=1", "PATH=/usr/bin:/bin"};
    char *copies[3] = {NULL, NULL, NULL};
    struct err e = {0};
    if (check_spec_mongo(w->judge, tenant, url, &e) < 0) {
        log_refusal(w, tenant, NULL, e.msg);
        jobs_refuse(leash, -EPERM);
        return;
    }
    for (size_t i = 0, n = 4; i < sizeof copies / sizeof *copies; i++)
        if (getenv(kept[i]))
            envp[n++] = copies[i] = xasprintf("%s=%s", kept[i], getenv(kept[i]));
    jobs_start(&w->jobs, (char *[]){program, "--home", w->home.path, "--uid", uid, NULL}, envp, fd, STDIN_FILENO, leash);
    for (size_t i = 0; i < sizeof copies / sizeof *copies; i++)
        free(copies[i]);
}

static void unpack(struct warden *w, const char *tenant, const char *image, int fd, int leash)
{
    AUTO_FREE char *program = home_program(&w->home, "simbdp-image");
    if (!check_spec_image(w->judge, tenant, image)) {
        log_refusal(w, tenant, NULL, "no app of the tenant's has this image");
        jobs_refuse(leash, -EPERM);
        return;
    }
    jobs_start(&w->jobs, (char *[]){program, "--home", w->home.path, (char *)tenant, (char *)image, NULL}, environ, fd,
               STDOUT_FILENO, leash);
}

static void sweep(struct warden *w, int leash)
{
    AUTO_FREE char *program = home_program(&w->home, "simbdp-image");
    jobs_start(&w->jobs, (char *[]){program, "--home", w->home.path, "--sweep", NULL}, environ, -1, STDOUT_FILENO, leash);
}

/* Done by this program in a process of its own, since there may be much to remove. */
static void forget(struct warden *w, const char *tenant, bool conf, int leash)
{
    AUTO_FREE char *program = home_program(&w->home, "simbdp-warden");
    jobs_start(&w->jobs,
               (char *[]){program, (char *)(conf ? "--forget-conf" : "--forget"), (char *)tenant, "--home", w->home.path, NULL},
               environ, -1, STDOUT_FILENO, leash);
}

static void make_apps(struct warden *w, const char *tenant, int64_t uid)
{
    struct err e = {0};
    int r = check_spec_tenant(w->judge, tenant, uid, &e);
    if (r < 0)
        log_refusal(w, tenant, NULL, e.msg);
    else
        home_writes_apps(&w->home, tenant, uid);
}

static void reload(struct warden *w)
{
    check_spec_reload(w->judge);
    if (!w->streams)
        home_writes_users(&w->home, check_spec_conf(w->judge));
}

/* ---- requests ---- */

struct incoming {
    struct warden_request rq;
    char text[WARDEN_MAX_TEXT + 1];
};

static bool is_job(uint32_t op)
{
    return op == WARDEN_INSPECT || op == WARDEN_DELETE || op == WARDEN_IMAGE || op == WARDEN_SWEEP || op == WARDEN_FORGET;
}

static void start_job(struct warden *w, const struct incoming *in, const int fds[2])
{
    int leash = fds[0];
    if (w->streams && in->rq.op != WARDEN_IMAGE && in->rq.op != WARDEN_SWEEP) {
        log_refusal(w, NULL, NULL, "streammgr has no inspections and deletes no documents");
        jobs_refuse(leash, -EPERM);
    } else if (in->rq.op == WARDEN_INSPECT)
        inspect(w, fds[1], leash);
    else if (in->rq.op == WARDEN_DELETE)
        delete (w, in->rq.tenant, in->text, fds[1], leash);
    else if (in->rq.op == WARDEN_IMAGE)
        unpack(w, in->rq.tenant, in->text, fds[1], leash);
    else if (in->rq.op == WARDEN_FORGET)
        forget(w, in->rq.tenant, in->rq.number == 1, leash);
    else
        sweep(w, leash);
}

/* How many descriptors a request comes with. */
static size_t n_fds_of(uint32_t op)
{
    return op == WARDEN_RELOAD || op == WARDEN_APPS ? 0 : op == WARDEN_END || op == WARDEN_WHOSE || op == WARDEN_ATTACH ? 1 : 2;
}

static bool act(struct warden *w, const struct incoming *in, int fds[2], size_t n_fds)
{
    bool good = n_fds == n_fds_of(in->rq.op) && !in->rq.tenant[sizeof in->rq.tenant - 1];
    if (good && is_job(in->rq.op)) {
        start_job(w, in, fds); /* which takes the leash */
        close(fds[1]);
        return true;
    }
    if (good && in->rq.op == WARDEN_RUN)
        run(w, fds[0], fds[1]);
    else if (good && in->rq.op == WARDEN_RELOAD)
        reload(w);
    else if (good && in->rq.op == WARDEN_APPS && !w->streams)
        make_apps(w, in->rq.tenant, in->rq.number);
    else if (good && in->rq.op == WARDEN_END)
        end_step(w, in->text, in->rq.number == 1, fds[0]);
    else if (good && in->rq.op == WARDEN_ATTACH)
        attach(w, in->text, fds[0]);
    else if (good && in->rq.op == WARDEN_WHOSE && w->streams)
        tell_whose(in->rq.number, fds[0]);
    else
        good = false;
    for (size_t i = 0; i < n_fds; i++)
        close(fds[i]);
    return good;
}

/* False: the manager is gone, or sends what no manager of ours sends. */
static bool serve(struct warden *w)
{
    static struct incoming in;
    int fds[2];
    size_t n_fds = 0;
    ssize_t n = fd_recv(MANAGER, &in, sizeof in - 1, fds, 2, &n_fds);
    if (n == 0 || n == -ECONNRESET)
        return false;
    if (n < (ssize_t)sizeof in.rq) {
        for (size_t i = 0; i < n_fds; i++)
            close(fds[i]);
        log_error("request", NULL, NULL, "the manager sent something that is not a request; the warden ends");
        return false;
    }
    in.text[n - (ssize_t)sizeof in.rq] = 0;
    if (act(w, &in, fds, n_fds))
        return true;
    log_error("request", NULL, NULL, "the manager sent a request without what belongs to it; the warden ends");
    return false;
}

/* ---- life ---- */

static void reap(struct warden *w)
{
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        if (jobs_ended(&w->jobs, pid, status) || cluster_ended(&w->cluster, pid) || pid != w->spawner_pid)
            continue;
        log_warn("spawner_gone", NULL, NULL, "the spawner ended; there will be another, runs go on");
        w->spawner_pid = 0;
        if (w->spawner >= 0)
            close(fd_take(&w->spawner));
        if (clk_now_ms() - w->spawner_started_ms >= RESTART_MS) /* else it is started with the next run */
            start_spawner(w);
    }
}

static void watch(struct warden *w)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    AUTO_FD int ended = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    remains_clear(&w->home, &w->cgroups);
    start_spawner(w);
    for (bool goes_on = true; goes_on;) {
        struct signalfd_siginfo si;
        struct pollfd p[2 + JOBS_MAX] = {{MANAGER, POLLIN, 0}, {ended, POLLIN, 0}};
        jobs_poll(&w->jobs, p + 2);
        if (poll(p, 2 + w->jobs.n, -1) < 0)
            continue;
        jobs_serve(&w->jobs, p + 2);
        if (p[1].revents && read(ended, &si, sizeof si) == (ssize_t)sizeof si)
            reap(w);
        if (p[0].revents)
            goes_on = serve(w);
    }
    jobs_kill(&w->jobs);
    cluster_stop(&w->cluster);
    if (w->spawner >= 0)
        close(fd_take(&w->spawner)); /* that ends the spawner; the runners that it forked live on */
    while (w->spawner_pid > 0 && waitpid(w->spawner_pid, NULL, 0) < 0 && errno == EINTR) {
    }
}

static int forget_main(const char *home, const char *tenant, bool conf)
{
    struct home h = {0};
    struct err e = {0};
    int r = home_open(&h, home, &e);
    if (r == 0)
        r = home_writes_forget(&h, tenant, conf, &e);
    if (r < 0)
        log_error("forget", tenant, NULL, "%s", e.msg);
    home_close(&h);
    return r < 0;
}

static const char usage[] = "usage: simbdp-warden batchmgr|streammgr --home HOME\n"
                            "stdin: the manager's socket, with which it ends. The managers start it.\n";

int main(int argc, char **argv)
{
    static struct warden w = {.spawner = -1, .cluster.fd = -1};
    struct err e = {0};
    log_init("simbdp-warden");
    crash_init();
    if (argc == 2 && !strcmp(argv[1], "--help"))
        return fputs(usage, stdout) < 0;
    const char *home = home_take_arg(&argc, argv);
    if (argc == 3 && (!strcmp(argv[1], "--forget") || !strcmp(argv[1], "--forget-conf")))
        return forget_main(home, argv[2], !strcmp(argv[1], "--forget-conf"));
    if (argc != 2 || (strcmp(argv[1], "batchmgr") && strcmp(argv[1], "streammgr")))
        return fputs(usage, stderr), 2;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    w.streams = !strcmp(argv[1], "streammgr");
    int r = home_open(&w.home, home, &e);
    if (r == 0) {
        cgroup_probe(&w.cgroups, w.home.tag);
        isolation_probe(&w.isolation, &w.home);
        r = check_spec_new(&w.home, &w.isolation, w.streams, &w.judge, &e);
    }
    if (r == 0 && !w.streams)
        home_writes_users(&w.home, check_spec_conf(w.judge));
    if (r == 0)
        watch(&w);
    else
        log_error("start", NULL, NULL, "%s", e.msg);
    check_spec_free(w.judge);
    home_close(&w.home);
    return r < 0;
}
