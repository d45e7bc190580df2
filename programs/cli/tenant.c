#include "accept.h"
#include "account_change.h"
#include "cli.h"
#include "ledger.h"
#include "tenant_move.h"
#include "tenant_own.h"
#include "tenant_suspend.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/mem.h"
#include "conf/history.h"
#include "db/tenants.h"
#include "host/move_record.h"
#include "query/ledger_view.h"
#include "term/progress.h"
#include "term/table.h"
#include "term/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { LOOK_MS = 1000 /* how often a purge is looked at */ };

static const char template[] =
    "# Tenant %s. `mysimbdp explain` lists every key; with KEY it says range, default and an example.\n"
    "display_name = \"%s\";\n"
    "weight = 1;                             # share when tenants compete\n"
    "concurrency = 2;                        # batch runs at once\n"
    "limits = { max_file_bytes = 1073741824L; max_columns = 256; };   # breaking one refuses the file and names it\n"
    "datasets = (\n"
    "  { name = \"data\"; format = \"csv\"; collection = \"data\"; }\n"
    ");\n"
    "batch = (\n"
    "  { app = \"load\"; exec = \"builtin:load\"; datasets = (\"data\"); }   # or an executable in apps/%s/\n"
    ");\n";

/* The ledger knows what the configuration does not: uids, and tenants whose file is gone. */
static int64_t ledger_value(sqlite3 *db, const char *column, const char *id)
{
    AUTO_FREE char *sql = xasprintf("SELECT %s FROM tenants WHERE id=?1", column);
    sqlite3_stmt *s = NULL;
    int64_t v = -1;
    if (db && sqlite3_prepare_v2(db, sql, -1, &s, NULL) == SQLITE_OK) {
        sqlite3_bind_text(s, 1, id, -1, SQLITE_STATIC);
        if (sqlite3_step(s) == SQLITE_ROW)
            v = sqlite3_column_int64(s, 0);
    }
    sqlite3_finalize(s);
    return v;
}

static const char *tenant_state_name(int64_t bits)
{
    return bits <= 0 ? "active" : bits & TENANT_MOVED ? "moved" : bits & TENANT_HELD ? "moving" : "suspended";
}

static const struct col tenant_cols[] = {
    {"tenant_id", COL_TEXT, 1},    {"state", COL_TEXT, 1},    {"uid", COL_COUNT, 4},         {"weight", COL_COUNT, 3},
    {"concurrency", COL_COUNT, 3}, {"database", COL_TEXT, 2}, {"display_name", COL_LONG, 2},
};

static void print_tenant(struct table *table, sqlite3 *db, const struct conf_tenant *t)
{
    const struct conf_dataset *d = t->datasets.v;
    const struct conf_batch *a = t->batch.v;
    AUTO_BUF struct buf b = {0};
    const char *state = tenant_state_name(ledger_value(db, "suspended", t->id));
    int64_t uid = ledger_value(db, "uid", t->id);
    if (table) {
        table_add(table, (char *[]){xstrdup(t->id), xstrdup(state), uid < 0 ? NULL : xasprintf("%lld", (long long)uid),
                                    xasprintf("%lld", (long long)t->weight), xasprintf("%lld", (long long)t->concurrency),
                                    xstrdup(t->database), xstrdup(t->display_name)});
        return;
    }
    json_begin(&b, NULL, '{');
    json_str(&b, "tenant_id", t->id);
    json_str(&b, "display_name", t->display_name);
    json_str(&b, "state", state);
    json_i64_or_null(&b, "uid", uid);
    json_i64(&b, "weight", t->weight);
    json_i64(&b, "concurrency", t->concurrency);
    json_str(&b, "database", t->database);
    json_begin(&b, "datasets", '[');
    for (size_t i = 0; i < t->datasets.n; i++)
        json_str(&b, NULL, d[i].name);
    json_end(&b, ']');
    json_begin(&b, "apps", '[');
    for (size_t i = 0; i < t->batch.n; i++)
        json_str(&b, NULL, a[i].app);
    json_end(&b, ']');
    json_end(&b, '}');
    puts(b.p);
}

