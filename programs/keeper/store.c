#include "store.h"

#include "accounts/accounts.h"
#include "appstore/activation.h"
#include "base/beneath.h"
#include "base/clk.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "conf/own.h"
#include "db/tenants.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_ANSWER = 65536, KEPT_MS = 600000 /* an answer that nobody fetches */ };

extern char **environ;

struct job {
    char id[ID_SIZE]; /* the upload's name in the spool, or an order's own; "": free */
    bool is_order;    /* an operator's: no tenant's uploads keep it from its place */
    char *tenant, *app;
    pid_t pid; /* 0: it ended */
    int out;   /* what it answers */
    int64_t ended_ms;
};

struct store_keeper {
    const struct home *home;
    const struct conf *conf;
    struct accounts *accounts;
    struct job jobs[2 * STORE_JOBS]; /* that go on, or whose answer was not fetched */
};

/* One request. */
struct store_request {
    struct store_keeper *s;
    const bson_t *doc;
    const char *app, *version;
    const struct conf_tenant *tenant;
    struct account who;
};

int store_keeper_new(const struct home *h, struct store_keeper **ret, struct err *e)
{
    struct accounts *a;
    int r = accounts_open(h, &a, e);
    if (r < 0)
        return r;
    *ret = xcalloc(1, sizeof **ret);
    **ret = (struct store_keeper){.home = h, .accounts = a};
    return 0;
}

static void forget(struct job *j)
{
    fd_cleanup(&j->out);
    free(j->tenant);
    free(j->app);
    *j = (struct job){0};
}

void store_keeper_free(struct store_keeper *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < sizeof s->jobs / sizeof *s->jobs; i++) {
        if (s->jobs[i].pid && !s->jobs[i].is_order) /* an order is short, and is not left half done */
            kill(s->jobs[i].pid, SIGTERM);          /* our child, not reaped: the pid is its own */
        if (*s->jobs[i].id)
            forget(&s->jobs[i]);
    }
    accounts_close(s->accounts);
    free(s);
}

void store_keeper_set_conf(struct store_keeper *s, const struct conf *c)
{
    s->conf = c;
}

/* ---- who may ---- */

static int check_suspension(const struct store_request *q, struct err *e)
{
    struct tenant_state *v;
    size_t n;
    int r = tenant_states(q->s->home, &v, &n, e);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n && r == 0; i++)
        if (!strcmp(v[i].id, q->tenant->id) && (v[i].suspended || v[i].removed))
            r = err_refuse(e, "suspended", 0, "tenant %s is suspended", q->tenant->id);
    tenant_states_free(v, n);
    return r;
}

static bool is_about_configuration(const struct store_request *q)
{
    const char *verb = json_get_str(q->doc, "verb", "");
    return !strcmp(verb, "configure") || !strcmp(verb, "check_configuration");
}

static int open_ticket(struct store_request *q, struct err *e)
{
    int r = accounts_ticket_open(q->s->accounts, json_get_str(q->doc, "ticket", ""), &q->who, e);
    return r == ERR_REFUSED ? err_refuse(e, "unauthorized", 0, "the login does not hold any more; send the request again") : r;
}

static int let_in(struct store_request *q, struct err *e)
{
    const char *tenant = json_get_str(q->doc, "tenant_id", "");
    int r = open_ticket(q, e);
    if (r < 0)
        return r;
    q->tenant = q->s->conf && conf_valid_id(tenant) ? conf_tenant(q->s->conf, tenant) : NULL;
    if (!q->tenant || !account_may(&q->who, VERB_deploy, tenant, NULL))
        return err_refuse(e, "not_found", 0, "%s", "");
    if (q->who.role != ROLE_operator && !is_about_configuration(q) && !conf_allows(q->tenant, CONF_ALLOW_APPS))
        return err_refuse(e, "not_allowed", 0, "the agreement does not let the tenant change its apps (allow = (\"apps\"))");
    return check_suspension(q, e);
}

/* ---- uploads ---- */

static int check(const struct store_request *q, struct buf *out, struct err *e)
{
    struct appstore_app a;
    int64_t size = json_get_i64(q->doc, "size", 0), most = q->tenant->max_app_bytes;
    int r = appstore_app_of(q->tenant, q->app, &a, e);
    if (r == 0 && size > most)
        r = err_refuse(e, "max_app_bytes", 0, "%lld bytes are more than max_app_bytes = %lld", (long long)size, (long long)most);
    if (r == 0 && appstore_is_building(q->s->home, q->tenant->id, q->app))
        r = err_refuse(e, "busy", 1, "another version of app %s is being uploaded", q->app);
    json_i64(out, "max_bytes", most);
    return r;
}

