#include "inspect.h"
#include "admit.h"
#include "intake.h"

#include "common/clk.h"
#include "common/crash.h"
#include "common/fd.h"
#include "common/ids.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/read/src.h"
#include "common/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>

enum { MAX_INSPECTORS = 8, SOCKET = 3, TRIES = 2, BASE_LIMIT_S = 30, SLOWEST_BYTES_PER_S = 2 << 20, RESTART_MS = 200 };

struct inspector {
    struct batchmgr *m;
    pid_t pid; /* 0: none */
    int fd;
    struct event *ev, *timer;
    struct file *file; /* busy with */
    bool copying;
};

static void submit_next(struct batchmgr *m);
static void start_one(struct inspector *in);

static void on_restart(evutil_socket_t fd, short what, void *arg)
{
    struct inspector *in = arg;
    (void)fd;
    (void)what;
    start_one(in);
    submit_next(in->m);
}

static void timer(struct inspector *in, int64_t ms, void (*fn)(evutil_socket_t, short, void *))
{
    struct timeval tv = {ms / 1000, ms % 1000 * 1000};
    if (in->timer)
        event_free(in->timer);
    in->timer = event_new(in->m->base, -1, 0, fn, in);
    event_add(in->timer, &tv);
}

static void timer_stop(struct inspector *in)
{
    if (in->timer)
        event_free(in->timer);
    in->timer = NULL;
}

/* The inspector is gone. Its file gets another try, and after that a verdict of its own. */
static void on_gone(struct inspector *in, const char *why)
{
    struct file *f = in->file;
    struct inspect_reply re = {.status = INSPECT_FAILED};
    bool copying = in->copying;
    if (in->ev)
        event_free(in->ev);
    in->ev = NULL;
    if (in->fd >= 0)
        close(fd_take(&in->fd));
    if (in->pid > 0)
        kill(in->pid, SIGKILL); /* not reaped yet, so the pid is still its own */
    in->file = NULL;
    in->copying = false;
    timer(in, RESTART_MS, on_restart);
    if (!f)
        return;
    log_warn("inspector", f->tenant, NULL, "the inspector of %s (%s) %s", f->file_id, f->name, why);
    if (copying) {
        intake_copied(in->m, f, false, why);
    } else if (++f->inspections < TRIES) {
        inspect_submit(in->m, f);
    } else {
        snprintf(re.detail, sizeof re.detail, "reading it made the inspector fail: it %s", why);
        admit_inspected(in->m, f, &re, NULL);
    }
}

static void on_too_slow(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    on_gone(arg, "took too long and was ended");
}

/* The figures as the inspector wrote them, as members to be put into an object; NULL when they are no JSON object. */
static char *figures_of(const char *json, size_t n)
{
    AUTO_BSON bson_t *doc = n > 2 ? json_parse(json, n, NULL) : NULL;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)json[i] < 0x20)
            return NULL;
    return doc && json[0] == '{' && json[n - 1] == '}' ? xstrndup(json + 1, n - 2) : NULL;
}

static void on_reply(evutil_socket_t fd, short what, void *arg)
{
    static char message[sizeof(struct inspect_reply) + INSPECT_JSON_MAX + 4096];
    struct inspector *in = arg;
    struct inspect_reply re;
    (void)what;
    ssize_t n = recv(fd, message, sizeof message, MSG_TRUNC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < (ssize_t)sizeof re || n > (ssize_t)sizeof message || !in->file) {
        on_gone(in, n == 0 ? "ended" : "broke its protocol");
        return;
    }
    memcpy(&re, message, sizeof re);
    AUTO_FREE char *figures = figures_of(message + sizeof re, (size_t)n - sizeof re);
    struct file *f = in->file;
    bool copying = in->copying;
    timer_stop(in);
    in->file = NULL;
    in->copying = false;
    re.reason[sizeof re.reason - 1] = 0;
    re.detail[sizeof re.detail - 1] = 0;
    if (re.rows < 0 || re.bytes < 0 || re.columns < 0 || re.rejects < 0 || re.status > INSPECT_FAILED) {
        re.status = INSPECT_FAILED;
        snprintf(re.detail, sizeof re.detail, "the inspector's answer makes no sense");
    }
    crash_at(CRASH_inspect_commit);
    if (copying)
        intake_copied(in->m, f, re.status == INSPECT_OK, re.detail);
    else
        admit_inspected(in->m, f, &re, figures);
    submit_next(in->m);
}

