/* batchmgr: from a dropped file to a true verdict. The loop here wires the modules of this folder together. */
#include "across.h"
#include "admit.h"
#include "batchmgr.h"
#include "control.h"
#include "filing.h"
#include "helper.h"
#include "inspect.h"
#include "intake.h"
#include "parking.h"
#include "purge.h"
#include "release.h"
#include "retention.h"
#include "runs.h"
#include "staging.h"
#include "uploads.h"

#include "manager/enter.h"

#include "base/address.h"
#include "base/clk.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/privs.h"
#include "conf/mongo_users.h"
#include "host/userns.h"
#include "loop/daemon.h"
#include "sandbox/confine.h"

#include <errno.h>
#include <event2/thread.h>
#include <fcntl.h>
#include <mongoc/mongoc.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>

enum { QUIT_FLUSH_MS = 50, MAX_WAIT_MS = 86400000 };

static struct batchmgr *the;

struct batchmgr *batchmgr_the(void)
{
    return the;
}

struct tenant *tenant_get(struct batchmgr *m, const char *id)
{
    struct tenant *t = map_get(&m->tenants, id);
    if (!t) {
        t = xcalloc(1, sizeof *t);
        t->id = xstrdup(id);
        t->uid = t->gid = -1;
        t->last = &t->first;
        t->inspect_last = &t->inspect_first;
        t->usage.day = -1;
        map_put(&m->tenants, id, t);
    }
    return t;
}

struct usage *tenant_usage(struct tenant *t, const char *dataset)
{
    struct usage *u = map_get(&t->datasets, dataset);
    if (!u) {
        u = xcalloc(1, sizeof *u);
        u->day = -1;
        map_put(&t->datasets, dataset, u);
    }
    return u;
}

void tenant_count_live(struct batchmgr *m, const struct file *f, int by)
{
    struct tenant *t = tenant_get(m, f->tenant);
    t->usage.n_live += by;
    tenant_usage(t, f->dataset)->n_live += by;
}

const struct conf_tenant *tenant_conf(struct batchmgr *m, const struct tenant *t)
{
    return conf_tenant(m->conf, t->id);
}

bool tenant_accepts(const struct tenant *t)
{
    return t->configured && !t->suspended && !t->purging;
}

int64_t tenant_weight(struct batchmgr *m, const struct tenant *t)
{
    const struct conf_tenant *c = tenant_conf(m, t);
    return c ? c->weight : 1;
}

void file_set_state(struct file *f, enum file_state next)
{
    /* bit n of a row: the move to state n is one the state machine has */
#define TO(name) (1u << FILE_##name)
    static const unsigned allowed[FILE_N_STATES] = {
        [FILE_received] = TO(queued) | TO(waiting) | TO(rejected) | TO(duplicate) | TO(vanished),
        [FILE_queued] = TO(running) | TO(rejected) | TO(waiting),
        [FILE_running] = TO(ingested) | TO(quarantined) | TO(waiting) | TO(queued) | TO(rejected) | TO(vanished),
        [FILE_waiting] = TO(queued) | TO(running) | TO(duplicate) | TO(rejected) | TO(vanished) | TO(received),
        [FILE_rejected] = TO(waiting),
        [FILE_quarantined] = TO(waiting),
    };
#undef TO
    if (f->state != next && !(allowed[f->state] & (1u << next)))
        log_error("state", f->tenant, NULL, "file %s goes from %s to %s, a move that should not exist; please report this",
                  f->file_id, file_state_name(f->state), file_state_name(next));
    log_debug("state", f->tenant, NULL, "file %s: %s -> %s", f->file_id, file_state_name(f->state), file_state_name(next));
    f->state = next;
}

void file_timer(struct batchmgr *m, struct file *f, int64_t ms, void (*fn)(evutil_socket_t, short, void *))
{
    struct timeval tv = {ms / 1000, ms % 1000 * 1000};
    file_timer_stop(f);
    f->timer = event_new(m->base, -1, 0, fn, f);
    event_add(f->timer, &tv);
}

