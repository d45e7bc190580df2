#include "listing.h"
#include "ledger.h"
#include "watch.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/near.h"
#include "base/spawn.h"
#include "db/db.h"
#include "query/changes.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>

enum { MAX_OUTPUT = 256 << 20 };

/* What a program reads is whole. */
static char *cell_text(const struct cli *c, sqlite3_stmt *s, int i, const struct col *col)
{
    char stamp[CLK_RFC3339_SIZE];
    if (column_is_null(s, i, col->kind))
        return NULL;
    if (col->kind == COL_TIME)
        return xstrndup(clk_rfc3339(sqlite3_column_int64(s, i), stamp), c->csv ? sizeof stamp : 19);
    if (col->kind == COL_NUMBER)
        return xasprintf(c->csv ? "%.15g" : "%.3f", sqlite3_column_double(s, i));
    if (col->kind == COL_BOOL && c->csv)
        return xstrdup(sqlite3_column_int(s, i) ? "true" : "false");
    if (col->kind == COL_BOOL)
        return xstrdup(sqlite3_column_int(s, i) ? "yes" : "no");
    return xstrdup((const char *)sqlite3_column_text(s, i));
}

static void print_object(sqlite3_stmt *s, const struct col *cols, size_t n_cols)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    columns_json(&b, s, cols, n_cols);
    json_end(&b, '}');
    puts(b.p);
}

int cli_list(struct cli *c, sqlite3_stmt *s, const struct col *cols, size_t n_cols)
{
    struct table *t = c->json ? NULL : table_new(cols, n_cols);
    char **cells = xcalloc(n_cols, sizeof *cells);
    int n = 0;
    for (; sqlite3_step(s) == SQLITE_ROW; n++) {
        if (c->json) {
            print_object(s, cols, n_cols);
            continue;
        }
        for (size_t i = 0; i < n_cols; i++)
            cells[i] = cell_text(c, s, (int)i, &cols[i]);
        table_add(t, cells);
    }
    if (t && (n || c->csv))
        table_print(t);
    table_free(t);
    free(cells);
    return n;
}

/* Makes the statement for the options that were given; values to bind are put into `values`. */
static char *listing_sql(const struct cli *c, const struct listing *l, const char *const given[3], int64_t since_ms, int64_t limit,
                         const char *values[4], int *n_values)
{
    AUTO_BUF struct buf b = {0};
    const struct records *r = l->records;
    const char *extra = given[2] ? records_index_of(r, given[2]) : NULL;
    *n_values = 0;
    buf_addf(&b, "%s WHERE 1", r->select);
    if (c->argc) {
        buf_addf(&b, " AND %s=?", r->id);
        values[(*n_values)++] = c->argv[0];
    }
    for (int i = 0; i < 3; i++) {
        if (!given[i])
            continue;
        buf_addf(&b, " AND %s", l->filters[i].condition);
        values[(*n_values)++] = given[i];
    }
    if (extra)
        buf_addf(&b, " AND %s", extra);
    if (since_ms)
        buf_addf(&b, " AND %s>=%lld", r->since, (long long)since_ms);
    if (limit <= 0)
        return xasprintf("%s ORDER BY %s", b.p, r->id);
    /* Rows are sorted by id, which is by time. With a tenant its index has the ids in that order, too. */
    AUTO_FREE char *newest = given[0] && !given[2] ? xasprintf("%s DESC, %s", r->since, r->id) : xstrdup(r->id);
    return xasprintf("SELECT * FROM (%s ORDER BY %s DESC LIMIT %lld) ORDER BY %s", b.p, newest, (long long)limit, r->id);
}

static int64_t listing_limit(const struct cli *c, const char *limit)
{
    if (limit)
        return strtoll(limit, NULL, 10);
    return cli_is_read_by_programs(c) || c->argc ? 0 : 100;
}