static void start_one(struct inspector *in)
{
    struct batchmgr *m = in->m;
    AUTO_FREE char *program = home_program(&m->home, "simbdp-inspect");
    char uid[24];
    int pair[2];
    timer_stop(in);
    snprintf(uid, sizeof uid, "%lld", (long long)ids_inspector(m->conf->platform.uid_base));
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        timer(in, RESTART_MS, on_restart);
        return;
    }
    char *argv[] = {program, uid, "--home", m->home.path, NULL};
    char *envp[] = {NULL};
    posix_spawn_file_actions_t fa;
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_adddup2(&fa, pair[1], SOCKET);
    int r = spawn_start(argv, envp, &fa, 0, &in->pid);
    close(pair[1]);
    if (r < 0) {
        in->pid = 0;
        close(pair[0]);
        log_error("inspector", NULL, NULL, "cannot start %s: %s; trying again", program, err_text(r));
        timer(in, RESTART_MS * 5, on_restart);
        return;
    }
    in->fd = pair[0];
    fd_set_nonblock(in->fd);
    in->ev = event_new(m->base, in->fd, EV_READ | EV_PERSIST, on_reply, in);
    event_add(in->ev, NULL);
}

int inspect_start(struct batchmgr *m, struct err *e)
{
    (void)e;
    int n = get_nprocs();
    m->n_inspectors = n < 1 ? 1 : n > MAX_INSPECTORS ? MAX_INSPECTORS : (size_t)n;
    m->inspectors = xcalloc(m->n_inspectors, sizeof *m->inspectors);
    for (size_t i = 0; i < m->n_inspectors; i++) {
        m->inspectors[i] = (struct inspector){.m = m, .fd = -1};
        start_one(&m->inspectors[i]);
    }
    return 0;
}

void inspect_stop(struct batchmgr *m)
{
    for (size_t i = 0; i < m->n_inspectors; i++) {
        struct inspector *in = &m->inspectors[i];
        timer_stop(in);
        if (in->ev)
            event_free(in->ev);
        if (in->fd >= 0)
            close(in->fd);
        if (in->pid > 0)
            kill(in->pid, SIGKILL);
    }
    free(m->inspectors);
    m->inspectors = NULL;
    m->n_inspectors = 0;
}

static struct inspector *idle(struct batchmgr *m)
{
    for (size_t i = 0; i < m->n_inspectors; i++)
        if (m->inspectors[i].fd >= 0 && !m->inspectors[i].file)
            return &m->inspectors[i];
    return NULL;
}

static int send_request(struct inspector *in, struct file *f, const struct inspect_request *rq, const struct buf *spec,
                        const int *fds, size_t n_fds)
{
    AUTO_BUF struct buf message = {0};
    buf_add(&message, rq, sizeof *rq);
    if (spec)
        buf_add(&message, spec->p, spec->n);
    int r = fd_send(in->fd, message.p, message.n, fds, n_fds);
    in->file = f; /* also when it failed: on_gone sees to it */
    in->copying = rq->op == INSPECT_COPY;
    if (r < 0) {
        on_gone(in, "does not listen");
        return r;
    }
    timer(in, BASE_LIMIT_S * 1000 + (f->size > 0 ? f->size / (SLOWEST_BYTES_PER_S / 1000) : 600000), on_too_slow);
    return 0;
}

static void on_submit_again(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    file_timer_stop(arg);
    inspect_submit(batchmgr_the(), arg);
}

static void inspect_submit_later(struct batchmgr *m, struct file *f)
{
    file_timer(m, f, RESTART_MS * 5, on_submit_again);
}