static void print_gone(struct table *table, sqlite3 *db, const struct conf *conf)
{
    sqlite3_stmt *s = NULL;
    if (!db || sqlite3_prepare_v2(db, "SELECT id, uid FROM tenants WHERE purging<2 ORDER BY id", -1, &s, NULL) != SQLITE_OK)
        return;
    while (sqlite3_step(s) == SQLITE_ROW) {
        const char *id = (const char *)sqlite3_column_text(s, 0);
        if (conf_tenant(conf, id))
            continue;
        long long uid = sqlite3_column_int64(s, 1);
        if (table)
            table_add(table, (char *[]){xstrdup(id), xstrdup("suspended"), xasprintf("%lld", uid), NULL, NULL, NULL,
                                        xasprintf("its file conf/tenants/%s.conf is gone; nothing was deleted", id)});
        else
            printf("{\"tenant_id\":\"%s\",\"display_name\":null,\"state\":\"suspended\",\"uid\":%lld,\"weight\":null,"
                   "\"concurrency\":null,\"database\":null,\"datasets\":[],\"apps\":[]}\n",
                   id, uid);
    }
    sqlite3_finalize(s);
}

static int list(struct cli *c, const struct home *h, const char *only)
{
    struct conf *conf = NULL;
    bool none;
    if (cli_conf(c, h, &conf))
        return CLI_FAILED;
    sqlite3 *db = cli_ledger(c, h, &none);
    struct table *t = c->json ? NULL : table_new(tenant_cols, sizeof tenant_cols / sizeof *tenant_cols);
    int r = only && !conf_tenant(conf, only) ? CLI_FAILED : CLI_DONE;
    for (size_t i = 0; i < conf->n_tenants; i++)
        if (!only || !strcmp(only, conf->tenants[i].id))
            print_tenant(t, db, &conf->tenants[i]);
    if (!only)
        print_gone(t, db, conf);
    if (t)
        table_print(t);
    table_free(t);
    if (only && r)
        fprintf(stderr, "mysimbdp tenant: no file conf/tenants/%s.conf\n", only);
    else if (only && !c->json) {
        AUTO_BUF struct buf b = {0};
        text_fold(false); /* the file as it is */
        if (fd_read_file(AT_FDCWD, conf_tenant(conf, only)->file, &b, 4 << 20, NULL) == 0)
            printf("# %s\n%s", conf_tenant(conf, only)->file, b.p);
    }
    sqlite3_close(db);
    conf_free(conf);
    return r;
}

/* A running platform takes the change over at once; a stopped one when it starts. */
static int reload(struct cli *c, const struct home *h, const char *who, const char *what, const char *id)
{
    struct err e = {0};
    AUTO_FREE char *whole = xasprintf("tenant %s %s", what, id);
    return accept_change(h, who, whole, false, &e) < 0 ? cli_fail(c, &e) : CLI_DONE;
}

/* A configuration that somebody else wrote must not pull in files of this host: neither into itself nor into a run. */
static int check_foreign(const char *from, const char *text, const struct conf_tenant *t, struct err *e)
{
    int line = 1;
    for (const char *p = text; t == NULL && p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL, line++)
        if (!strncmp(p + strspn(p, " \t\r\f\v"), "@include", 8))
            return err_set(e, ERR_CONFIG, "%s:%d: a file of a tenant's cannot @include others", from, line);
    for (size_t i = 0; t && i < t->batch.n + t->stream_apps.n; i++) {
        const struct conf_batch *b = t->batch.v;
        const struct conf_stream_app *a = t->stream_apps.v;
        const struct cfg_list *list = i < t->batch.n ? &b[i].secrets : &a[i - t->batch.n].secrets;
        const struct conf_secret *v = list->v;
        const char *image = i < t->batch.n ? b[i].image : a[i - t->batch.n].image;
        if (image[0] == '/')
            return err_set(
                e, ERR_CONFIG,
                "%s:%d: key 'image': \"%s\" is a directory of this host; put a copy below apps/%s/ and name that, or add "
                "the line to conf/tenants/%s.conf yourself",
                from, i < t->batch.n ? b[i].line : a[i - t->batch.n].line, image, t->id, t->id);
        for (size_t k = 0; k < list->n; k++)
            if (v[k].file[0] == '/')
                return err_set(
                    e, ERR_CONFIG,
                    "%s:%d: key 'secrets.file': \"%s\" is a file of this host; put a copy below keys/%s/ and name that, or add the "
                    "line to conf/tenants/%s.conf yourself",
                    from, v[k].line, v[k].file, t->id, t->id);
    }
    return 0;
}

