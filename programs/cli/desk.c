#include "desk.h"
#include "listing.h"
#include "rejects.h"
#include "term/text.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/mem.h"
#include "db/db.h"
#include "query/objects.h"
#include "query/words.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum { MAX_ANSWER = 64 << 20, DEFAULT_ROWS = 100, PAGE_ROWS = 1000, PAGE_REJECTS = 10000, BUSY_MS = 100, FOLLOW_MS = 500 };

bool cli_desk(struct cli *c)
{
    return (c->desk = home_socket_for_others(c->home_arg, "desk.sock")) != NULL;
}

/* ---- one question ---- */

struct answer {
    bson_t *head;
    struct buf body;
    int64_t status;
};

static void answer_fini(struct answer *a)
{
    if (a->head)
        bson_destroy(a->head);
    buf_fini(&a->body);
}
#define AUTO_ANSWER __attribute__((cleanup(answer_fini)))

static int receive(int fd, struct answer *ret, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    size_t n_head = 0;
    int64_t bytes = 0;
    while (!n_head || (int64_t)(b.n - n_head) < bytes) {
        buf_reserve(&b, 65536);
        ssize_t n = recv(fd, b.p + b.n, 65536, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0 || b.n > MAX_ANSWER)
            return err_set(e, ERR_CLOSED, "the platform went away before it answered, or it took too long; try again");
        b.n += (size_t)n;
        const char *lf = n_head ? NULL : memchr(b.p, '\n', b.n);
        if (!lf)
            continue;
        n_head = (size_t)(lf - b.p) + 1;
        ret->head = json_parse(b.p, n_head - 1, e);
        bytes = ret->head ? json_get_i64(ret->head, "bytes", 0) : 0;
        if (!ret->head)
            return ERR_FORMAT;
    }
    buf_add(&ret->body, b.p + n_head, b.n - n_head);
    ret->status = json_get_i64(ret->head, "status", 503);
    return 0;
}

static int exchange(const struct cli *c, const struct buf *line, struct answer *ret, struct err *e)
{
    AUTO_FD int fd = fd_unix_connect(c->desk, true);
    if (fd < 0)
        return err_sys(e, fd, "cannot ask the platform");
    if (send(fd, line->p, line->n, MSG_NOSIGNAL) < 0 && errno != EPIPE) /* it may have refused already, and said so */
        return err_sys(e, -errno, "cannot ask the platform");
    return receive(fd, ret, e);
}

static bool is(const struct answer *a, const char *code)
{
    return !strcmp(json_get_str(a->head, "code", ""), code);
}

/* Asks {"op","tenant_id"} with the members of `more`, again while the desk is busy. 0: status is 200, or one of 400 and more that
 * is about what was asked for; or CLI_FAILED after a complaint. */
static int ask(struct cli *c, const char *op, const char *tenant, const char *more, struct answer *ret)
{
    AUTO_BUF struct buf line = {0};
    struct err e = {0};
    int64_t until = clk_now_ms() + CLI_START_WAIT_MS;
    json_begin(&line, NULL, '{');
    json_str(&line, "op", op);
    json_str(&line, "tenant_id", tenant);
    buf_addf(&line, "%s%s}\n", more ? "," : "", more ? more : "");
    int r = exchange(c, &line, ret, &e);
    while (r == 0 && is(ret, "busy") && clk_now_ms() < until) {
        answer_fini(ret);
        *ret = (struct answer){0};
        poll(NULL, 0, BUSY_MS);
        r = exchange(c, &line, ret, &e);
    }
    if (r < 0)
        return cli_fail(c, &e);
    if (is(ret, "tenant"))
        fprintf(stderr, "mysimbdp %s: there is no tenant %s\n", c->verb, tenant);
    else if (is(ret, "stranger"))
        fprintf(stderr, "mysimbdp %s: this is for the provider and for tenants' own users, and you are neither\n", c->verb);
    else if (ret->status >= 500)
        fprintf(stderr, "mysimbdp %s: the platform cannot say now (%s); try again\n", c->verb,
                json_get_str(ret->head, "code", "?"));
    else if (ret->status == 400)
        fprintf(stderr, "mysimbdp %s: %s\n", c->verb, json_get_str(ret->head, "detail", "refused"));
    else
        return 0;
    return CLI_FAILED;
}

