#include "inspect.h"
#include "claim.h"
#include "files.h"
#include "inspect_reply_check.h"
#include "inspect_order.h"
#include "ledger.h"
#include "manager/spawner.h"
#include "state.h"
#include "tenants.h"

#include "base/clk.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/privs.h"
#include "loop/timer.h"
#include "read/src.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>

enum {
    MAX_LANES = 8,
    TRIES = 2,
    TICK_MS = 250,
    RESTART_MS = 200,
};

/* EXPANSION: the default of max_expansion. STUCK: an inspector that is being held back (lower priority) may take so many times its
 * time limit. */
enum { EXPANSION = 100, STUCK = 10 };
static const int64_t decompressed_bytes = INT64_C(10) << 30;

struct inspector {
    struct batchmgr *m;
    struct job *job;
    int fd;
    struct event *ev, *timer; /* timer: until a new process is started in its place */
    char *owner;              /* the only tenant whose bytes this process has read; NULL: none yet */
    struct file *file;        /* busy with */
    bool copying;
    bool aside, back; /* inspect_order.h */
    int64_t since_ms, charged_at_ms, back_at_ms, back_ms, limit_ms, memory_bytes;
};

struct inspection {
    inspect_fn inspected;
    struct inspector *v;
    size_t n, n_lanes; /* n: with those that are only there while others stand aside */
    struct event *tick_ev;
};

static void submit_next(struct batchmgr *m);
static void start_one(struct inspector *in);

static struct tenant *tenant_of(const struct inspector *in)
{
    return tenant_get(in->m, in->file->tenant);
}

/* ---- who holds what ---- */

static void charge(struct inspector *in, int64_t now_ms)
{
    struct tenant *t = tenant_of(in);
    inspect_order_charge(&t->share, now_ms - in->charged_at_ms, tenant_weight(in->m, t));
    in->charged_at_ms = now_ms;
}

/* Lowers or restores the process' priority. Only the host's root may restore it; without root the process is not used again. */
static void set_back(struct inspector *in, bool back, int64_t now_ms)
{
    if (in->back == back)
        return;
    if (!back)
        in->back_ms += now_ms - in->back_at_ms;
    in->back = back;
    in->back_at_ms = now_ms;
    if (in->job)
        job_order(in->job, back ? WARDEN_STEP_BACK : WARDEN_GO_ON);
    if (!back && (!privs_is_root() || in->m->isolation.user_namespace))
        xstr_set(&in->owner, "");
}

static void hold(struct inspector *in, struct file *f, bool copying, int64_t limit_ms)
{
    int64_t now_ms = clk_now_ms();
    in->file = f;
    in->copying = copying;
    in->since_ms = in->charged_at_ms = now_ms;
    in->back_ms = 0;
    in->limit_ms = limit_ms;
    xstr_set(&in->owner, f->tenant);
    tenant_of(in)->share.n_held++;
    if (!evtimer_pending(in->m->inspection->tick_ev, NULL)) {
        timer_set(in->m->inspection->tick_ev, TICK_MS);
    }
}

/* How long the file has been read, not counting the time at low priority. */
static int64_t looked_ms(const struct inspector *in, int64_t now_ms)
{
    return now_ms - in->since_ms - in->back_ms - (in->back ? now_ms - in->back_at_ms : 0);
}

static struct file *let_go(struct inspector *in)
{
    struct file *f = in->file;
    int64_t now_ms = clk_now_ms();
    if (!f)
        return NULL;
    charge(in, now_ms);
    f->inspected_ms += looked_ms(in, now_ms);
    tenant_of(in)->share.n_held--;
    in->file = NULL;
    in->aside = false;
    return f;
}

static struct inspect_pool pool(const struct batchmgr *m)
{
    struct inspect_pool p = {.n_lanes = (int)m->inspection->n_lanes};
    for (size_t i = 0; i < m->inspection->n; i++) {
        p.n_held += m->inspection->v[i].file != NULL;
        p.n_aside += m->inspection->v[i].aside;
    }
    return p;
}

/* ---- processes ---- */

static void on_restart(evutil_socket_t fd, short what, void *arg)
{
    struct inspector *in = arg;
    (void)fd;
    (void)what;
    event_free(in->timer);
    in->timer = NULL;
    start_one(in);
    submit_next(in->m);
}

