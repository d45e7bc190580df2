/* mysimbdp describe: everything known about one thing, and why it is not further. What is known comes from the ledger (lib/query)
 * and the configuration; what it waits for from the programs, if they run. */
#include "describe.h"
#include "describe_show.h"
#include "ledger.h"

#include "base/fd.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum kind { KIND_NONE, KIND_file, KIND_run, KIND_app, KIND_tenant };

/* ---- what the kinds share ---- */

void describe_why(struct thing *t, const char *fmt, ...)
{
    va_list ap;
    char *text = NULL;
    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (n >= 0)
        json_str(&t->why, NULL, text);
    free(text);
}

static bool find_tenant(const struct thing *t, bson_t *ret)
{
    bson_iter_t it;
    return t->platform && json_get_iter(t->platform, "tenants", &it) && json_next_doc(&it, ret);
}

void describe_why_tenant(struct thing *t, bool turn)
{
    bson_t row;
    if (!t->platform) {
        describe_why(t, "the platform does not run: `mysimbdp up`");
        return;
    }
    if (!strcmp(json_get_str(t->platform, "database", ""), "down"))
        describe_why(t, "the database does not answer: %s", json_get_str(t->platform, "database_error", "?"));
    if (!find_tenant(t, &row))
        return;
    const char *state = json_get_str(&row, "state", "active"), *waits = json_get_str(&row, "waits_for", NULL);
    if (!strcmp(state, "suspended"))
        describe_why(t, "tenant %s is suspended: `mysimbdp tenant resume %s`", t->tenant, t->tenant);
    else if (strcmp(state, "active") != 0)
        describe_why(t, "tenant %s is %s", t->tenant, state);
    if (waits && turn)
        describe_why(t, "the scheduler lets the tenant wait: %s (%lld queued, %lld running)", waits,
                     (long long)json_get_i64(&row, "queued", 0), (long long)json_get_i64(&row, "running", 0));
}

bson_t *describe_query(struct thing *t, const char *question, const char *params, bool add)
{
    struct query_answer a = {0};
    struct err e = {0};
    const struct query_scope scope = {t->tenant, NULL};
    AUTO_BSON bson_t *given = json_parse(params, strlen(params), &e);
    bson_t *doc = NULL;
    query(t->q, question, &scope, given, &a);
    if (a.status == 200)
        doc = json_parse(a.body.p, a.body.n, &e);
    else if (a.status != 404)
        fprintf(stderr, "mysimbdp describe: %s: %s\n", question, *a.why ? a.why : *a.detail ? a.detail : a.code);
    if (doc && add && a.body.n > 2)
        buf_addf(&t->out, ",%.*s", (int)a.body.n - 2, a.body.p + 1);
    query_answer_fini(&a);
    return doc;
}

/* ---- a tenant ---- */

static void add_query(struct thing *t, const char *question, const char *key)
{
    AUTO_BUF struct buf b = {0};
    AUTO_BSON bson_t *doc = describe_query(t, question, "{}", false);
    bson_iter_t it;
    if (!doc || !bson_iter_init_find(&it, doc, key))
        return;
    bson_t one = BSON_INITIALIZER;
    bson_append_value(&one, key, -1, bson_iter_value(&it));
    json_from_bson(&one, &b);
    bson_destroy(&one);
    const char *from = strchr(b.p, '{') + 1;
    buf_addf(&t->out, ",%.*s", (int)(strrchr(b.p, '}') - from), from);
}

static void add_usage(struct thing *t)
{
    static const char *const what[] = {"files_today", "bytes_today", "unfinished_files"};
    AUTO_BSON bson_t *doc = describe_query(t, "usage", "{}", false);
    for (size_t i = 0; doc && i < sizeof what / sizeof *what; i++) {
        bson_iter_t it;
        bson_t used;
        if (!bson_iter_init_find(&it, doc, what[i]) || !json_iter_doc(&it, &used))
            continue;
        const int64_t limit = json_get_i64(&used, "limit", -1);
        json_i64(&t->out, what[i], json_get_i64(&used, "used", 0));
        if (limit >= 0 && json_get_i64(&used, "left", 1) <= 0)
            describe_why(t, "%s: all of %lld are used; the agreement has no more", what[i], (long long)limit);
    }
}