void file_timer_stop(struct file *f)
{
    if (f->timer)
        event_free(f->timer);
    f->timer = NULL;
}

static void on_dispatch(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    runs_dispatch(arg);
}

void batchmgr_kick(struct batchmgr *m)
{
    event_active(m->dispatch_ev, EV_TIMEOUT, 0);
}

/* ---- databases ---- */

/* The tenant's URL on a server with users: the platform's with the tenant's name, secret and database. */
static char *user_url(struct batchmgr *m, const struct conf_tenant *c)
{
    char secret[ACCESS_SECRET_SIZE];
    AUTO_FREE char *user = xasprintf("simbdp_%s", c->id);
    if (access_secret(&m->home, "mongo", c->id, secret, NULL) < 0)
        return NULL;
    return address_mongo_as(m->mongo_url, user, secret, c->database);
}

/* Databases that are not the home's own: is it the one that the tenant had? */
static void look_at_ident(struct batchmgr *m, struct tenant *t, const struct conf_tenant *c, bool up)
{
    bool ours = !c || (!*c->mongo_url && strcmp(m->mongo_kind, "url") != 0);
    if (ours || t->purging)
        idents_drop(m->idents, t->id, t->purging);
    else if (up && idents_want(m->idents, &(struct ident_of){t->id, health_url(t->health), t->mongo_url, c->database}))
        health_check(t->health);
    free(t->database_why);
    t->database_why = up ? idents_why_not(m->idents, t->id) : NULL;
}

void batchmgr_let_tenant(struct batchmgr *m, struct tenant *t)
{
    bool up = t->health && health_is_up(t->health, NULL, 0);
    sched_block_tenant(m->sched, t->id, !tenant_accepts(t) || !up || t->database_why);
}

static void refresh_tenant(struct batchmgr *m, struct tenant *t)
{
    const struct conf_tenant *c = tenant_conf(m, t);
    bool up = t->health && health_is_up(t->health, NULL, 0);
    if (c && up && !*c->mongo_url && !strcmp(m->mongo_kind, "embedded")) {
        AUTO_FREE char *url = NULL;
        const char *port = strrchr(m->mongo_url, ':');
        if (port && access_embedded_url(&m->home, atoi(port + 1), c->id, c->database, &url, NULL) == 0)
            xstr_set(&t->mongo_url, url);
    } else if (c && up) {
        AUTO_FREE char *url = NULL;
        if (!*c->mongo_url && health_users_made(t->health))
            url = user_url(m, c);
        xstr_set(&t->mongo_url, url ? url : *c->mongo_url ? c->mongo_url : m->mongo_url);
    }
    look_at_ident(m, t, c, up);
    batchmgr_let_tenant(m, t);
}

/* What streammgr needs to know: state/databases.json. */
static void tell_databases(struct batchmgr *m)
{
    AUTO_BUF struct buf b = {0};
    struct err e = {0};
    size_t i = 0;
    json_begin(&b, NULL, '{');
    for (struct tenant *t; (t = map_next(&m->tenants, &i));) {
        json_begin(&b, t->id, '{');
        json_bool(&b, "up", !t->database_why && t->health && health_is_up(t->health, NULL, 0));
        json_str(&b, "url", t->mongo_url);
        json_str(&b, "why", t->database_why);
        json_end(&b, '}');
    }
    json_end(&b, '}');
    buf_adds(&b, "\n");
    if (m->databases_told && !strcmp(m->databases_told, b.p))
        return;
    if (fd_write_file(m->home.dirfd, "state/databases.json", b.p, b.n, 0600, &e) < 0) {
        log_warn("databases", NULL, NULL, "%s", e.msg);
        return;
    }
    xstr_set(&m->databases_told, b.p);
}

static void on_health(void *arg, struct health *h)
{
    struct batchmgr *m = arg;
    size_t i = 0;
    (void)h;
    for (struct tenant *t; (t = map_next(&m->tenants, &i));)
        refresh_tenant(m, t);
    tell_databases(m);
    runs_on_health(m);
    batchmgr_kick(m);
}