static void start_later(struct inspector *in, int64_t ms)
{
    if (!in->timer)
        in->timer = event_new(in->m->base, -1, 0, on_restart, in);
    timer_set(in->timer, ms);
}

static void end_process(struct inspector *in)
{
    if (in->ev)
        event_free(in->ev);
    in->ev = NULL;
    if (in->fd >= 0)
        close(fd_take(&in->fd));
    job_free(in->job);
    in->job = NULL;
    in->back = false;
    xstr_set(&in->owner, NULL);
}

/* The inspector is gone, or has to go. A file that ended it gets another try, within the time that it had left: so two tries hold
 * an inspector no longer than one. One that took too long gets none. */
static void on_gone(struct inspector *in, const char *why, const char *limit)
{
    struct inspect_reply re = {.status = limit ? INSPECT_REFUSED : INSPECT_FAILED};
    bool copying = in->copying;
    struct file *f = let_go(in);
    end_process(in);
    start_later(in, RESTART_MS);
    if (!f)
        return;
    log_warn("inspector", f->tenant, NULL, "the inspector of %s (%s) %s", f->file_id, f->name, why);
    if (copying) {
        f->copy->copied(in->m, f, false, why);
    } else if (!limit && ++f->inspections < TRIES) {
        inspect_submit(in->m, f);
    } else {
        snprintf(re.reason, sizeof re.reason, "%s", limit ? limit : "");
        snprintf(re.detail, sizeof re.detail, limit ? "%s" : "reading it made the inspector fail: it %s", why);
        in->m->inspection->inspected(in->m, f, &re, NULL);
    }
}

static void check_time(struct inspector *in, int64_t now_ms)
{
    char why[128];
    if (in->file->inspected_ms + looked_ms(in, now_ms) <= in->limit_ms && now_ms - in->since_ms <= STUCK * in->limit_ms)
        return;
    snprintf(why, sizeof why, "took more than max_inspect_s, %lld s, and was ended", (long long)in->limit_ms / 1000);
    on_gone(in, why, "max_inspect_s");
}

static void on_exhausted(struct inspector *in)
{
    char why[128];
    snprintf(why, sizeof why, "took more than inspector_memory_bytes, %lld bytes, and was ended", (long long)in->memory_bytes);
    on_gone(in, why, "inspector_memory_bytes");
}

/* ---- errors of the disk ---- */

/* An error of the disk says nothing about the file: it waits, each time twice as long, and no try is counted. */
static void wait_for_disk(struct batchmgr *m, struct file *f, const char *why, void (*then)(struct batchmgr *m, struct file *f))
{
    int64_t ms = INT64_C(1000) << (f->unread < 6 ? f->unread : 6);
    f->unread++;
    log_error("disk", f->tenant, NULL, "%s (%s) in work/%s: %s; trying again", f->file_id, f->name, f->file_id, why);
    xstr_set(&f->reason, "unreadable");
    xstr_set(&f->detail, why);
    ledger_note_file(m->ledger, f);
    file_timer(m, f, ms, then);
}

/* What a sync that failed was for is never written, and the next sync would not say so: the file is to be copied. */
static void copy_later(struct batchmgr *m, struct file *f, const char *detail)
{
    AUTO_FREE char *why = xasprintf("its bytes cannot be written to the disk: %s", detail);
    f->unsynced = true;
    wait_for_disk(m, f, why, claim_move);
}