static int ask_with(struct cli *c, const char *op, const char *tenant, const struct buf *params, struct answer *ret)
{
    AUTO_FREE char *more = xasprintf("\"params\":{%s}", params->n ? params->p : "");
    return ask(c, op, tenant, more, ret);
}

/* As cli_whole_id. */
static int make_whole(struct cli *c, const char *of, const char **id)
{
    AUTO_BUF struct buf params = {0};
    AUTO_ANSWER struct answer a = {0};
    const char *gap = strstr(*id, ID_GAP);
    bson_iter_t it, ids;
    int n = 0;
    size_t n_begin = gap ? (size_t)(gap - *id) : strlen(*id);
    if (strlen(*id) >= ID_SIZE - 1 || n_begin < 4)
        return 0;
    json_str(&params, "of", of);
    json_strn(&params, "begin", *id, n_begin);
    json_str(&params, "end", gap ? gap + strlen(ID_GAP) : "");
    if (ask_with(c, "ids", NULL, &params, &a))
        return CLI_FAILED;
    AUTO_BSON bson_t *doc = a.status == 200 ? json_parse(a.body.p, a.body.n, NULL) : NULL;
    if (doc && bson_iter_init_find(&it, doc, "ids") && bson_iter_recurse(&it, &ids))
        for (; bson_iter_next(&ids) && BSON_ITER_HOLDS_UTF8(&ids); n++)
            snprintf(c->whole_id, sizeof c->whole_id, "%s", bson_iter_utf8(&ids, NULL));
    if (n > 1)
        return fprintf(stderr, "mysimbdp %s: several ids are like %s; give more of it\n", c->verb, *id), CLI_FAILED;
    *id = n ? c->whole_id : *id;
    return 0;
}

/* ---- rows ---- */

/* Rows are kept as they came, and read by SQLite: a table of one column. */
static sqlite3 *rows_new(void)
{
    sqlite3 *db = NULL;
    if (sqlite3_open(":memory:", &db) != SQLITE_OK || words_register(db) != SQLITE_OK ||
        sqlite3_exec(db, "CREATE TABLE rows(n INTEGER PRIMARY KEY, o TEXT)", NULL, NULL, NULL) != SQLITE_OK) {
        fprintf(stderr, "mysimbdp: %s\n", db_why(db));
        sqlite3_close(db);
        return NULL;
    }
    return db;
}

/* ?1 is the body, ?2 the path in it. Returns how many rows it added; negative: the body is not what it should be. */
static int rows_add(sqlite3 *db, const char *sql, const struct buf *body, const char *path)
{
    sqlite3_stmt *s = NULL;
    int before = sqlite3_total_changes(db), r = sqlite3_prepare_v2(db, sql, -1, &s, NULL);
    if (r == SQLITE_OK) {
        sqlite3_bind_text(s, 1, body->p, (int)body->n, SQLITE_STATIC);
        if (path)
            sqlite3_bind_text(s, 2, path, -1, SQLITE_STATIC);
        r = sqlite3_step(s) == SQLITE_DONE ? SQLITE_OK : SQLITE_ERROR;
    }
    if (r != SQLITE_OK)
        fprintf(stderr, "mysimbdp: the platform's answer: %s\n", db_why(db));
    sqlite3_finalize(s);
    return r == SQLITE_OK ? sqlite3_total_changes(db) - before : ERR_FORMAT;
}

/* A cell's value, as the ledger has it. */
static void add_cell(struct buf *sql, const struct col *col)
{
    if (col->kind == COL_WORDS)
        buf_adds(sql, "words(o->>'$.state', o->>'$.reason', o->>'$.detail', COALESCE(o->>'$.rows_loaded', -1), "
                      "COALESCE(o->>'$.rows_rejected', -1))");
    else if (col->kind == COL_TIME)
        buf_addf(sql, "COALESCE(CAST(strftime('%%s', o->>'$.%s') AS INTEGER) * 1000, 0)", col->name);
    else if (col->kind == COL_COUNT)
        buf_addf(sql, "COALESCE(o->>'$.%s', -1)", col->name);
    else
        buf_addf(sql, "o->>'$.%s'", col->name);
}