/* Takes what one of our programs prints, and waits for its end. -EWOULDBLOCK: it cannot say now. */
static int output_of(char *const argv[], struct buf *out, struct err *e)
{
    int status, r = spawn_output(argv, environ, out, MAX_OUTPUT, &status, e);
    if (r == 0 && WIFEXITED(status) && WEXITSTATUS(status) == EX_TEMPFAIL)
        return err_set(e, -EWOULDBLOCK, "%s is starting, and does not answer yet; try again", argv[0]);
    if (r == 0 && (!WIFEXITED(status) || WEXITSTATUS(status)))
        return err_set(e, ERR_REFUSED, "%s is down, and what it left cannot be read (see above)", argv[0]);
    return r;
}

int cli_list_array(struct cli *c, const char *what, const char *array, size_t n, const struct col *cols, size_t n_cols)
{
    AUTO_BUF struct buf sql = {0};
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    buf_adds(&sql, "SELECT ");
    for (size_t i = 0; i < n_cols; i++)
        buf_addf(&sql, "%sjson_extract(value,'$.%s')", i ? "," : "", cols[i].name);
    buf_adds(&sql, " FROM json_each(?1) ORDER BY 1, 2, 3");
    int r = CLI_FAILED;
    if (sqlite3_open(":memory:", &db) == SQLITE_OK && sqlite3_prepare_v2(db, sql.p, -1, &s, NULL) == SQLITE_OK &&
        sqlite3_bind_text(s, 1, array, (int)n, SQLITE_STATIC) == SQLITE_OK) {
        if (!cli_list(c, s, cols, n_cols) && !c->json)
            fprintf(stderr, "no %s\n", what);
        r = CLI_DONE;
    } else {
        fprintf(stderr, "mysimbdp %s: %s\n", c->verb, db_why(db));
    }
    sqlite3_finalize(s);
    sqlite3_close(db);
    return r;
}

static int list_answer(struct cli *c, const bson_t *answer, const struct cli_source *from, const struct col *cols, size_t n_cols)
{
    bson_t one = BSON_INITIALIZER;
    bson_iter_t it;
    int r = CLI_DONE;
    if (bson_iter_init_find(&it, answer, from->key)) {
        bson_append_value(&one, "a", 1, bson_iter_value(&it));
        char *text = bson_as_relaxed_extended_json(&one, NULL);
        const char *array = strchr(text, '['), *end = strrchr(text, ']');
        if (array && end > array)
            r = cli_list_array(c, from->what, array, (size_t)(end - array) + 1, cols, n_cols);
        bson_free(text);
    }
    bson_destroy(&one);
    return r;
}

int cli_list_program(struct cli *c, const struct home *h, const struct cli_source *from, const struct col *cols, size_t n_cols)
{
    struct err e = {0};
    AUTO_BUF struct buf array = {0};
    AUTO_BSON bson_t *doc = NULL;
    int r;
    int64_t until = clk_now_ms() + CLI_START_WAIT_MS;
    /* A program that died while it was asked counts as down. One that is starting holds its store, but does not answer yet. */
    for (;;) {
        AUTO_FD int fd = cli_connect(h, from->socket_name, NULL);
        r = fd < 0 ? output_of(from->offline, &array, &e) : cli_exchange(fd, from->request, &doc, &e);
        if ((r != ERR_CLOSED && r != -EWOULDBLOCK) || clk_now_ms() >= until)
            break;
        poll(NULL, 0, CLI_RETRY_MS);
    }
    if (r < 0)
        return cli_fail(c, &e);
    return doc ? list_answer(c, doc, from, cols, n_cols)
               : cli_list_array(c, from->what, array.p ? array.p : "[]", array.p ? array.n : 2, cols, n_cols);
}

int cli_check_state(struct cli *c, const struct records *r, const char *state)
{
    AUTO_BUF struct buf known = {0};
    struct near near = {.word = state};
    char meant[NEAR_TEXT_SIZE];
    if (records_have_state(r, state))
        return 0;
    for (const char *const *s = r->states; *s; s++) {
        near_try(&near, *s);
        buf_addf(&known, " %s", *s);
    }
    return cli_usage(c, "--state %s is none%s; there are:%s", state, near_text(&near, meant), known.p);
}