/* ---- answers ---- */

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
        on_gone(in, n == 0 || (n < 0 && errno == ECONNRESET) ? "ended" : "broke its protocol", NULL);
        submit_next(in->m);
        return;
    }
    memcpy(&re, message, sizeof re);
    if (re.status == INSPECT_EXHAUSTED) {
        on_exhausted(in);
        submit_next(in->m);
        return;
    }
    AUTO_FREE char *figures = inspect_figures(message + sizeof re, (size_t)n - sizeof re);
    struct batchmgr *m = in->m;
    bool copying = in->copying;
    set_back(in, false, clk_now_ms());
    struct file *f = let_go(in);
    inspect_reply_check(&re, copying ? -1 : f->size);
    crash_at(CRASH_inspect_commit);
    if (copying)
        f->copy->copied(m, f, re.status == INSPECT_OK, re.detail);
    else if (re.status == INSPECT_FAILED && !strcmp(re.reason, INSPECT_NOT_READ))
        wait_for_disk(m, f, re.detail, inspect_submit);
    else if (re.status == INSPECT_FAILED && !strcmp(re.reason, INSPECT_NOT_SYNCED))
        copy_later(m, f, re.detail);
    else
        m->inspection->inspected(m, f, &re, figures);
    size_t n_started = 0;
    for (size_t i = 0; i < m->inspection->n; i++)
        n_started += m->inspection->v[i].fd >= 0;
    if (n_started > m->inspection->n_lanes + 1) /* one was started in place of one that stood aside */
        end_process(in);
    submit_next(m);
}

/* What follows is done when its socket closes (on_reply). */
static void on_job_ended(void *arg, int status)
{
    struct inspector *in = arg;
    (void)status;
    in->job = NULL;
}

static void start_one(struct inspector *in)
{
    struct batchmgr *m = in->m;
    int pair[2];
    in->memory_bytes = m->conf->platform.inspector_memory_bytes;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        start_later(in, RESTART_MS);
        return;
    }
    job_free(in->job);
    in->job = job_start(m->spawner, WARDEN_INSPECT, NULL, NULL, pair[1], on_job_ended, in);
    close(pair[1]);
    if (!in->job) {
        close(pair[0]);
        start_later(in, RESTART_MS * 5);
        return;
    }
    in->fd = pair[0];
    fd_set_nonblock(in->fd);
    in->ev = event_new(m->base, in->fd, EV_READ | EV_PERSIST, on_reply, in);
    event_add(in->ev, NULL);
}

/* ---- who is next ---- */

/* A free inspector that has read no other tenant's bytes: if a file ever takes one over, it finds only its own tenant's there. */
static struct inspector *free_for(struct batchmgr *m, const struct tenant *t)
{
    struct inspector *fresh = NULL, *others = NULL, *cold = NULL;
    for (size_t i = 0; i < m->inspection->n; i++) {
        struct inspector *in = &m->inspection->v[i];
        if (in->file || in->timer)
            continue;
        if (in->fd < 0)
            cold = in;
        else if (!in->owner)
            fresh = in;
        else if (strcmp(in->owner, t->id))
            others = in;
        else
            return in;
    }
    if (fresh)
        return fresh;
    struct inspector *in = others ? others : cold;
    if (!in)
        return NULL;
    end_process(in);
    start_one(in);
    return in->fd >= 0 ? in : NULL;
}

static bool wants(const struct tenant *t)
{
    return t->inspections.first && t->configured; /* one without configuration is suspended */
}

static struct tenant *next_tenant(struct batchmgr *m)
{
    const struct inspect_pool p = pool(m);
    struct tenant *best = NULL, *warm = NULL;
    size_t i = 0;
    for (struct tenant *t; (t = map_next(&m->tenants, &i));)
        if (wants(t) && inspect_order_may_start(&p, &t->share) && (!best || inspect_order_before(&t->share, &best->share)))
            best = t;
    for (i = 0; best && i < m->inspection->n; i++) {
        const struct inspector *in = &m->inspection->v[i];
        struct tenant *t = in->fd >= 0 && !in->file && in->owner ? map_get(&m->tenants, in->owner) : NULL;
        if (t && wants(t) && inspect_order_may_start(&p, &t->share) && inspect_order_goes_on(&t->share, &best->share) &&
            (!warm || inspect_order_before(&t->share, &warm->share)))
            warm = t;
    }
    return warm ? warm : best;
}

/* A tenant that waits and holds no inspector. */
static bool somebody_waits(struct batchmgr *m)
{
    size_t i = 0;
    for (struct tenant *t; (t = map_next(&m->tenants, &i));)
        if (wants(t) && !t->share.n_held)
            return true;
    return false;
}