int batchmgr_accept_database(struct batchmgr *m, const char *tenant, struct err *e)
{
    struct tenant *t = map_get(&m->tenants, tenant);
    if (!t)
        return err_set(e, ERR_REFUSED, "no tenant \"%s\"; `mysimbdp tenant list` shows them", tenant);
    if (!idents_accept(m->idents, tenant))
        return err_set(e, ERR_REFUSED, "nothing is wrong with the database of %s, as far as is known", tenant);
    on_health(m, NULL);
    health_check(t->health);
    return 0;
}

static struct health *health_for(struct batchmgr *m, const char *url)
{
    for (size_t i = 0; i < m->n_healths; i++)
        if (!strcmp(health_url(m->healths[i]), url))
            return m->healths[i];
    m->healths = xrealloc(m->healths, (m->n_healths + 1) * sizeof *m->healths);
    struct health *h = m->healths[m->n_healths++] = health_new(m->base, url, on_health, m);
    health_look_at_idents(h, m->idents);
    return h;
}

static void order_users(struct batchmgr *m)
{
    struct health_user *v = xcalloc(m->conf->n_tenants, sizeof *v);
    int n = 0;
    for (size_t i = 0; i < m->conf->n_tenants; i++) {
        const struct conf_tenant *c = &m->conf->tenants[i];
        char own[ACCESS_SECRET_SIZE];
        if (*c->mongo_url || access_secret(&m->home, "mongo", c->id, own, NULL) < 0)
            continue;
        v[n++] = (struct health_user){xasprintf("simbdp_%s", c->id), xstrdup(own), xstrdup(c->database)};
    }
    char secret[ACCESS_SECRET_SIZE];
    if (!strcmp(m->mongo_kind, "mongod") && access_secret(&m->home, "mongo", "*", secret, NULL) == 0)
        health_set_admin(health_for(m, m->mongo_url), "simbdp", secret);
    health_set_users(health_for(m, m->mongo_url), v, n, m->conf->platform.allow_shared_credentials);
}

/* mongo_url of the configuration, else MONGO_URL, else what `mysimbdp up` runs and wrote to state/mongo.json. */
static int find_database(struct batchmgr *m, const struct conf *c, struct err *e)
{
    const char *env = getenv("MONGO_URL");
    const char *url = *c->platform.mongo_url ? c->platform.mongo_url : env && *env ? env : NULL;
    bson_error_t be;
    if (url) {
        mongoc_uri_t *uri = mongoc_uri_new_with_error(url, &be);
        if (!uri)
            return err_set(e, ERR_CONFIG, "%s: %s", *c->platform.mongo_url ? "key 'mongo_url'" : "MONGO_URL", be.message);
        mongoc_uri_destroy(uri);
        xstr_set(&m->mongo_kind, "url");
        xstr_set(&m->mongo_url, url);
        return 0;
    }
    AUTO_BUF struct buf b = {0};
    if (fd_read_file(m->home.dirfd, "state/mongo.json", &b, 65536, NULL) < 0)
        return err_set(e, -ENOENT, "no MongoDB is known: run `mysimbdp up`, which starts one, or set MONGO_URL");
    AUTO_BSON bson_t *doc = json_parse(b.p, b.n, e);
    if (!doc) {
        err_context(e, "state/mongo.json");
        return ERR_FORMAT;
    }
    xstr_set(&m->mongo_kind, json_get_str(doc, "kind", "url"));
    xstr_set(&m->mongo_url, json_get_str(doc, "url", ""));
    return 0;
}

/* ---- configuration ---- */

struct missing {
    const char *key, *why;
};