/* What is asked for: the id of one row, filters, since when, how many. */
struct asked {
    const char *given[3];
    int64_t since_ms, limit;
    bool watch;
};

static int parse(struct cli *c, const struct listing *l, struct asked *ret)
{
    for (int i = 0; i < 3; i++)
        ret->given[i] = cli_opt(c, l->filters[i].option);
    const char *since = cli_opt(c, "--since"), *limit = cli_opt(c, "--limit");
    ret->watch = cli_flag(c, "--watch");
    int r = cli_args(c, 0, ret->watch ? 0 : 1);
    if (!r && ret->watch && (c->csv || limit))
        r = cli_usage(c, "--watch prints changes as they come: neither --output csv nor --limit");
    if (!r && ret->given[2])
        r = cli_check_state(c, l->records, ret->given[2]);
    if (!r && since && clk_parse_since(since, &ret->since_ms) < 0)
        r = cli_usage(c, "--since %s is no time", since);
    ret->limit = ret->watch ? CHANGES_NEWEST : listing_limit(c, limit);
    return r;
}

static int watch(struct cli *c, const struct home *h, const struct listing *l, const struct asked *a)
{
    const char *values[4];
    int n_values;
    if (!cli_knows_tenant(c, h, a->given[0]))
        return CLI_FAILED;
    AUTO_FREE char *sql = listing_sql(c, l, a->given, a->since_ms, a->limit, values, &n_values);
    return cli_watch(&(struct watch){c, h, l->records, sql, values, n_values});
}

/* How many rows were printed. */
static int list(struct cli *c, const struct listing *l, const struct asked *a, sqlite3 *db)
{
    const char *values[4];
    int n_values;
    sqlite3_stmt *s = NULL;
    AUTO_FREE char *sql = listing_sql(c, l, a->given, a->since_ms, a->limit, values, &n_values);
    if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) != SQLITE_OK)
        fprintf(stderr, "mysimbdp %s: cannot read the ledger: %s\n", c->verb, db_why(db));
    for (int i = 0; i < n_values; i++)
        sqlite3_bind_text(s, i + 1, values[i], -1, SQLITE_STATIC);
    const int n = cli_list(c, s, l->records->cols, l->records->n_cols);
    sqlite3_finalize(s);
    return n;
}

static int show(struct cli *c, const struct home *h, const struct listing *l, struct asked *a)
{
    bool none;
    int n = 0;
    const bool by_file = !c->argc && !strcmp(l->filters[1].option, "--file") && a->given[1];
    if ((c->argc && cli_whole_id(c, h, l->records == &records_runs, (const char **)&c->argv[0])) ||
        (by_file && cli_whole_id(c, h, false, &a->given[1])))
        return CLI_FAILED;
    if (a->watch)
        return watch(c, h, l, a);
    sqlite3 *db = cli_ledger(c, h, &none);
    bool known = !db || !a->given[0] || cli_is_tenant(c, h, db, a->given[0]);
    if (db && known)
        n = list(c, l, a, db);
    sqlite3_close(db);
    if (!c->json && !c->argc && !n && known && (db || none))
        fprintf(stderr, "no %s%s\n", l->records->what,
                a->given[0] || a->given[1] || a->given[2] || a->since_ms ? " like this" : " yet");
    if (!c->json && n && n == a->limit)
        fprintf(stderr, "(the newest %d; --limit 0 shows all)\n", n);
    if (c->argc && !n)
        fprintf(stderr, "mysimbdp %s: the ledger has no %s\n", c->verb, c->argv[0]);
    return (!db && !none) || !known || (c->argc && !n) ? CLI_FAILED : CLI_DONE;
}

int cli_listing(struct cli *c, const struct listing *l)
{
    struct home h;
    struct asked a = {0};
    int r = parse(c, l, &a);
    if (r || cli_home(c, &h))
        return r ? r : CLI_FAILED;
    r = show(c, &h, l, &a);
    home_close(&h);
    return r;
}