static void describe_tenant(struct thing *t)
{
    const struct conf_tenant *c = t->conf ? conf_tenant(t->conf, t->tenant) : NULL;
    struct buf *b = &t->out;
    bson_t row;
    bson_iter_t it;
    json_str(b, "tenant_id", t->tenant);
    json_str(b, "display_name", c ? c->display_name : NULL);
    if (find_tenant(t, &row)) {
        json_str(b, "state", json_get_str(&row, "state", ""));
        json_i64(b, "queued", json_get_i64(&row, "queued", 0));
        json_i64(b, "held", json_get_i64(&row, "held", 0));
        json_i64(b, "running", json_get_i64(&row, "running", 0));
    }
    json_i64_or_null(b, "weight", c ? c->weight : -1);
    json_i64_or_null(b, "concurrency", c ? c->concurrency : -1);
    json_str(b, "database", c && *c->database ? c->database : t->tenant);
    add_usage(t);
    add_query(t, "agreement", "limits");
    add_query(t, "agreement", "retention");
    add_query(t, "apps", "apps");
    if (c && c->own_error)
        describe_why(t, "what it configures itself is left out, since it has errors: %s", c->own_error);
    if (!c)
        describe_why(t, "conf/tenants/%s.conf is not there, or the configuration has errors: `mysimbdp check`", t->tenant);
    describe_why_tenant(t, true);
    if (t->platform && json_get_iter(t->platform, "parked_apps", &it))
        while (bson_iter_next(&it)) {
            const char *name = bson_iter_utf8(&it, NULL);
            size_t n = strlen(t->tenant);
            if (!strncmp(name, t->tenant, n) && name[n] == '/')
                describe_why(t, "app %s cannot be executed and is parked: `mysimbdp describe %s`", name + n + 1, name);
        }
}

/* ---- which it is ---- */

static bool find(struct thing *t, const char *sql, const char *id)
{
    sqlite3_stmt *s = NULL;
    bool found = false;
    if (t->db && sqlite3_prepare_v2(t->db, sql, -1, &s, NULL) == SQLITE_OK &&
        sqlite3_bind_text(s, 1, id, -1, SQLITE_STATIC) == SQLITE_OK)
        found = sqlite3_step(s) == SQLITE_ROW;
    if (found) {
        xstr_set(&t->tenant, (const char *)sqlite3_column_text(s, 0));
        xstr_set(&t->id, (const char *)sqlite3_column_text(s, 1));
    }
    sqlite3_finalize(s);
    return found;
}

static bool is_tenant(const struct thing *t, const char *id)
{
    AUTO_FREE char *file = xasprintf("conf/tenants/%s.conf", id);
    return conf_valid_id(id) && ((t->conf && conf_tenant(t->conf, id)) || fd_exists(t->h->dirfd, file));
}

/* Ids and tenants first: a file may have any name. */
static int recognise(struct thing *t, const char *what, enum kind *ret)
{
    static const char of_file[] = "SELECT tenant, file_id FROM files WHERE file_id=?";
    static const char of_run[] = "SELECT tenant, run_id FROM (SELECT tenant, run_id FROM runs UNION ALL SELECT tenant, run_id FROM "
                                 "streams.instances) WHERE run_id=?";
    static const char of_name[] = "SELECT tenant, file_id FROM files WHERE name=? ORDER BY received_at DESC, file_id DESC LIMIT 1";
    const char *slash = strchr(what, '/'), *id = what;
    *ret = KIND_NONE;
    if (slash) {
        t->tenant = xstrndup(what, (size_t)(slash - what));
        t->id = xstrdup(slash + 1);
        if (is_tenant(t, t->tenant))
            *ret = KIND_app;
        return 0;
    }
    if (is_tenant(t, what)) {
        t->tenant = xstrdup(what);
        *ret = KIND_tenant;
        return 0;
    }
    for (int run = 0; run < 2 && *ret == KIND_NONE; run++) {
        id = what;
        if (cli_whole_id(t->c, t->h, run, &id))
            return CLI_FAILED;
        if (find(t, run ? of_run : of_file, id))
            *ret = run ? KIND_run : KIND_file;
    }
    if (*ret == KIND_NONE && find(t, of_name, what))
        *ret = KIND_file;
    return 0;
}