static struct job *free_job(struct store_keeper *s, bool is_order, struct err *e)
{
    struct job *found = NULL;
    int going = 0;
    for (size_t i = 0; i < sizeof s->jobs / sizeof *s->jobs; i++) {
        struct job *j = &s->jobs[i];
        going += *j->id && j->pid && j->is_order == is_order;
        if (!*j->id || (!found && !j->pid))
            found = j;
    }
    if (going >= STORE_JOBS || !found) {
        err_refuse(e, "busy", 1,
                   is_order ? "%d orders are being carried out" : "%d uploads of apps are being looked at; try again soon",
                   STORE_JOBS);
        return NULL;
    }
    if (*found->id) /* nobody fetched its answer */
        forget(found);
    return found;
}

/* The gateway writes there: it may have put anything in the place of what it names. */
static int open_spooled(const struct store_request *q, const char *spool, struct err *e)
{
    struct stat st;
    AUTO_FREE char *path = xasprintf("staging/.gateway/%s", spool);
    AUTO_FD int fd = beneath_open(q->s->home->dirfd, path, O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1)
        return err_refuse(e, "spool", 0, "the upload %s is not in the spool", spool);
    return fd_take(&fd);
}

/* What it prints is its answer. */
static int start(const struct store_request *q, struct job *j, const char *id, int in, char *const argv[], struct err *e)
{
    AUTO_FD int fd = memfd_create("answer", MFD_CLOEXEC);
    posix_spawn_file_actions_t fa;
    if (fd < 0)
        return err_sys(e, -errno, "cannot start %s", argv[0]);
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_adddup2(&fa, in, 0);
    posix_spawn_file_actions_adddup2(&fa, fd, 1);
    int r = spawn_start(argv, environ, &fa, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP, &j->pid);
    if (r < 0)
        return err_sys(e, r, "cannot start %s", argv[0]);
    memcpy(j->id, id, ID_SIZE);
    j->tenant = xstrdup(q->tenant ? q->tenant->id : "");
    j->app = xstrdup(q->app);
    j->out = fd_take(&fd);
    return 0;
}

/* The upload is its stdin. */
static int start_upload(const struct store_request *q, struct job *j, const char *spool, char *const argv[], struct err *e)
{
    AUTO_FD int in = open_spooled(q, spool, e);
    return in < 0 ? in : start(q, j, spool, in, argv, e);
}

/* One of an app at a time; one configuration of a tenant's. */
static int check_alone(const struct store_request *q, struct err *e)
{
    for (size_t i = 0; i < sizeof q->s->jobs / sizeof *q->s->jobs; i++) {
        const struct job *j = &q->s->jobs[i];
        if (*j->id && j->pid && !j->is_order && !strcmp(j->tenant, q->tenant->id) && !strcmp(j->app, q->app))
            return err_refuse(e, "busy", 1, *q->app ? "another version of app %s is being uploaded" : "it is being changed%s",
                              q->app);
    }
    return 0;
}

/* A place for a job about that upload. */
static struct job *place(const struct store_request *q, const char *spool, struct buf *out, struct err *e)
{
    if (!home_valid_id(spool)) {
        err_refuse(e, "spool", 0, "\"%s\" is no name in the spool", spool);
        return NULL;
    }
    json_str(out, "job", spool);
    return check_alone(q, e) < 0 ? NULL : free_job(q->s, false, e);
}

static int push(const struct store_request *q, struct buf *out, struct err *e)
{
    const struct home *h = q->s->home;
    const char *spool = json_get_str(q->doc, "spool", "");
    AUTO_BUF struct buf ignored = {0};
    int r = check(q, &ignored, e);
    if (r < 0)
        return r;
    struct job *j = place(q, spool, out, e);
    if (!j)
        return ERR_REFUSED;
    AUTO_FREE char *program = home_program(h, "simbdp-appstore");
    char *argv[] = {program, "--home", h->path, "--by", q->who.name, "push", q->tenant->id, (char *)q->app, "-", NULL, NULL};
    if (json_get_bool(q->doc, "activate", false))
        argv[9] = "--activate";
    return start_upload(q, j, spool, argv, e);
}

/* ---- what a tenant configures itself ---- */

