#include "figures.h"
#include "ledger_figures.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/prom.h"
#include "host/cgroup_use.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* LEDGER_MS: sums of the ledger that are made sooner are new ones. */
enum { ANSWER_MS = 1000, LEDGER_MS = 20, MAX_ANSWER = 32 << 20, PIECE = 1 << 18 };

enum program { BATCHMGR, STREAMMGR, BROKER, MONITOR, GATEWAY, N_PROGRAMS };

static const struct {
    const char *name, *op;
} programs[N_PROGRAMS] = {
    {"batchmgr", "status"}, {"streammgr", "status"}, {"broker", "figures"}, {"monitor", "figures"}, {"gateway", "figures"}};

struct figures {
    const struct home *home;
    struct ledger_figures *ledger;
    struct buf in[N_PROGRAMS]; /* kept for the next time: new memory costs as much as what is read into it */
};

struct figures *figures_new(const struct home *h)
{
    struct figures *f = xcalloc(1, sizeof *f);
    *f = (struct figures){.home = h, .ledger = ledger_figures_new(h)};
    return f;
}

void figures_free(struct figures *f)
{
    if (!f)
        return;
    ledger_figures_free(f->ledger);
    for (int i = 0; i < N_PROGRAMS; i++)
        buf_fini(&f->in[i]);
    free(f);
}

/* ---- asking ---- */

struct answer {
    int fd; /* -1: nothing more comes */
    struct buf *in;
    bson_t *doc;   /* its line; NULL: it has not come */
    size_t text;   /* where what is behind the line begins, and */
    size_t n_text; /* how much it is */
    bool whole;
};

static void close_answer(struct answer *a)
{
    if (a->fd >= 0)
        close(a->fd);
    a->fd = -1;
}

static void ask(const struct home *h, enum program p, bool open_metrics, struct answer *a)
{
    AUTO_FREE char *name = xasprintf("%s.sock", programs[p].name);
    AUTO_FREE char *path = home_socket(h, name);
    char rq[80];
    int n = snprintf(rq, sizeof rq, "{\"op\":\"%s\",\"format\":\"%s\"}\n", programs[p].op, open_metrics ? "openmetrics" : "text");
    a->fd = fd_unix_connect(path, false);
    if (a->fd >= 0 && send(a->fd, rq, (size_t)n, MSG_NOSIGNAL) != n)
        close_answer(a);
}

/* What has come is the answer as far as it goes. */
static void look_at(struct answer *a)
{
    const char *lf = a->doc ? NULL : memchr(a->in->p, '\n', a->in->n);
    if (lf) {
        a->text = (size_t)(lf - a->in->p) + 1;
        a->doc = json_parse(a->in->p, a->text - 1, NULL);
        int64_t n = a->doc ? json_get_i64(a->doc, "bytes", 0) : -1;
        if (n < 0 || n > MAX_ANSWER || !json_get_bool(a->doc, "ok", false)) {
            close_answer(a);
            return;
        }
        a->n_text = (size_t)n;
        buf_reserve(a->in, a->n_text + PIECE);
    }
    if (a->doc && a->in->n - a->text >= a->n_text) {
        a->whole = true;
        close_answer(a);
    }
}

static void take(struct answer *a)
{
    buf_reserve(a->in, PIECE);
    ssize_t n = recv(a->fd, a->in->p + a->in->n, PIECE, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0 || a->in->n + (size_t)n > MAX_ANSWER) {
        close_answer(a);
        return;
    }
    a->in->n += (size_t)n;
    a->in->p[a->in->n] = 0;
    look_at(a);
}

/* All answers that come in time. */
static void collect(struct answer v[N_PROGRAMS])
{
    const int64_t until_ms = clk_now_ms() + ANSWER_MS;
    for (;;) {
        struct pollfd p[N_PROGRAMS];
        int64_t left_ms = until_ms - clk_now_ms();
        bool any = false;
        for (int i = 0; i < N_PROGRAMS; i++) {
            p[i] = (struct pollfd){v[i].fd, POLLIN, 0};
            any |= v[i].fd >= 0;
        }
        if (!any || left_ms <= 0)
            break;
        poll(p, N_PROGRAMS, (int)left_ms);
        for (int i = 0; i < N_PROGRAMS; i++)
            if (v[i].fd >= 0 && p[i].revents)
                take(&v[i]);
    }
    for (int i = 0; i < N_PROGRAMS; i++)
        close_answer(&v[i]);
}