static bool tell_app(struct thing *t)
{
    const struct conf_tenant *c = t->conf ? conf_tenant(t->conf, t->tenant) : NULL;
    const struct conf_batch *batch = c ? conf_app(c, t->id) : NULL;
    const struct conf_stream_app *stream = c ? conf_stream_app(c, t->id) : NULL;
    if (batch)
        describe_batch_app(t, c, batch);
    else if (stream)
        describe_stream_app(t, c, stream);
    return batch || stream;
}

static bool tell(struct thing *t, enum kind kind)
{
    static const char *const names[] = {"", "file", "run", "app", "tenant"};
    AUTO_BUF struct buf rq = {0};
    json_begin(&rq, NULL, '{');
    json_str(&rq, "op", "status");
    json_str(&rq, "tenant_id", t->tenant);
    json_end(&rq, '}');
    if (cli_request_now(t->h, "batchmgr.sock", rq.p, &t->platform, NULL) < 0)
        t->platform = NULL;
    json_begin(&t->out, NULL, '{');
    json_str(&t->out, "what", names[kind]);
    json_begin(&t->why, "why", '[');
    if (kind == KIND_app)
        return tell_app(t);
    if (kind == KIND_file)
        describe_file(t);
    else if (kind == KIND_run)
        describe_run(t);
    else
        describe_tenant(t);
    return true;
}

static void print_human(const bson_t *doc)
{
    bson_iter_t it;
    bool any = false;
    describe_show(doc, "why");
    puts("");
    if (json_get_iter(doc, "why", &it))
        for (; bson_iter_next(&it); any = true)
            describe_line(any ? "" : "not further", bson_iter_utf8(&it, NULL));
    if (!any)
        describe_line("not further", "nothing is known that holds it up");
}

static int print(struct thing *t)
{
    struct err e = {0};
    json_end(&t->why, ']');
    buf_addf(&t->out, ",%s}", t->why.p);
    if (t->c->json) {
        puts(t->out.p);
        return CLI_DONE;
    }
    AUTO_BSON bson_t *doc = json_parse(t->out.p, t->out.n, &e);
    if (!doc)
        return cli_fail(t->c, &e);
    print_human(doc);
    return CLI_DONE;
}

static int describe(struct thing *t, const char *what)
{
    enum kind kind;
    struct conf *conf = NULL;
    bool none = false;
    if (conf_load(t->h->path, &conf, NULL) < 0)
        conf = NULL;
    t->conf = conf;
    t->db = cli_ledger(t->c, t->h, &none);
    t->q = queries_new(t->h);
    queries_set_conf(t->q, conf);
    int r = !t->db && !none ? CLI_FAILED : recognise(t, what, &kind);
    if (!r && (kind == KIND_NONE || !tell(t, kind))) {
        fprintf(stderr,
                "mysimbdp describe: nothing is called %s: no file (by id or name), run, TENANT/APP or tenant; `mysimbdp files`, "
                "`runs`, `app list` and `tenant list` show what there is%s\n",
                what, conf ? "" : "; the configuration has errors: `mysimbdp check`");
        r = CLI_FAILED;
    }
    r = r ? r : print(t);
    queries_free(t->q);
    sqlite3_close(t->db);
    conf_free(conf);
    return r;
}

int verb_describe(struct cli *c)
{
    struct home h;
    int r = cli_args(c, 1, 1);
    if (r || cli_home(c, &h))
        return r ? r : CLI_FAILED;
    struct thing t = {.c = c, .h = &h};
    r = describe(&t, c->argv[0]);
    if (t.platform)
        bson_destroy(t.platform);
    free(t.tenant);
    free(t.id);
    buf_fini(&t.out);
    buf_fini(&t.why);
    home_close(&h);
    return r;
}