static int check_configuration(const struct store_request *q, struct buf *out, struct err *e)
{
    json_i64(out, "max_bytes", CONF_OWN_MAX_BYTES);
    return q->tenant->allow.n ? 0
                              : err_refuse(e, "not_allowed", 0, "the agreement does not let the tenant configure anything (allow)");
}

static int configure(const struct store_request *q, struct buf *out, struct err *e)
{
    const struct home *h = q->s->home;
    const char *spool = json_get_str(q->doc, "spool", ""), *match = json_get_str(q->doc, "if_match", NULL);
    AUTO_BUF struct buf ignored = {0};
    struct job *j = check_configuration(q, &ignored, e) == 0 ? place(q, spool, out, e) : NULL;
    if (!j)
        return ERR_REFUSED;
    AUTO_FREE char *program = home_program(h, "mysimbdp"), *option = xasprintf("--if-match=%s", match ? match : "");
    char *argv[] = {program, "--home", h->path, "tenant", "configure", q->tenant->id, "-", "--json", match ? option : NULL, NULL};
    return start_upload(q, j, spool, argv, e);
}

/* ---- what an operator orders ---- */

static bool is_order(const char *verb)
{
    return !strcmp(verb, "suspend") || !strcmp(verb, "resume") || !strcmp(verb, "verify_audit");
}

/* The command line does it, as for who types it. One of a tenant at a time. */
static int carry_out(const struct store_request *q, const char *verb, struct buf *out, struct err *e)
{
    const struct home *h = q->s->home;
    const char *address = json_get_str(q->doc, "address", "?"), *tenant = q->tenant ? q->tenant->id : "";
    for (size_t i = 0; i < sizeof q->s->jobs / sizeof *q->s->jobs; i++) {
        const struct job *j = &q->s->jobs[i];
        if (*j->id && j->pid && j->is_order && !strcmp(j->tenant, tenant))
            return err_refuse(e, "busy", 1, "such an order is being carried out");
    }
    struct job *j = free_job(q->s, true, e);
    if (!j)
        return ERR_REFUSED;
    char id[ID_SIZE];
    AUTO_FREE char *program = home_program(h, "mysimbdp"), *by = xasprintf("--by=%s", q->who.name);
    AUTO_FREE char *from = xasprintf("--address=%.64s", address);
    AUTO_FD int in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    char *const verify[] = {program, "--home", h->path, "audit", "--verify", "--json", NULL};
    char *const change[] = {program, "--home", h->path, "tenant", (char *)verb, (char *)tenant, by, from, "--json", NULL};
    home_new_id(id);
    int r = in < 0 ? err_sys(e, -errno, "cannot open /dev/null") : start(q, j, id, in, q->tenant ? change : verify, e);
    j->is_order = r == 0;
    json_str(out, "job", id);
    return r;
}

static int order(struct store_request *q, const char *verb, struct buf *out, struct err *e)
{
    const char *tenant = json_get_str(q->doc, "tenant_id", "");
    const bool of_tenant = strcmp(verb, "verify_audit") != 0;
    int r = open_ticket(q, e);
    if (r < 0)
        return r;
    if (!account_may(&q->who, VERB_admin, of_tenant ? tenant : NULL, NULL))
        return err_refuse(e, "not_found", 0, "%s", "");
    if (!of_tenant)
        return carry_out(q, verb, out, e);
    q->tenant = q->s->conf && conf_valid_id(tenant) ? conf_tenant(q->s->conf, tenant) : NULL;
    return q->tenant ? carry_out(q, verb, out, e) : err_refuse(e, "not_found", 0, "there is no such tenant");
}

/* The answer as it is, or that there will be one. False: there is no such job of the tenant's. */
static bool wait_for(struct store_keeper *s, const bson_t *doc, struct buf *out)
{
    const char *tenant = json_get_str(doc, "tenant_id", ""), *id = json_get_str(doc, "job", "");
    store_keeper_reap(s);
    for (size_t i = 0; i < sizeof s->jobs / sizeof *s->jobs; i++) {
        struct job *j = &s->jobs[i];
        AUTO_BUF struct buf text = {0};
        if (!*j->id || strcmp(j->id, id) != 0 || strcmp(j->tenant, tenant) != 0)
            continue;
        if (j->pid) {
            buf_adds(out, "{\"ok\":true,\"going\":true}");
            return true;
        }
        bool whole = lseek(j->out, 0, SEEK_SET) == 0 && fd_read_all(j->out, &text, MAX_ANSWER) == 0 && text.n;
        AUTO_BSON bson_t *answer = whole ? json_parse(text.p, text.n, NULL) : NULL;
        if (answer) /* as one line */
            json_from_bson(answer, out);
        else
            buf_adds(out, "{\"ok\":false,\"code\":\"internal\",\"error\":\"it ended without an answer; send it again\"}");
        forget(j);
        return true;
    }
    return false;
}