/* Of an earlier tenant of that name, whose purge went on without the command that asked for it. */
static int forget_earlier(const struct home *h, const char *who, const char *id, struct err *e)
{
    AUTO_FREE char *aside = xasprintf("conf/tenants/%s.conf.removed", id);
    const struct audit_record record = {.who = who, .what = "tenant_add", .tenant = id, .outcome = "users_removed"};
    return fd_exists(h->dirfd, aside) ? 0 : account_forget_tenant(h, &record, true, e);
}

/* What a new tenant's file is made of: --from FILE, --template NAME, or else what is written above. */
struct origin {
    const char *from, *template;
};

/* @TENANT@ in it stands for the tenant's id. */
static int fill_template(const struct home *h, const char *name, const char *id, struct buf *text, struct err *e)
{
    static const char mark[] = "@TENANT@";
    AUTO_FREE char *rel = xasprintf("conf/templates/%s.conf", name);
    AUTO_BUF struct buf b = {0};
    if (!conf_valid_id(name))
        return err_set(e, ERR_USAGE, "\"%s\" is no template's name: it must match [a-z][a-z0-9_-]{0,31}", name);
    int r = fd_read_file(h->dirfd, rel, &b, 4 << 20, e);
    if (r == -ENOENT)
        return err_set(e, r, "there is no template %s/%s: a tenant's file in which %s stands for the tenant's id", h->path, rel,
                       mark);
    if (r < 0)
        return r;
    buf_add(&b, "", 0);
    const char *p = b.p;
    for (const char *at; (at = strstr(p, mark)); p = at + strlen(mark))
        buf_addf(text, "%.*s%s", (int)(at - p), p, id);
    buf_adds(text, p);
    return 0;
}

static int text_of(const struct home *h, const struct origin *o, const char *id, struct buf *text, struct err *e)
{
    if (o->template)
        return fill_template(h, o->template, id, text, e);
    if (!o->from)
        return buf_addf(text, template, id, id, id), 0;
    int r = fd_read_file(AT_FDCWD, o->from, text, 4 << 20, e);
    return r < 0 ? r : check_foreign(o->from, text->p, NULL, e);
}

static int add(struct cli *c, const struct home *h, const char *who, const char *id, const struct origin *origin)
{
    const char *from = origin->from;
    struct err e = {0};
    struct conf *conf = NULL;
    AUTO_BUF struct buf text = {0};
    AUTO_FREE char *rel = xasprintf("conf/tenants/%s.conf", id);
    AUTO_FREE char *apps = xasprintf("apps/%s", id);
    if (!conf_valid_id(id)) {
        err_set(&e, ERR_USAGE, "\"%s\" is no tenant id: it must match [a-z][a-z0-9_-]{0,31}", id);
        return cli_fail(c, &e);
    }
    if (faccessat(h->dirfd, rel, F_OK, 0) == 0) {
        err_set(&e, -EEXIST, "tenant %s exists: %s/%s; edit it and run `mysimbdp check`", id, h->path, rel);
        return cli_fail(c, &e);
    }
    if (text_of(h, origin, id, &text, &e) < 0)
        return cli_fail(c, &e);
    if (forget_earlier(h, who, id, &e) < 0 || fd_write_file(h->dirfd, rel, text.p ? text.p : "", text.n, 0640, &e) < 0)
        return cli_fail(c, &e);
    int r = cli_conf(c, h, &conf);
    if (!r && from && check_foreign(from, NULL, conf_tenant(conf, id), &e) < 0)
        r = cli_fail(c, &e);
    conf_free(conf);
    if (r) { /* a bad file must not stop the next start */
        unlinkat(h->dirfd, rel, 0);
        return r;
    }
    mkdirat(h->dirfd, apps, 0755); /* batchmgr gives it to the tenant */
    if (reload(c, h, who, "add", id)) {
        unlinkat(h->dirfd, rel, 0);
        return CLI_FAILED;
    }
    printf("tenant %s: %s/%s\n", id, h->path, rel);
    return CLI_DONE;
}

/* The tenant's file is put aside. That suspends the tenant; putting the file back undoes it. */
static int put_aside(struct cli *c, const struct home *h, const char *who, const char *id)
{
    struct err e = {0};
    AUTO_FREE char *from = xasprintf("conf/tenants/%s.conf", id);
    AUTO_FREE char *to = xasprintf("conf/tenants/%s.conf.removed", id);
    if (renameat(h->dirfd, from, h->dirfd, to) < 0) {
        err_sys(&e, -errno, "cannot put %s/%s aside", h->path, from);
        return cli_fail(c, &e);
    }
    if (reload(c, h, who, "remove", id)) {
        renameat(h->dirfd, to, h->dirfd, from);
        return CLI_FAILED;
    }
    printf("tenant %s is suspended and nothing was deleted; its file is %s/%s\n"
           "`mv` it back and `mysimbdp reload` to have it again, `mysimbdp tenant remove %s --purge` to delete all it has\n",
           id, h->path, to, id);
    return CLI_DONE;
}