/* Has the oldest inspection stand aside for somebody who waits; false when none has to. */
static bool make_room(struct batchmgr *m)
{
    const struct inspect_pool p = pool(m);
    struct inspector *oldest = NULL;
    for (size_t i = 0; i < m->inspection->n; i++) {
        struct inspector *in = &m->inspection->v[i];
        if (in->file && !in->aside && (!oldest || in->since_ms < oldest->since_ms))
            oldest = in;
    }
    if (!oldest || !inspect_order_stands_aside(&p, clk_now_ms() - oldest->since_ms) || !somebody_waits(m))
        return false;
    return oldest->aside = true;
}

/* Long inspections step back for other tenants' short ones. */
static void set_priorities(struct batchmgr *m)
{
    int64_t now_ms = clk_now_ms();
    bool waits = pool(m).n_held > 0 && somebody_waits(m);
    for (size_t i = 0; i < m->inspection->n; i++) {
        struct inspector *in = &m->inspection->v[i];
        int64_t youngest_ms = waits ? 0 : -1;
        if (!in->file)
            continue;
        for (size_t k = 0; k < m->inspection->n; k++) {
            const struct inspector *other = &m->inspection->v[k];
            int64_t age_ms = now_ms - other->since_ms;
            if (other->file && strcmp(other->file->tenant, in->file->tenant) && (youngest_ms < 0 || age_ms < youngest_ms))
                youngest_ms = age_ms;
        }
        set_back(in, inspect_order_steps_back(now_ms - in->since_ms, youngest_ms), now_ms);
    }
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct batchmgr *m = arg;
    bool any = false;
    (void)fd;
    (void)what;
    for (size_t i = 0; i < m->inspection->n; i++)
        if (m->inspection->v[i].file) {
            charge(&m->inspection->v[i], clk_now_ms());
            check_time(&m->inspection->v[i], clk_now_ms());
        }
    submit_next(m);
    for (size_t i = 0; i < m->inspection->n; i++)
        any |= m->inspection->v[i].file != NULL;
    if (any)
        timer_set(m->inspection->tick_ev, TICK_MS);
}

void inspect_start(struct batchmgr *m, inspect_fn inspected)
{
    struct inspection *x = m->inspection = xcalloc(1, sizeof *x);
    int n = get_nprocs();
    x->inspected = inspected;
    x->n_lanes = n < 1 ? 1 : n > MAX_LANES ? MAX_LANES : (size_t)n;
    x->n = x->n_lanes + 1 + INSPECT_ORDER_MAX_ASIDE;
    x->v = xcalloc(x->n, sizeof *x->v);
    x->tick_ev = event_new(m->base, -1, 0, on_tick, m);
    for (size_t i = 0; i < x->n; i++)
        x->v[i] = (struct inspector){.m = m, .fd = -1};
    for (size_t i = 0; i < x->n_lanes + 1; i++) /* the others when they are needed */
        start_one(&x->v[i]);
}

void inspect_stop(struct batchmgr *m)
{
    struct inspection *x = m->inspection;
    if (!x)
        return;
    for (size_t i = 0; i < x->n; i++) {
        if (x->v[i].timer)
            event_free(x->v[i].timer);
        end_process(&x->v[i]);
    }
    event_free(x->tick_ev);
    free(x->v);
    free(x);
    m->inspection = NULL;
}

/* ---- requests ---- */

static int send_request(struct inspector *in, struct file *f, const struct inspect_request *rq, const struct buf *spec,
                        const int *fds, size_t n_fds, int64_t limit_ms)
{
    AUTO_BUF struct buf message = {0};
    buf_add(&message, rq, sizeof *rq);
    if (spec)
        buf_add(&message, spec->p, spec->n);
    int r = fd_send(in->fd, message.p, message.n, fds, n_fds);
    hold(in, f, rq->op == INSPECT_COPY, limit_ms); /* also when sending failed: on_gone lets go of it */
    if (r < 0)
        on_gone(in, "does not listen", NULL);
    return r;
}