void store_keeper_reap(struct store_keeper *s)
{
    int64_t now = clk_now_ms();
    for (size_t i = 0; i < sizeof s->jobs / sizeof *s->jobs; i++) {
        struct job *j = &s->jobs[i];
        if (*j->id && j->pid && waitpid(j->pid, NULL, WNOHANG) == j->pid) {
            AUTO_FREE char *path = xasprintf("staging/.gateway/%s", j->id);
            if (!j->is_order)
                unlinkat(s->home->dirfd, path, 0);
            j->pid = 0;
            j->ended_ms = now;
        }
        if (*j->id && !j->pid && now - j->ended_ms > KEPT_MS)
            forget(j);
    }
}

/* ---- changes ---- */

static int change(const struct store_request *q, const char *verb, struct buf *out, struct err *e)
{
    const struct home *h = q->s->home;
    struct app_active a = {0};
    int r = !strcmp(verb, "activate")   ? appstore_activate(h, q->tenant, q->app, q->version, &a, e)
            : !strcmp(verb, "rollback") ? appstore_rollback(h, q->tenant, q->app, &a, e)
                                        : appstore_remove(h, q->tenant, q->app, q->version, e);
    if (r < 0)
        return r;
    log_info("app_version", q->tenant->id, NULL, "app %s: %s %s, by %s", q->app, verb, *a.version ? a.version : q->version,
             q->who.name);
    json_str(out, "app", q->app);
    json_str(out, "version", *a.version ? a.version : NULL);
    json_str(out, "previous", *a.before ? a.before : NULL);
    return 0;
}

static int serve(struct store_request *q, const char *verb, struct buf *out, struct err *e)
{
    bool changes = !strcmp(verb, "activate") || !strcmp(verb, "rollback") || !strcmp(verb, "remove");
    if (is_order(verb))
        return order(q, verb, out, e);
    int r = let_in(q, e);
    if (r == 0 && is_about_configuration(q))
        return !strcmp(verb, "configure") ? configure(q, out, e) : check_configuration(q, out, e);
    if (r == 0 && !conf_valid_id(q->app))
        r = err_refuse(e, "no_app", 0, "there is no such app");
    if (r < 0)
        return r;
    return !strcmp(verb, "check")  ? check(q, out, e)
           : !strcmp(verb, "push") ? push(q, out, e)
           : changes               ? change(q, verb, out, e)
                                   : err_refuse(e, "query", 0, "there is no verb %s", verb);
}

bool store_keeper_answer(struct store_keeper *s, const char *text, size_t n, struct buf *out)
{
    AUTO_BSON bson_t *doc = json_parse(text, n, NULL);
    AUTO_BUF struct buf members = {0};
    struct err e = {0};
    if (!doc)
        return false;
    const char *verb = json_get_str(doc, "verb", "");
    struct store_request q = {s, doc, json_get_str(doc, "app", ""), json_get_str(doc, "version", ""), NULL, {0}};
    if (!strcmp(verb, "wait")) {
        if (!wait_for(s, doc, out))
            buf_adds(out, "{\"ok\":false,\"code\":\"not_found\",\"error\":\"there is no such upload\"}");
        return true;
    }
    store_keeper_reap(s);
    int r = serve(&q, verb, &members, &e);
    if (r < 0 && r != ERR_REFUSED)
        log_error("appstore", q.tenant ? q.tenant->id : NULL, NULL, "%s: %s", verb, e.msg);
    json_begin(out, NULL, '{');
    json_bool(out, "ok", r >= 0);
    if (r < 0) {
        json_str(out, "code", r == ERR_REFUSED ? err_reason(&e) : "internal");
        json_str(out, "error", r == ERR_REFUSED ? e.msg : "the platform could not do it; its log says why");
        json_i64(out, "retry_after_s", e.retry_after_s);
    } else if (members.n) {
        buf_adds(out, ",");
        buf_add(out, members.p, members.n);
    }
    json_end(out, '}');
    account_fini(&q.who);
    return true;
}