/* Nobody logs in as who belonged to a tenant that is gone: another one of the same name would be his. That also holds when the
 * purge was begun and cut short, since batchmgr goes on with it by itself. r: what the purge gave. */
static int forget_accounts(struct cli *c, const struct home *h, const char *who, const char *id, int r)
{
    struct err e = {0};
    bool none;
    sqlite3 *db = r < 0 ? cli_ledger(c, h, &none) : NULL;
    const bool begun = r == 0 || ledger_value(db, "purging", id) > 0;
    sqlite3_close(db);
    const struct audit_record record = {.who = who, .what = "tenant_purge", .tenant = id, .outcome = r == 0 ? "ok" : "begun"};
    if (!begun || account_forget_tenant(h, &record, false, &e) == 0)
        return CLI_DONE;
    err_context(&e, "tenant %s is gone, but not its users (`mysimbdp user list`)", id);
    return cli_fail(c, &e);
}

/* How far it is: batchmgr says what it is at, and the ledger how many files there still are. */
struct purging {
    struct cli *c;
    const struct home *h;
    const char *id;
    struct progress *p;
    int64_t n_files, looked_ms; /* n_files: at the first look; negative: there was none */
};

static int64_t files_left(const struct purging *x)
{
    struct err e = {0};
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    int64_t n = -1;
    if (ledger_view_open(x->h, 0, &db, &e) == 0 &&
        sqlite3_prepare_v2(db, "SELECT count(*) FROM files WHERE tenant=?1", -1, &s, NULL) == SQLITE_OK &&
        sqlite3_bind_text(s, 1, x->id, -1, SQLITE_STATIC) == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW)
        n = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    sqlite3_close(db);
    return n;
}

static void show_purge(void *arg)
{
    struct purging *x = arg;
    AUTO_BUF struct buf rq = {0};
    AUTO_BSON bson_t *doc = NULL;
    bson_iter_t it;
    bson_t t;
    if (progress_is_quiet() || clk_now_ms() - x->looked_ms < LOOK_MS)
        return;
    x->looked_ms = clk_now_ms();
    json_begin(&rq, NULL, '{');
    json_str(&rq, "op", "status");
    json_str(&rq, "tenant_id", x->id);
    json_end(&rq, '}');
    const int64_t left = files_left(x);
    x->n_files = x->n_files < 0 ? left : x->n_files;
    if (cli_request_now(x->h, "batchmgr.sock", rq.p, &doc, NULL) < 0 || !json_get_iter(doc, "tenants", &it) ||
        !json_next_doc(&it, &t))
        return;
    const bool counts = left >= 0 && x->n_files > left;
    progress_show(x->p, json_get_str(&t, "waits_for", "it is removed"), counts ? x->n_files - left : 0, x->n_files,
                  counts ? "files" : NULL);
}

static int order_purge(struct cli *c, const struct home *h, const char *id, struct progress *p, struct err *e)
{
    struct purging x = {c, h, id, p, -1, clk_now_ms()};
    AUTO_BSON bson_t *doc = NULL;
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_str(&b, "op", "purge");
    json_str(&b, "tenant_id", id);
    json_end(&b, '}');
    AUTO_FD int fd = cli_connect_wait(h, "batchmgr.sock", e);
    const int r = fd < 0 ? fd : cli_exchange_long(fd, b.p, show_purge, &x, &doc, e);
    progress_clear(p);
    return r;
}

/* What it had been allowed is gone from what may be gone back to, too. */
static int forget_history(const struct home *h, const char *who, const char *id, struct err *e)
{
    AUTO_FREE char *what = xasprintf("tenant remove %s --purge", id);
    AUTO_FD int lock = accept_lock(h, ACCEPT_WAIT_MS, e);
    int r = lock < 0 ? lock : cli_tell_others(h, "reload", e);
    if (r == 0)
        r = history_forget(h->dirfd, id, e);
    if (r == 0)
        accept_note(h, who, what);
    return r;
}