/* Limits of the profiles that this host cannot enforce, and tenants that it cannot keep apart. */
static int check_host(struct batchmgr *m, const struct conf *c, struct err *e)
{
    const struct conf_profile *p = c->profiles.v;
    AUTO_BUF struct buf missing = {0};
    for (size_t i = 0; i < c->profiles.n; i++) {
        const int64_t limits[] = {p[i].cgroup.cpu_pct, p[i].cgroup.memory_bytes, p[i].cgroup.pids};
        static const char *const keys[] = {"cpu_pct", "memory_bytes", "pids"};
        for (int k = 0; k < 3; k++)
            if (limits[k] >= 0 && !*m->cgroups.base[k])
                buf_addf(&missing, "%sprofile %s: cgroup.%s (%s)", missing.n ? "; " : "", p[i].name, keys[k], m->cgroups.why[k]);
        if (!strcmp(p[i].isolation, CONF_FULL) && !m->isolation.full)
            buf_addf(&missing, "%sprofile %s: isolation = \"full\" (%s)", missing.n ? "; " : "", p[i].name, m->isolation.why);
    }
    if (!privs_is_root() && c->n_tenants > 1) {
        struct userns_host host;
        userns_look(&host);
        buf_addf(&missing,
                 "%sseveral tenants without root and without subordinate ids (%s): they share one uid and are not kept apart",
                 missing.n ? "; " : "", host.why);
    }
    if (!missing.n)
        return 0;
    if (c->platform.allow_missing_limits) {
        log_warn("missing_limits", NULL, NULL, "not enforced on this host: %s", missing.p);
        return 0;
    }
    return err_set(e, ERR_CONFIG,
                   "this host cannot enforce: %s. Run as root on a host with cgroups, remove these limits, or set "
                   "platform.allow_missing_limits = true",
                   missing.p);
}

static void set_apps(struct batchmgr *m, const struct conf_tenant *c)
{
    const struct conf_batch *b = c->batch.v;
    sched_set_tenant(m->sched, c->id, c->weight, c->concurrency);
    for (size_t i = 0; i < c->batch.n; i++) {
        const struct conf_profile *p = conf_profile(m->conf, b[i].profile);
        sched_set_app(m->sched, c->id, b[i].app, b[i].priority, p->requests.cpus, p->requests.memory_bytes);
    }
}

static void collect(void *arg, struct file *f)
{
    struct file ***at = arg;
    *(*at)++ = f;
}

/* Queued files are routed again: their app may have changed. */
static void requeue(struct batchmgr *m)
{
    size_t n = sched_n_queued(m->sched, NULL) + release_n(m, NULL);
    AUTO_FREE struct file **v = xcalloc(n, sizeof *v);
    struct file **end = v;
    release_drain(m, NULL, collect, &end);
    sched_drain(m->sched, collect, &end);
    for (size_t i = 0; i < n; i++)
        admit_queue(m, v[i]);
}

int batchmgr_apply_conf(struct batchmgr *m, struct conf *next, struct err *e)
{
    int r = check_host(m, next, e);
    if (r == 0)
        r = find_database(m, next, e);
    if (r < 0) {
        conf_free(next);
        return r;
    }
    struct conf *old = m->conf;
    m->conf = next;
    double cpus = next->platform.capacity.cpus > 0 ? next->platform.capacity.cpus : get_nprocs();
    struct sysinfo si = {0};
    sysinfo(&si);
    int64_t memory =
        next->platform.capacity.memory_bytes > 0 ? next->platform.capacity.memory_bytes : (int64_t)si.totalram * si.mem_unit;
    /* The host's own cores can be shared for a while; a number that somebody wrote down is a promise. */
    sched_lend_cores(m->sched, next->platform.capacity.cpus < 0);
    double share = (100.0 - (next->platform.stream_pct > 0 ? (double)next->platform.stream_pct : 0)) / 100;
    sched_set_capacity(m->sched, cpus * share, (int64_t)((double)memory * share)); /* the rest is for stream instances */
    size_t i = 0;
    for (struct tenant *t; (t = map_next(&m->tenants, &i));)
        t->configured = false;
    for (i = 0; r == 0 && i < next->n_tenants; i++) {
        const struct conf_tenant *c = &next->tenants[i];
        struct tenant *t = tenant_get(m, c->id);
        t->configured = true;
        t->purged = false;
        ledger_take_up(m->ledger, c->id);
        t->suspended = ledger_is_suspended(m->ledger, c->id);
        int64_t uid;
        r = ledger_tenant_uid(m->ledger, c->id, &(struct ids){next->platform.uid_base, next->platform.n_uids}, &uid, e);
        if (r == 0 && privs_is_root())
            t->uid = t->gid = uid;
        if (r == 0)
            r = staging_add_tenant(m, t, e);
        t->health = health_for(m, *c->mongo_url ? c->mongo_url : m->mongo_url);
        set_apps(m, c);
    }
    struct health *h = health_for(m, m->mongo_url);
    if (strcmp(m->mongo_kind, "embedded"))
        order_users(m);
    if (strcmp(m->mongo_kind, "url"))
        health_probe_writes(h, m->home.dirfd);
    parking_lift(m->parking, NULL, NULL, false);
    inspect_kick(m);
    requeue(m);
    on_health(m, NULL);
    conf_free(old);
    return r;
}