static void inspect_one(struct inspector *in, struct file *f)
{
    struct batchmgr *m = in->m;
    const struct conf_tenant *c = conf_tenant(m->conf, f->tenant);
    const struct conf_dataset *d = c ? conf_dataset(c, f->dataset) : NULL;
    struct inspect_reply re = {.status = INSPECT_FAILED};
    AUTO_FREE char *path = xasprintf("work/%s/in/%s", f->file_id, f->safe);
    AUTO_FD int fd = openat(m->home.dirfd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) { /* our trouble, not the file's */
        inspect_submit_later(m, f);
        return;
    }
    if (fd < 0 || !d) {
        snprintf(re.detail, sizeof re.detail, "%s", fd < 0 ? strerror(errno) : "its dataset is gone from the configuration");
        admit_inspected(m, f, &re, NULL);
        return;
    }
    AUTO_BUF struct buf spec = {0};
    struct conf_limits l = conf_effective_limits(c, d);
    struct inspect_request rq = {
        .op = INSPECT_READ,
        .compression = src_compression_of(f->name, NULL),
        .full = !strcmp(d->inspect, "full"),
        .max_decompressed_bytes = l.max_decompressed_bytes,
        .max_rows = l.max_rows,
        .max_row_bytes = l.max_row_bytes,
        .max_columns = l.max_columns,
        .max_rejects = l.max_rejects,
    };
    const struct conf_batch *app = conf_route(c, f->app, f->dataset, f->name);
    bool stored_as_it_is = app && !strcmp(app->exec, BUILTIN_LOAD);
    conf_spec_json(d, stored_as_it_is, l.max_row_bytes, f->received_wall_ms, &spec);
    send_request(in, f, &rq, &spec, &fd, 1);
}

/* The tenant whose files were inspected least, by bytes over weight. One without configuration is suspended. */
static struct tenant *next_tenant(struct batchmgr *m)
{
    struct tenant *best = NULL;
    size_t i = 0;
    for (struct tenant *t; (t = map_next(&m->tenants, &i));)
        if (t->inspect_first && t->configured && (!best || t->inspected < best->inspected))
            best = t;
    return best;
}

static void submit_next(struct batchmgr *m)
{
    struct inspector *in;
    struct tenant *t;
    while ((in = idle(m)) && (t = next_tenant(m))) {
        struct file *f = t->inspect_first;
        t->inspect_first = f->next;
        if (!t->inspect_first)
            t->inspect_last = &t->inspect_first;
        f->next = NULL;
        t->inspected += (double)(f->size + 4096) / (double)tenant_weight(m, t);
        inspect_one(in, f);
    }
}

void inspect_submit(struct batchmgr *m, struct file *f)
{
    struct tenant *t = tenant_get(m, f->tenant);
    if (!t->inspect_first) { /* starts level with those that wait already: idling earns no credit */
        struct tenant *least = next_tenant(m);
        if (least && t->inspected < least->inspected)
            t->inspected = least->inspected;
        t->inspect_last = &t->inspect_first;
    }
    f->next = NULL;
    *t->inspect_last = f;
    t->inspect_last = &f->next;
    submit_next(m);
}

void inspect_kick(struct batchmgr *m)
{
    submit_next(m);
}

void inspect_copy(struct batchmgr *m, struct file *f, int from, int to)
{
    int fds[] = {from, to};
    struct inspect_request rq = {.op = INSPECT_COPY};
    struct inspector *in = idle(m);
    if (in)
        send_request(in, f, &rq, NULL, fds, 2);
    close(from);
    close(to);
    if (!in)
        intake_copied(m, f, false, "all inspectors are busy");
}

bool inspect_reaped(struct batchmgr *m, int pid)
{
    for (size_t i = 0; i < m->n_inspectors; i++)
        if (m->inspectors[i].pid == pid) {
            m->inspectors[i].pid = 0;
            return true;
        }
    return false;
}

size_t inspect_n_queued(struct batchmgr *m)
{
    size_t n = 0, i = 0;
    for (struct tenant *t; (t = map_next(&m->tenants, &i));)
        for (const struct file *f = t->inspect_first; f; f = f->next)
            n++;
    for (i = 0; i < m->n_inspectors; i++)
        n += m->inspectors[i].file != NULL;
    return n;
}