static void inspect_one(struct inspector *in, struct file *f)
{
    struct batchmgr *m = in->m;
    const struct conf_tenant *c = conf_tenant(m->conf, f->tenant);
    const struct conf_dataset *d = c ? conf_dataset(c, f->dataset) : NULL;
    struct inspect_reply re = {.status = INSPECT_FAILED};
    AUTO_FREE char *path = file_in_path(f, f->safe);
    AUTO_FD int fd = openat(m->home.dirfd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && fd_is_shortage(errno)) {
        file_timer(m, f, RESTART_MS * 5, inspect_submit);
        return;
    }
    if (fd < 0 || !d) {
        snprintf(re.detail, sizeof re.detail, "%s", fd < 0 ? strerror(errno) : "its dataset is gone from the configuration");
        m->inspection->inspected(m, f, &re, NULL);
        return;
    }
    AUTO_BUF struct buf spec = {0};
    struct conf_limits l = conf_effective_limits(c, d);
    int64_t most = f->size > decompressed_bytes ? f->size : decompressed_bytes;
    struct inspect_request rq = {
        .op = INSPECT_READ,
        .compression = src_compression_of(f->name, NULL),
        .full = d->inspect == CONF_INSPECT_full,
        .max_decompressed_bytes = l.max_decompressed_bytes >= 0 ? l.max_decompressed_bytes : most,
        .max_expansion = l.max_expansion >= 0 ? l.max_expansion : EXPANSION,
        .max_rows = l.max_rows,
        .max_row_bytes = l.max_row_bytes,
        .max_columns = l.max_columns,
        .max_rejects = l.max_rejects,
        .max_reject_pct = l.max_reject_pct,
    };
    const struct conf_batch *app = conf_route(c, f->app, f->dataset, f->name);
    bool stored_as_it_is = app && !strcmp(app->exec, BUILTIN_LOAD);
    conf_spec_json(d, stored_as_it_is, l.max_row_bytes, f->received_wall_ms, &spec);
    send_request(in, f, &rq, &spec, &fd, 1, inspect_limit_ms(&rq, l.max_inspect_s, f->size));
}

static void copy_one(struct inspector *in, struct file *f)
{
    static const struct inspect_request rq = {.op = INSPECT_COPY};
    int fds[2];
    struct stat st;
    if (f->copy->begin(in->m, f, fds) < 0)
        return;
    int64_t size = fstat(fds[0], &st) == 0 ? st.st_size : 0;
    send_request(in, f, &rq, NULL, fds, 2, inspect_limit_ms(&rq, -1, size));
    close(fds[0]);
    close(fds[1]);
}

static void submit_next(struct batchmgr *m)
{
    struct tenant *t;
    while ((t = next_tenant(m)) || (make_room(m) && (t = next_tenant(m)))) {
        struct inspector *in = free_for(m, t);
        if (!in)
            break; /* goes on when a process was started again (on_restart) */
        struct file *f = file_list_take(&t->inspections);
        if (f->copy)
            copy_one(in, f);
        else
            inspect_one(in, f);
    }
    set_priorities(m);
}

/* A tenant that had nothing to inspect joins the others (inspect_order.h). */
static void join(struct batchmgr *m, struct tenant *t)
{
    struct tenant *least = NULL;
    size_t i = 0;
    if (t->inspections.first || t->share.n_held)
        return;
    for (struct tenant *other; (other = map_next(&m->tenants, &i));)
        if (other != t && (wants(other) || other->share.n_held) && (!least || inspect_order_before(&other->share, &least->share)))
            least = other;
    inspect_order_join(&t->share, least ? &least->share : NULL);
}

static void enqueue(struct batchmgr *m, struct file *f, const struct inspect_copy_ops *copy)
{
    struct tenant *t = tenant_get(m, f->tenant);
    join(m, t);
    f->copy = copy;
    file_list_add(&t->inspections, f);
    submit_next(m);
}

void inspect_submit(struct batchmgr *m, struct file *f)
{
    enqueue(m, f, NULL);
}

void inspect_copy(struct batchmgr *m, struct file *f, const struct inspect_copy_ops *ops)
{
    enqueue(m, f, ops);
}

void inspect_kick(struct batchmgr *m)
{
    if (m->inspection)
        submit_next(m);
}

size_t inspect_n_queued(struct batchmgr *m)
{
    size_t n = 0, i = 0;
    for (struct tenant *t; (t = map_next(&m->tenants, &i));)
        n += t->inspections.n;
    for (i = 0; i < m->inspection->n; i++)
        n += m->inspection->v[i].file != NULL;
    return n;
}