int batchmgr_reload(struct batchmgr *m, struct err *e)
{
    struct conf *next = NULL;
    int r = conf_load(m->home.path, &next, e);
    if (r == 0)
        r = spawner_tell(m->spawner, &(struct warden_request){.op = WARDEN_RELOAD}, NULL, NULL, 0);
    if (r == 0)
        r = batchmgr_apply_conf(m, next, e);
    if (r < 0) {
        log_error("reload", NULL, NULL, "the configuration in force stays: %s", e->msg);
        return r;
    }
    log_info("reload", NULL, NULL, "%zu tenants, %zu profiles", m->conf->n_tenants, m->conf->profiles.n);
    images_sweep(m->images);
    intake_rescan(m);
    if (m->supervised)
        outside_leave(m->outside, &m->home, m->conf, m->base);
    return 0;
}

/* ---- recovery ---- */

struct recovery {
    struct batchmgr *m;
    struct file **v;
    size_t n;
};

static void on_live_file(void *arg, struct file *f)
{
    struct recovery *rec = arg;
    if ((rec->n & (rec->n + 1)) == 0)
        rec->v = xrealloc(rec->v, (2 * rec->n + 2) * sizeof *rec->v);
    rec->v[rec->n++] = f;
    map_put(&rec->m->files, f->file_id, f);
    tenant_count_live(rec->m, f, 1);
}

static void on_due(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    file_timer_stop(arg);
    admit_queue(the, arg);
}

static bool bytes_are_in_work(struct batchmgr *m, const struct file *f)
{
    AUTO_FREE char *path = xasprintf("work/%s/in", f->file_id);
    return fd_exists(m->home.dirfd, path);
}

static void recover_waiting(struct batchmgr *m, struct file *f)
{
    int64_t wait_ms = f->not_before_wall_ms - clk_wall_ms();
    if (!bytes_are_in_work(m, f)) { /* a retry that had not moved them back yet: it is refiled, and can be asked for again */
        f->state = FILE_quarantined;
        f->place = PLACE_quarantine;
        xstr_set(&f->reason, "retry_interrupted");
        AUTO_FREE char *done = xasprintf("done/%s/%s/%s", f->tenant, f->dataset, f->file_id);
        if (fd_exists(m->home.dirfd, done))
            f->place = PLACE_done;
        ledger_put_file(m->ledger, f);
        map_remove(&m->files, f->file_id);
        tenant_count_live(m, f, -1);
        file_free(f);
        return;
    }
    filing_drop_filed(m, f);
    if (f->reason && !strcmp(f->reason, "same_content"))
        wait_ms = 0; /* queues behind the same content again, or finds it ingested */
    if (wait_ms > MAX_WAIT_MS)
        wait_ms = MAX_WAIT_MS; /* the calendar clock may have been set back */
    if (wait_ms > 0)
        file_timer(m, f, wait_ms, on_due);
    else
        admit_again(m, f);
}

/* Files that wait with one kept output go on together. */
static void regroup(struct recovery *rec)
{
    struct map leads = {0};
    for (size_t i = 0; i < rec->n; i++) {
        struct file *f = rec->v[i];
        if (!f || !*f->output_run || (f->state != FILE_queued && f->state != FILE_waiting))
            continue;
        struct file *lead = map_get(&leads, f->output_run);
        if (lead) {
            file_add_mate(lead, f);
            rec->v[i] = NULL;
        } else {
            map_put(&leads, f->output_run, f);
        }
    }
    map_fini(&leads);
}