static void print_rows(struct cli *c, sqlite3 *db, const struct records *r)
{
    AUTO_BUF struct buf sql = {0};
    sqlite3_stmt *s = NULL;
    buf_adds(&sql, "SELECT ");
    for (size_t i = 0; !c->json && i < r->n_cols; i++) {
        buf_adds(&sql, i ? ", " : "");
        add_cell(&sql, &r->cols[i]);
    }
    buf_addf(&sql, "%s FROM rows ORDER BY o->>'$.%s'", c->json ? "o" : "", r->id);
    if (sqlite3_prepare_v2(db, sql.p, -1, &s, NULL) != SQLITE_OK)
        fprintf(stderr, "mysimbdp %s: %s\n", c->verb, db_why(db));
    else if (!c->json)
        cli_list(c, s, r->cols, r->n_cols);
    while (c->json && s && sqlite3_step(s) == SQLITE_ROW)
        puts((const char *)sqlite3_column_text(s, 0));
    sqlite3_finalize(s);
}

/* ---- files, runs ---- */

struct wanted {
    const struct records *records;
    const char *one;                     /* the question about one of them, and what its id's parameter is called with _id */
    const char *option, *param;          /* of the second filter */
    const char *tenant, *second, *state; /* NULL: not given */
    const char *since;
    int64_t limit; /* 0: all */
};

static int fetch_one(struct cli *c, const struct wanted *w, sqlite3 *db)
{
    AUTO_BUF struct buf params = {0};
    AUTO_ANSWER struct answer a = {0};
    AUTO_FREE char *key = xasprintf("%s_id", w->one);
    if (make_whole(c, w->one, (const char **)&c->argv[0]))
        return ERR_REFUSED;
    json_str(&params, key, c->argv[0]);
    if (ask_with(c, w->one, w->tenant, &params, &a))
        return ERR_REFUSED;
    if (a.status != 200) {
        fprintf(stderr, "mysimbdp %s: the ledger has no %s\n", c->verb, c->argv[0]);
        return ERR_REFUSED;
    }
    return rows_add(db, "INSERT INTO rows(o) SELECT json_remove(?1, '$.story', '$.runs')", &a.body, NULL);
}

static int fetch_page(struct cli *c, const struct wanted *w, int64_t limit, sqlite3 *db, char **cursor)
{
    AUTO_BUF struct buf params = {0};
    AUTO_ANSWER struct answer a = {0};
    AUTO_FREE char *path = xasprintf("$.%s", w->records->what);
    json_str(&params, w->param, w->second);
    json_str(&params, "state", w->state);
    json_str(&params, "since", w->since);
    json_str(&params, "cursor", *cursor);
    json_i64(&params, "limit", limit);
    if (ask_with(c, w->records->what, w->tenant, &params, &a))
        return ERR_REFUSED;
    int n = a.status == 200 ? rows_add(db, "INSERT INTO rows(o) SELECT value FROM json_each(?1, ?2)", &a.body, path) : 0;
    AUTO_BSON bson_t *doc = a.status == 200 ? json_parse(a.body.p, a.body.n, NULL) : NULL;
    xstr_set(cursor, doc ? json_get_str(doc, "next", NULL) : NULL);
    return n;
}

static int64_t fetch(struct cli *c, const struct wanted *w, sqlite3 *db)
{
    AUTO_FREE char *cursor = NULL;
    int64_t n = 0;
    if (c->argc)
        return fetch_one(c, w, db);
    do {
        int64_t rest = w->limit > 0 ? w->limit - n : PAGE_ROWS;
        int got = fetch_page(c, w, rest < PAGE_ROWS ? rest : PAGE_ROWS, db, &cursor);
        if (got < 0)
            return got;
        n += got;
    } while (cursor && (w->limit <= 0 || n < w->limit));
    return n;
}