/* ---- what batchmgr and streammgr say ---- */

static const struct {
    struct prom_family family;
    const char *key;
} of_tenants[] = {
    {{"mysimbdp_tenant_unfinished_files", PROM_GAUGE, "Files of the tenant that have no verdict yet."}, "unfinished"},
    {{"mysimbdp_tenant_queued_files", PROM_GAUGE, "Files that wait for a run."}, "queued"},
    {{"mysimbdp_tenant_held_files", PROM_GAUGE, "Files that wait for a trigger or for their group."}, "held"},
    {{"mysimbdp_tenant_running_runs", PROM_GAUGE, "Batch runs that are going."}, "running"},
};

static void tenant_sample(struct prom *p, const bson_t *t, double value)
{
    AUTO_BUF struct buf labels = {0};
    prom_label(&labels, "tenant", json_get_str(t, "tenant_id", ""));
    prom_sample(p, labels.p, value);
}

static void write_tenants(struct prom *p, const bson_t *status)
{
    static const struct prom_family waits = {"mysimbdp_tenant_waiting", PROM_GAUGE,
                                             "Whether its files wait for something that `mysimbdp top` names."},
                                    suspended = {"mysimbdp_tenant_suspended", PROM_GAUGE, "Whether the tenant is suspended."};
    bson_iter_t it;
    bson_t t;
    for (size_t k = 0; k < sizeof of_tenants / sizeof *of_tenants; k++) {
        prom_family(p, &of_tenants[k].family);
        if (json_get_iter(status, "tenants", &it))
            while (json_next_doc(&it, &t))
                tenant_sample(p, &t, (double)json_get_i64(&t, of_tenants[k].key, 0));
    }
    prom_family(p, &waits);
    if (json_get_iter(status, "tenants", &it))
        while (json_next_doc(&it, &t))
            tenant_sample(p, &t, json_get_str(&t, "waits_for", NULL) != NULL);
    prom_family(p, &suspended);
    if (json_get_iter(status, "tenants", &it))
        while (json_next_doc(&it, &t))
            tenant_sample(p, &t, !strcmp(json_get_str(&t, "state", ""), "suspended"));
}

static void one(struct prom *p, const struct prom_family *f, double value)
{
    prom_family(p, f);
    prom_sample(p, NULL, value);
}

static double n_of(const bson_t *doc, const char *key)
{
    bson_iter_t it;
    double n = 0;
    if (json_get_iter(doc, key, &it))
        while (bson_iter_next(&it))
            n++;
    return n;
}

static void write_batchmgr(struct prom *p, const bson_t *s)
{
    static const struct prom_family database = {"mysimbdp_database_up", PROM_GAUGE, "Whether MongoDB answers."},
                                    intake = {"mysimbdp_intake_open", PROM_GAUGE, "Whether files are taken in."},
                                    inspecting = {"mysimbdp_inspecting_files", PROM_GAUGE, "Files that wait to be inspected."},
                                    parked = {"mysimbdp_parked_batch_apps", PROM_GAUGE,
                                              "Batch apps that are not run until the provider says so."},
                                    ahead = {"mysimbdp_clock_ahead_seconds", PROM_GAUGE,
                                             "How far the clock was set forward; nothing expires for so long."};
    one(p, &database, !strcmp(json_get_str(s, "database", ""), "up"));
    one(p, &intake, !strcmp(json_get_str(s, "intake", ""), "open"));
    one(p, &inspecting, (double)json_get_i64(s, "inspecting", 0));
    one(p, &parked, n_of(s, "parked_apps"));
    one(p, &ahead, (double)json_get_i64(s, "clock_ahead_s", 0));
    write_tenants(p, s);
}

static void write_streammgr(struct prom *p, const bson_t *s)
{
    static const struct prom_family parked = {"mysimbdp_parked_stream_apps", PROM_GAUGE,
                                              "Stream apps that are not run until the provider says so."};
    one(p, &parked, (double)json_get_i64(s, "parked", 0));
}

static void write_up(struct prom *p, const struct answer v[N_PROGRAMS], bool gateway)
{
    static const struct prom_family up = {"mysimbdp_up", PROM_GAUGE, "Whether a program of the platform answers in time."};
    prom_family(p, &up);
    for (int i = 0; i < N_PROGRAMS; i++) {
        AUTO_BUF struct buf labels = {0};
        prom_label(&labels, "program", programs[i].name);
        if (i != GATEWAY || gateway)
            prom_sample(p, labels.p, v[i].whole);
    }
}