int tenant_remove(struct cli *c, const struct home *h, const char *who, const char *id, bool purge)
{
    AUTO_FREE char *conf = xasprintf("conf/tenants/%s.conf", id);
    AUTO_FREE char *aside = xasprintf("conf/tenants/%s.conf.removed", id);
    struct err e = {0};
    bool there = faccessat(h->dirfd, conf, F_OK, 0) == 0;
    if (!conf_valid_id(id) || (!there && faccessat(h->dirfd, aside, F_OK, 0) < 0)) {
        err_set(&e, -ENOENT, "no tenant %s: neither %s nor %s is there in %s", id, conf, aside, h->path);
        return cli_fail(c, &e);
    }
    if (!purge)
        return there ? put_aside(c, h, who, id) : CLI_DONE;
    /* The tenant's file says which database is its own, so it has to be in place for the purge. */
    if (!there && (renameat(h->dirfd, aside, h->dirfd, conf) < 0 || reload(c, h, who, "remove", id)))
        return CLI_FAILED;
    /* The mark proves to the warden that the purge was asked for here, and not by a manager that somebody took over. */
    AUTO_FREE char *mark = home_purge_mark(id);
    if (fd_mkdirs(h->dirfd, "state/warden", 0700) < 0 || fd_write_file(h->dirfd, mark, "", 0, 0600, &e) < 0 ||
        cli_tell(h, "streammgr.sock", "forget", id, &e) < 0 || cli_tell(h, "broker.sock", "account", id, &e) < 0)
        return cli_fail(c, &e);
    struct progress p;
    progress_begin(&p, id);
    int r = order_purge(c, h, id, &p, &e);
    const int forgotten = forget_accounts(c, h, who, id, r);
    if (r == 0)
        r = forget_history(h, who, id, &e);
    if (r == 0)
        r = cli_tell(h, "broker.sock", "forget", id, &e);
    if (r < 0)
        return cli_fail(c, &e);
    unlinkat(h->dirfd, aside, 0);
    if (forgotten == CLI_DONE)
        printf("tenant %s and everything it had are gone\n", id);
    return forgotten;
}

/* One that is being moved is neither this home's to remove nor anybody else's yet. */
static int remove_unmoved(struct cli *c, const struct home *h, const char *who, const char *id, bool purge)
{
    struct err e = {0};
    if (conf_valid_id(id) && tenant_move_forbids(h, id, &e) < 0)
        return cli_fail(c, &e);
    const int r = tenant_remove(c, h, who, id, purge);
    if (r == CLI_DONE && purge && move_record_remove(h, id, &e) < 0)
        return cli_fail(c, &e);
    return r;
}

int verb_tenant(struct cli *c)
{
    if (c->argc && tenant_move_is_meant(c->argv[0]))
        return tenant_move(c);
    struct home h;
    const struct origin origin = {cli_opt(c, "--from"), cli_opt(c, "--template")};
    bool purge = cli_flag(c, "--purge");
    AUTO_FREE char *who = account_who();
    const char *if_match = cli_opt(c, "--if-match");
    const char *account = cli_opt(c, "--by"), *address = cli_opt(c, "--address"); /* for whom a keeper asks */
    int r = cli_args(c, 1, 3);
    if (r)
        return r;
    const char *what = c->argv[0], *id = c->argc > 1 ? c->argv[1] : NULL;
    bool configures = !strcmp(what, "configure");
    bool known = !strcmp(what, "list") || !strcmp(what, "show") || !strcmp(what, "add") || !strcmp(what, "suspend") ||
                 !strcmp(what, "resume") || !strcmp(what, "remove") || configures;
    if (!known || (c->argc == 3) != configures || (strcmp(what, "list") && !id) || (!strcmp(what, "list") && id))
        return cli_usage(c, known ? "%s: wrong number of arguments" : "unknown: %s", what);
    if (origin.from && origin.template)
        return cli_usage(c, "--from and --template cannot both be");
    if (cli_home(c, &h))
        return CLI_FAILED;
    if (!strcmp(what, "list") || !strcmp(what, "show"))
        r = list(c, &h, id);
    else if (!strcmp(what, "add"))
        r = add(c, &h, who, id, &origin);
    else if (!strcmp(what, "remove"))
        r = remove_unmoved(c, &h, who, id, purge);
    else if (configures)
        r = tenant_configure(c, &h, who, id, c->argv[2], if_match);
    else
        r = tenant_suspend(c, &h, &(struct tenant_order){what, id, account ? account : who, address ? address : "local"});
    home_close(&h);
    return r;
}