static int recover(struct batchmgr *m, struct err *e)
{
    struct recovery rec = {m, NULL, 0};
    int r = ledger_each_live_file(m->ledger, on_live_file, &rec, e);
    /* Running ones first: what they use is charged before anything new is dispatched, and their content is indexed. */
    for (size_t i = 0; i < rec.n; i++)
        if (rec.v[i]->state == FILE_running || rec.v[i]->state == FILE_queued)
            admit_index(m, rec.v[i]);
    for (size_t i = 0; i < rec.n; i++)
        if (rec.v[i]->state == FILE_running) {
            runs_recover(m, rec.v[i]); /* may have queued it already */
            rec.v[i] = NULL;
        }
    runs_resolve(m);
    runs_dismiss_ended(m);
    runs_clean_groups(m);
    regroup(&rec);
    for (size_t i = 0; i < rec.n; i++) {
        struct file *f = rec.v[i];
        if (!f)
            continue;
        if (file_state_is_final(f->state))
            filing_resume(m, f);
        else if (f->state == FILE_received)
            intake_resume(m, f);
        else if (f->state == FILE_queued)
            admit_queue(m, f);
        else if (f->state == FILE_waiting)
            recover_waiting(m, f);
    }
    if (rec.n)
        log_info("recovered", NULL, NULL, "%zu unfinished files, %zu of them with runs", rec.n, m->runs.n);
    free(rec.v);
    return r;
}

/* ---- life ---- */

static void on_quit(evutil_socket_t fd, short what, void *arg)
{
    struct batchmgr *m = arg;
    (void)fd;
    (void)what;
    event_base_loopbreak(m->base);
}

void batchmgr_check_quit(struct batchmgr *m)
{
    if (!m->draining || m->runs.n || m->quit)
        return;
    m->quit = true;
    control_drained();
    purge_put_off(m);
    struct timeval tv = {0, QUIT_FLUSH_MS * 1000}; /* lets the answers leave */
    event_base_once(m->base, -1, EV_TIMEOUT, on_quit, m, &tv);
}

static void on_reload(void *arg)
{
    struct err e = {0};
    batchmgr_reload(arg, &e);
}

static void on_spawner_ready(void *arg)
{
    batchmgr_kick(arg);
}