/* What all runs waited for, by the kernel's count. Of a host that does not count it there is no sample. */
static void write_waited(struct prom *p, const struct home *h)
{
    static const struct prom_family waited = {"mysimbdp_runs_waited_seconds_total", PROM_COUNTER,
                                              "Time in which at least one process of runs and instances waited for a resource."};
    struct cgroup_host cg;
    cgroup_find(&cg, h->tag);
    const struct cgroup_waited w = cgroup_waited_of(&cg, NULL);
    prom_family(p, &waited);
    prom_sample(p, "resource=\"cpu\"", w.cpu_s);
    prom_sample(p, "resource=\"memory\"", w.memory_s);
    prom_sample(p, "resource=\"io\"", w.io_s);
}

/* ---- put together ---- */

/* What the keeper knows itself, and what it makes of the programs' states. */
static void write_own(struct figures *f, const struct answer v[N_PROGRAMS], bool gateway, bool open_metrics, struct buf *out)
{
    static const struct prom_family left = {"mysimbdp_figures_left_out", PROM_GAUGE,
                                            "Series that there was no room for in this answer."};
    struct prom p;
    size_t left_out = 0;
    prom_init(&p, out, open_metrics, PROM_PART_BYTES);
    write_up(&p, v, gateway);
    write_waited(&p, f->home);
    if (v[BATCHMGR].whole)
        write_batchmgr(&p, v[BATCHMGR].doc);
    if (v[STREAMMGR].whole)
        write_streammgr(&p, v[STREAMMGR].doc);
    for (int i = 0; i < N_PROGRAMS; i++)
        left_out += v[i].whole ? (size_t)json_get_i64(v[i].doc, "left_out", 0) : 0;
    left_out += p.n_left_out + ledger_figures_write(f->ledger, open_metrics, LEDGER_MS, out);
    prom_init(&p, out, open_metrics, PROM_PART_BYTES);
    one(&p, &left, (double)left_out);
}

int figures_write(struct figures *f, const struct conf *c, bool open_metrics, figures_fn *fn, void *arg)
{
    AUTO_BUF struct buf own = {0};
    struct answer v[N_PROGRAMS] = {0};
    bool gateway = c && *c->platform.http.listen;
    for (int i = 0; i < N_PROGRAMS; i++) {
        v[i] = (struct answer){.fd = -1, .in = &f->in[i]};
        buf_reset(v[i].in);
        if (i != GATEWAY || gateway)
            ask(f->home, (enum program)i, open_metrics, &v[i]);
    }
    collect(v);
    write_own(f, v, gateway, open_metrics, &own);
    int r = fn(arg, own.p, own.n);
    for (int i = 0; i < N_PROGRAMS; i++) {
        if (r == 0 && v[i].whole && v[i].n_text)
            r = fn(arg, v[i].in->p + v[i].text, v[i].n_text);
        if (v[i].doc)
            bson_destroy(v[i].doc);
    }
    return r;
}

int figures_to_fd(void *fd, const char *p, size_t n)
{
    return fd_write_all(*(const int *)fd, p, n);
}

/* The file is for whoever reads metrics; its directory says who that is. A name of somebody else's is not followed. */
static int replace(struct figures *f, const struct conf *c, const char *path)
{
    AUTO_FREE char *tmp = xasprintf("%s.tmp", path);
    if (unlink(tmp) < 0 && errno != ENOENT)
        return -errno;
    AUTO_FD int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644); /* lint: ours */
    int r = fd < 0 ? -errno : figures_write(f, c, false, figures_to_fd, &fd);
    if (r == 0 && fchmod(fd, 0644) < 0)
        r = -errno;
    if (r == 0 && rename(tmp, path) < 0)
        r = -errno;
    if (r < 0)
        unlink(tmp);
    return r;
}

int figures_write_file(struct figures *f, const struct conf *c, struct err *e)
{
    const char *path = c->platform.metrics.textfile;
    if (!*path)
        return 0;
    int r = replace(f, c, path);
    return r < 0 ? err_sys(e, r, "cannot write platform.metrics.textfile %s", path) : 0;
}