static int list(struct cli *c, struct wanted *w)
{
    int64_t since_ms;
    w->tenant = cli_opt(c, "--tenant");
    w->second = cli_opt(c, w->option);
    w->state = cli_opt(c, "--state");
    w->since = cli_opt(c, "--since");
    const char *limit = cli_opt(c, "--limit");
    w->limit = limit ? strtoll(limit, NULL, 10) : cli_is_read_by_programs(c) ? 0 : DEFAULT_ROWS;
    int r = cli_args(c, 0, 1);
    if (!r && w->state)
        r = cli_check_state(c, w->records, w->state);
    if (!r && w->since && clk_parse_since(w->since, &since_ms) < 0)
        r = cli_usage(c, "--since %s is no time", w->since);
    if (!r && w->second && !strcmp(w->option, "--file"))
        r = make_whole(c, "file", &w->second);
    sqlite3 *db = r ? NULL : rows_new();
    if (!db)
        return r ? r : CLI_FAILED;
    int64_t n = fetch(c, w, db);
    if (n > 0 || (n == 0 && c->csv))
        print_rows(c, db, w->records);
    if (n == 0 && !c->json)
        fprintf(stderr, "no %s%s\n", w->records->what, w->tenant || w->second || w->state || w->since ? " like this" : " yet");
    if (n > 0 && !c->json && n == w->limit)
        fprintf(stderr, "(the newest %lld; --limit 0 shows all)\n", (long long)n);
    sqlite3_close(db);
    return n < 0 ? CLI_FAILED : CLI_DONE;
}

static int files(struct cli *c)
{
    return list(c, &(struct wanted){.records = &records_files, .one = "file", .option = "--dataset", .param = "dataset"});
}

static int runs(struct cli *c)
{
    return list(c, &(struct wanted){.records = &records_runs, .one = "run", .option = "--file", .param = "file_id"});
}

/* ---- logs ---- */

static void print_log(const struct buf *b, bool raw)
{
    AUTO_BUF struct buf shown = {0};
    if (!raw)
        text_append(&shown, b->p, b->n, false);
    const struct buf *out = raw ? b : &shown;
    if (out->n && fd_write_all(STDOUT_FILENO, out->p, out->n) < 0)
        exit(CLI_FAILED);
}

static int logs(struct cli *c)
{
    bool f = cli_flag(c, "-f"), raw = cli_flag(c, "--raw");
    int r = cli_args(c, 1, 1);
    if (r || (r = make_whole(c, "run", (const char **)&c->argv[0])))
        return r;
    AUTO_FREE char *from = xstrdup("0-0"); /* the first byte that is there */
    for (bool goes_on = true; goes_on;) {
        AUTO_BUF struct buf params = {0};
        AUTO_ANSWER struct answer a = {0};
        json_str(&params, "run_id", c->argv[0]);
        json_str(&params, "from", from);
        if (ask_with(c, "log", NULL, &params, &a))
            return CLI_FAILED;
        if (a.status != 200) {
            fprintf(stderr,
                    "mysimbdp logs: no output of a run %s is kept; `mysimbdp runs` shows the runs, and retention.logs_days says "
                    "how long theirs are kept\n",
                    c->argv[0]);
            return CLI_FAILED;
        }
        print_log(&a.body, raw);
        xstr_set(&from, json_get_str(a.head, "position", from));
        goes_on = !json_get_bool(a.head, "ended", true) && (f || a.body.n);
        if (goes_on && !a.body.n)
            poll(NULL, 0, FOLLOW_MS);
    }
    return CLI_DONE;
}

/* ---- rejects ---- */

static void print_rejects(struct cli *c, sqlite3 *db)
{
    sqlite3_stmt *s = NULL;
    if (sqlite3_prepare_v2(db, "SELECT o FROM rows ORDER BY n", -1, &s, NULL) == SQLITE_OK)
        while (sqlite3_step(s) == SQLITE_ROW) {
            const char *line = (const char *)sqlite3_column_text(s, 0);
            if (c->json) {
                text_print(line);
                putchar('\n');
            } else {
                rejects_print(line, c->csv);
            }
        }
    sqlite3_finalize(s);
}

/* As rejects.jsonl has them: `repaired` only where something was. */
static int rejects(struct cli *c)
{
    static const char add[] = "INSERT INTO rows(o) SELECT CASE WHEN value->>'$.repaired' IS NULL THEN json_remove(value, "
                              "'$.repaired') ELSE value END FROM json_each(?1, ?2)";
    int64_t offset = 0;
    int r = cli_args(c, 1, 1);
    if (r || (r = make_whole(c, "file", (const char **)&c->argv[0])))
        return r;
    if (c->csv)
        rejects_print_header();
    while (offset >= 0) {
        AUTO_BUF struct buf params = {0};
        AUTO_ANSWER struct answer a = {0};
        json_str(&params, "file_id", c->argv[0]);
        json_i64(&params, "offset", offset);
        json_i64(&params, "limit", PAGE_REJECTS);
        if (ask_with(c, "rejects", NULL, &params, &a))
            return CLI_FAILED;
        if (a.status == 410) /* as the provider's: there is nothing to show */
            return CLI_DONE;
        if (a.status != 200)
            return fprintf(stderr, "mysimbdp rejects: no file %s in the ledger\n", c->argv[0]), CLI_FAILED;
        sqlite3 *db = rows_new();
        if (!db)
            return CLI_FAILED;
        rows_add(db, add, &a.body, "$.rejects");
        print_rejects(c, db);
        sqlite3_close(db);
        offset = json_get_i64(a.head, "next", -1);
    }
    return CLI_DONE;
}