static int start(struct batchmgr *m, struct err *e)
{
    struct conf *c = NULL;
    int r = conf_load(m->home.path, &c, e);
    if (r < 0)
        return r;
    struct sysinfo si = {0};
    sysinfo(&si);
    m->sched = sched_new(get_nprocs(), (int64_t)si.totalram * si.mem_unit);
    cgroup_probe(&m->cgroups, m->home.tag);
    isolation_probe(&m->isolation, &m->home);
    char secret[ACCESS_SECRET_SIZE];
    r = access_secret(&m->home, "mongo", "*", secret, e); /* makes the key where there is none */
    if (r == 0)
        r = spawner_new(m->base, &m->home, "batchmgr", on_spawner_ready, m, &m->spawner, e);
    if (r == 0)
        r = enter_room(&m->home, c, IDS_BATCHMGR, &m->outside, e);
    if (r < 0) {
        conf_free(c);
        return r;
    }
    spawner_begin(m->spawner);
    m->runs_fd = openat(m->home.dirfd, "runs", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* lint: ours */
    r = ledger_open(&m->home, m->base, &m->ledger, e);
    if (r < 0) {
        conf_free(c);
        return r;
    }
    m->idents = idents_new(&m->home);
    retention_start(m);
    m->conf = c; /* intake needs it; apply_conf checks the host */
    r = intake_start(m, e);
    if (r < 0)
        return r;
    struct conf *again = NULL;
    r = conf_load(m->home.path, &again, e);
    if (r == 0)
        r = batchmgr_apply_conf(m, again, e);
    if (r == 0)
        r = inspect_start(m, e);
    if (r == 0)
        r = runs_start(m, e);
    if (r == 0)
        r = recover(m, e);
    if (r == 0)
        uploads_clean(m);
    if (r == 0)
        purge_resume(m);
    if (r == 0)
        r = control_start(m, e);
    return r;
}

static void stop(struct batchmgr *m)
{
    size_t i = 0;
    control_stop();
    intake_stop(m);
    inspect_stop(m);
    release_stop(m);
    helper_stop(m);
    purge_stop(m);
    retention_stop(m);
    runs_stop_spawner(m);
    for (size_t k = 0; k < m->n_healths; k++)
        health_free(m->healths[k]);
    free(m->healths);
    idents_free(m->idents);
    ledger_close(m->ledger);
    for (struct file *f; (f = map_next(&m->files, &i));) {
        file_timer_stop(f);
        across_forget(f);
        file_free(f);
    }
    i = 0;
    for (struct tenant *t; (t = map_next(&m->tenants, &i));) {
        free(t->id);
        free(t->mongo_url);
        free(t->database_why);
        size_t k = 0;
        for (struct usage *u; (u = map_next(&t->datasets, &k));)
            free(u);
        map_fini(&t->datasets);
        free(t);
    }
    parking_free(m->parking);
    i = 0;
    for (void *x; (x = map_next(&m->exec_hashes, &i));)
        free(x);
    struct map *maps[] = {&m->tenants, &m->files, &m->staged, &m->contents, &m->uploads, &m->exec_hashes};
    for (size_t k = 0; k < sizeof maps / sizeof *maps; k++)
        map_fini(maps[k]);
    if (m->dispatch_ev)
        event_free(m->dispatch_ev);
    sched_free(m->sched);
    conf_free(m->conf);
    outside_free(m->outside);
    free(m->mongo_kind);
    free(m->mongo_url);
    free(m->databases_told);
    if (m->runs_fd >= 0)
        close(m->runs_fd);
}

static int run(struct batchmgr *m, const char *home_arg, bool supervised, struct err *e)
{
    int r = home_enter(&m->home, home_arg, e);
    if (r < 0)
        return r;
    r = confine_manager();
    if (r < 0)
        return err_sys(e, r, "cannot give up rights");
    int lock = home_lock(&m->home, "batchmgr", 0, e);
    if (lock < 0)
        return lock;
    home_narrow(&m->home);
    m->dispatch_ev = event_new(m->base, -1, 0, on_dispatch, m);
    m->parking = parking_new(m);
    struct daemon *d = daemon_new(m->base, supervised, &(struct daemon_ops){"runs are left alone", on_reload, NULL, m});
    m->supervised = supervised;
    r = start(m, e);
    if (r == 0) {
        log_info("ready", NULL, NULL, "home %s, %zu tenants", m->home.path, m->conf->n_tenants);
        event_base_dispatch(m->base);
    }
    stop(m);
    daemon_free(d);
    close(lock);
    return r;
}

static const char usage[] =
    "usage: batchmgr [--supervised] --home HOME\n"
    "Takes files in, runs the tenants' batch apps, keeps the ledger. `mysimbdp up` starts it.\n"
    "--supervised: also end when stdin closes. SIGTERM: end, leave runs alone. SIGHUP: read the configuration again.\n"
    "Exit: 0 stopped, 1 could not start (the log says why), 2 usage.\n";

int main(int argc, char **argv)
{
    struct batchmgr m = {.inotify_fd = -1, .runs_fd = -1};
    struct err e = {0};
    daemon_prepare("batchmgr"); /* with a descriptor a run, and a few a file that is looked at */
    const char *home;
    bool supervised = daemon_take_args(&argc, argv, usage, &home);
    if (argc != 1)
        return fputs(usage, stderr), 2;
    the = &m;
    m.started_wall_ms = clk_wall_ms();
    mongoc_init();
    mongoc_log_set_handler(NULL, NULL);
    evthread_use_pthreads();
    m.base = daemon_loop(0);
    int r = run(&m, home, supervised, &e);
    if (r < 0)
        log_error("start", NULL, NULL, "%s", e.msg);
    event_base_free(m.base);
    home_close(&m.home);
    mongoc_cleanup();
    return r < 0;
}