/* ---- retry ---- */

static int retry(struct cli *c)
{
    AUTO_BUF struct buf more = {0};
    const char *tenant = cli_opt(c, "--tenant");
    long long n = 0;
    bool counted = false, goes_on = true;
    int r = cli_args(c, tenant ? 0 : 1, tenant ? 0 : 1);
    if (r || (!tenant && (r = make_whole(c, "file", (const char **)&c->argv[0]))))
        return r;
    if (!tenant)
        json_str(&more, "file_id", c->argv[0]);
    while (goes_on) {
        AUTO_ANSWER struct answer a = {0};
        if (ask(c, "retry", tenant, more.n ? more.p : NULL, &a))
            return CLI_FAILED;
        if (a.status == 404)
            return fprintf(stderr, "mysimbdp retry: no file %s in the ledger\n", c->argv[0]), CLI_FAILED;
        if (a.status != 200)
            return fprintf(stderr, "mysimbdp retry: %s\n", json_get_str(a.head, "detail", "refused")), CLI_FAILED;
        int64_t taken = json_get_i64(a.head, "n", 0);
        counted = bson_has_field(a.head, "n");
        goes_on = json_get_bool(a.head, "more", false) && taken; /* so many at once, for others wait meanwhile */
        n += taken;
    }
    if (counted)
        printf(n == 1 ? "%lld file is tried again\n" : "%lld files are tried again\n", n);
    return CLI_DONE;
}

/* ---- what is agreed, used and paid ---- */

/* print NULL: as "name  value" lines. */
static int show_terms(struct cli *c, const char *question, const struct buf *params, void (*print)(const bson_t *doc))
{
    AUTO_ANSWER struct answer a = {0};
    AUTO_BUF struct buf line = {0};
    if (ask_with(c, question, NULL, params, &a))
        return CLI_FAILED;
    AUTO_BSON bson_t *doc = a.status == 200 ? json_parse(a.body.p, a.body.n, NULL) : NULL;
    if (!doc)
        return fprintf(stderr, "mysimbdp %s: there is nothing to show (%s)\n", c->verb, json_get_str(a.head, "code", "?")),
               CLI_FAILED;
    json_from_bson(doc, &line);
    if (c->json)
        puts(line.p);
    else if (print)
        print(doc);
    else
        object_members(doc, NULL);
    return CLI_DONE;
}

static int agreement(struct cli *c)
{
    const struct buf none = {0};
    int r = cli_args(c, 0, 0);
    return r ? r : show_terms(c, "agreement", &none, object_agreement);
}

static int usage(struct cli *c)
{
    const struct buf none = {0};
    int r = cli_args(c, 0, 0);
    return r ? r : show_terms(c, "usage", &none, object_usage);
}

static int bill(struct cli *c)
{
    AUTO_BUF struct buf params = {0};
    int r = cli_args(c, 1, 1);
    if (r)
        return r;
    json_str(&params, "month", c->argv[0]);
    return show_terms(c, "bill", &params, NULL);
}

int verb_terms(struct cli *c)
{
    fprintf(stderr,
            "mysimbdp %s: this is for a tenant: his own user here, or --url URL; `mysimbdp tenant show T`, `stats --tenant T` are "
            "yours\n",
            c->verb);
    return CLI_FAILED;
}

cli_verb cli_verb_of_desk(const char *verb)
{
    static const struct {
        const char *name;
        cli_verb run;
    } verbs[] = {{"files", files}, {"runs", runs},           {"logs", logs},   {"rejects", rejects},
                 {"retry", retry}, {"agreement", agreement}, {"usage", usage}, {"bill", bill}};
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (!strcmp(verbs[i].name, verb))
            return verbs[i].run;
    return NULL;
}
