#include "cli.h"
#include "table.h"
#include "words.h"

#include "common/clk.h"
#include "common/db.h"
#include "common/fd.h"
#include "common/mem.h"
#include "common/near.h"
#include "common/reach.h"
#include "common/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>

enum {
    MAX_ANSWER = 64 << 20,
    MAX_OUTPUT = 256 << 20,
    START_WAIT_MS = 10000, /* the longest delay of `up` before a start */
    RETRY_MS = 20,
    LOOK_MS = 1000, /* between looks whether `up` is there */
};

static void take(struct cli *c, int i, int n)
{
    memmove(c->argv + i, c->argv + i + n, (size_t)(c->argc - i - n + 1) * sizeof *c->argv);
    c->argc -= n;
}

const char *cli_opt(struct cli *c, const char *name)
{
    size_t n = strlen(name);
    for (int i = 0; i < c->argc; i++) {
        const char *value = NULL;
        if (!strcmp(c->argv[i], name) && i + 1 < c->argc) {
            value = c->argv[i + 1];
            take(c, i, 2);
        } else if (!strncmp(c->argv[i], name, n) && c->argv[i][n] == '=') {
            value = c->argv[i] + n + 1;
            take(c, i, 1);
        }
        if (value)
            return value;
    }
    return NULL;
}

bool cli_flag(struct cli *c, const char *name)
{
    for (int i = 0; i < c->argc; i++)
        if (!strcmp(c->argv[i], name)) {
            take(c, i, 1);
            return true;
        }
    return false;
}

int cli_usage(struct cli *c, const char *fmt, ...)
{
    va_list ap;
    fprintf(stderr, "mysimbdp %s: ", c->verb);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\nusage: mysimbdp %s %s [--home HOME]\n", c->verb, c->usage);
    return CLI_USAGE;
}

int cli_args(struct cli *c, int min, int max)
{
    for (int i = 0; i < c->argc; i++)
        if (c->argv[i][0] == '-' && c->argv[i][1])
            return cli_usage(c, "unknown option, or one without its value: %s", c->argv[i]);
    if (c->argc < min)
        return cli_usage(c, "too few arguments");
    if (max >= 0 && c->argc > max)
        return cli_usage(c, "too many arguments: %s", c->argv[max]);
    return 0;
}

int cli_fail(struct cli *c, const struct err *e)
{
    fprintf(stderr, "mysimbdp %s: %s\n", c->verb, e->msg);
    return CLI_FAILED;
}

void cli_warn_reach(const struct cli *c, const char *home)
{
    struct stat st;
    AUTO_FREE char *closed = reach_closed(home);
    if (closed && stat(closed, &st) == 0)
        fprintf(stderr,
                "mysimbdp %s: warning: tenants' apps cannot reach a home below %s (mode %03o); `chmod o+x %s`, or have the home "
                "elsewhere\n",
                c->verb, closed, st.st_mode & 0777, closed);
}

int cli_home(struct cli *c, struct home *h)
{
    struct err e = {0};
    return home_open(h, c->home_arg, &e) < 0 ? cli_fail(c, &e) : 0;
}

int cli_enter(struct cli *c, struct home *h)
{
    struct err e = {0};
    return home_enter(h, c->home_arg, &e) < 0 ? cli_fail(c, &e) : 0;
}

int cli_conf(struct cli *c, const struct home *h, struct conf **ret)
{
    AUTO_BUF struct buf all = {0};
    struct err e = {0};
    if (conf_load_all(h->path, &all, ret, &e) == 0)
        return 0;
    if (all.n)
        fputs(all.p, stderr);
    return cli_fail(c, &e);
}

static bool is_down(int r)
{
    return r == -ENOENT || r == -ECONNREFUSED;
}

bool cli_is_running(const struct home *h)
{
    AUTO_FREE char *path = home_socket(h, "up.sock");
    AUTO_FD int fd = fd_unix_connect(path, false);
    return fd >= 0 || fd == -EAGAIN; /* it stops, and takes nobody in */
}

int cli_connect(const struct home *h, const char *socket_name, struct err *e)
{
    AUTO_FREE char *path = home_socket(h, socket_name);
    int fd = fd_unix_connect(path, true);
    if (!is_down(fd))
        return fd < 0 ? err_sys(e, fd, "cannot connect to %s", path) : fd;
    if (!cli_is_running(h))
        return err_set(e, fd, "the platform of %s is not running; start it with `mysimbdp up --home %s`", h->path, h->path);
    int n = (int)strcspn(socket_name, ".");
    return err_set(e, fd, "%.*s is down, and `mysimbdp up` starts it again; %s/logs/%.*s.log says why", n, socket_name, h->path, n,
                   socket_name);
}

int cli_connect_wait(const struct home *h, const char *socket_name, struct err *e)
{
    AUTO_FREE char *path = home_socket(h, socket_name);
    int64_t now = clk_now_ms(), until = now + START_WAIT_MS, look_ms = now;
    int fd = fd_unix_connect(path, true);
    while (is_down(fd) && now < until && (now < look_ms || cli_is_running(h))) {
        look_ms = now < look_ms ? look_ms : now + LOOK_MS;
        poll(NULL, 0, RETRY_MS);
        fd = fd_unix_connect(path, true);
        now = clk_now_ms();
    }
    return fd >= 0 ? fd : cli_connect(h, socket_name, e);
}

int cli_exchange(int fd, const char *request, bson_t **ret, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    AUTO_BUF struct buf line = {0};
    buf_addf(&line, "%s\n", request);
    if (send(fd, line.p, line.n, MSG_NOSIGNAL) != (ssize_t)line.n)
        return err_set(e, ERR_CLOSED, "the platform went away before it was asked; look into its log, and try again");
    for (;;) {
        buf_reserve(&b, 65536);
        ssize_t n = recv(fd, b.p + b.n, 65536, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0 || b.n > MAX_ANSWER)
            return err_set(e, ERR_CLOSED, "the platform went away before it answered; look into its log, and try again");
        b.n += (size_t)n;
        b.p[b.n] = 0;
        if (b.p[b.n - 1] == '\n')
            break;
    }
    bson_t *doc = json_parse(b.p, b.n - 1, e);
    if (!doc) {
        err_context(e, "the platform's answer");
        return ERR_FORMAT;
    }
    if (!json_get_bool(doc, "ok", false)) {
        err_set(e, ERR_REFUSED, "%s", json_get_str(doc, "error", "refused without a reason"));
        bson_destroy(doc);
        return ERR_REFUSED;
    }
    *ret = doc;
    return 0;
}

int cli_request_now(const struct home *h, const char *socket_name, const char *request, bson_t **ret, struct err *e)
{
    AUTO_FD int fd = cli_connect(h, socket_name, e);
    return fd < 0 ? fd : cli_exchange(fd, request, ret, e);
}

int cli_request(const struct home *h, const char *socket_name, const char *request, bson_t **ret, struct err *e)
{
    AUTO_FD int fd = cli_connect_wait(h, socket_name, e);
    return fd < 0 ? fd : cli_exchange(fd, request, ret, e);
}

int cli_order(struct cli *c, const char *socket_name, const char *request, void (*print)(const bson_t *answer))
{
    struct home h;
    struct err e = {0};
    AUTO_BSON bson_t *answer = NULL;
    if (cli_home(c, &h))
        return CLI_FAILED;
    int r = cli_request(&h, socket_name, request, &answer, &e);
    if (r < 0)
        cli_fail(c, &e);
    else if (print)
        print(answer);
    home_close(&h);
    return r < 0 ? CLI_FAILED : CLI_DONE;
}

int cli_tell(const struct home *h, const char *socket_name, const char *op, const char *tenant, struct err *e)
{
    AUTO_BUF struct buf rq = {0};
    AUTO_BSON bson_t *answer = NULL;
    int fd = cli_connect_wait(h, socket_name, NULL);
    if (fd < 0)
        return 0;
    json_begin(&rq, NULL, '{');
    json_str(&rq, "op", op);
    if (tenant)
        json_str(&rq, "tenant", tenant);
    json_end(&rq, '}');
    int r = cli_exchange(fd, rq.p, &answer, e);
    close(fd);
    return r;
}

int cli_tell_others(const struct home *h, const char *op, struct err *e)
{
    static const char *const sockets[] = {"broker.sock", "streammgr.sock", "monitor.sock"};
    int r = 0;
    for (size_t i = 0; r == 0 && i < sizeof sockets / sizeof *sockets; i++)
        r = cli_tell(h, sockets[i], op, NULL, e);
    return r;
}

/* The instances of stream apps are streammgr's (manager/stream/book.h); a home where it never ran has none. */
static int attach_instances(sqlite3 *db, const struct home *h)
{
    AUTO_FREE char *path = home_path(h, "state/streams.db");
    sqlite3_stmt *s = NULL;
    struct stat st;
    if (stat(path, &st) < 0 || !st.st_size) /* `verify` tells when there was one */
        return sqlite3_exec(
            db,
            "ATTACH ':memory:' AS streams; CREATE TABLE streams.instances(run_id TEXT, tenant TEXT, app TEXT, attempt INTEGER, "
            "state TEXT, outcome TEXT, exit_code INTEGER, signal INTEGER, lim TEXT, error TEXT, node TEXT, forced INTEGER, "
            "started_at INTEGER, ended_at INTEGER, wall_s REAL, cpu_s REAL, max_rss INTEGER, network_refused INTEGER)",
            NULL, NULL, NULL);
    int r = sqlite3_prepare_v2(db, "ATTACH ?1 AS streams", -1, &s, NULL);
    if (r == SQLITE_OK)
        r = sqlite3_bind_text(s, 1, path, -1, SQLITE_STATIC);
    if (r == SQLITE_OK)
        r = sqlite3_step(s) == SQLITE_DONE ? SQLITE_OK : SQLITE_ERROR;
    sqlite3_finalize(s);
    return r;
}

sqlite3 *cli_ledger(struct cli *c, const struct home *h, bool *ret_none)
{
    AUTO_FREE char *path = home_path(h, "state/ledger.db");
    sqlite3 *db = NULL;
    *ret_none = access(path, F_OK) < 0 && errno == ENOENT;
    if (*ret_none)
        return NULL;
    const char *file = "ledger.db";
    int r = db_open(path, SQLITE_OPEN_READWRITE, &db);
    if (r == SQLITE_OK)
        r = sqlite3_busy_timeout(db, 10000);
    if (r == SQLITE_OK)
        r = words_register(db);
    if (r == SQLITE_OK)
        r = sqlite3_exec(db, "SELECT count(*) FROM meta", NULL, NULL, NULL);
    if (r == SQLITE_OK) {
        file = "streams.db";
        r = attach_instances(db, h);
    }
    if (r == SQLITE_OK)
        r = sqlite3_exec(db, "PRAGMA query_only=1; SELECT 1 FROM streams.instances LIMIT 1", NULL, NULL, NULL);
    if (r != SQLITE_OK) {
        fprintf(stderr, "mysimbdp %s: cannot read %s/state/%s: %s\n", c->verb, h->path, file, db_why(db));
        sqlite3_close(db);
        return NULL;
    }
    return db;
}

int cli_whole_id(struct cli *c, const struct home *h, bool run, const char **id)
{
    static const char files[] = "SELECT file_id FROM files WHERE file_id>=?1 AND file_id<?1||'~' AND file_id LIKE '%'||?2 LIMIT 2";
    static const char runs[] = "SELECT run_id FROM (SELECT run_id FROM runs UNION ALL SELECT run_id FROM streams.instances) "
                               "WHERE run_id>=?1 AND run_id<?1||'~' AND run_id LIKE '%'||?2 LIMIT 2";
    const char *gap = strstr(*id, ID_GAP);
    bool none;
    int n = 0;
    if (strlen(*id) >= ID_SIZE - 1 || strlen(*id) < 4)
        return 0;
    sqlite3 *db = cli_ledger(c, h, &none);
    sqlite3_stmt *s = NULL;
    if (db && sqlite3_prepare_v2(db, run ? runs : files, -1, &s, NULL) == SQLITE_OK)
        sqlite3_bind_text(s, 1, *id, gap ? (int)(gap - *id) : -1, SQLITE_STATIC);
    if (s)
        sqlite3_bind_text(s, 2, gap ? gap + strlen(ID_GAP) : "", -1, SQLITE_STATIC);
    for (; s && sqlite3_step(s) == SQLITE_ROW; n++)
        snprintf(c->whole_id, sizeof c->whole_id, "%s", (const char *)sqlite3_column_text(s, 0));
    sqlite3_finalize(s);
    sqlite3_close(db);
    if (n > 1)
        return fprintf(stderr, "mysimbdp %s: several ids are like %s; give more of it\n", c->verb, *id), CLI_FAILED;
    *id = n ? c->whole_id : *id;
    return 0;
}

static bool is_null(sqlite3_stmt *s, int i, enum col_kind kind)
{
    if (sqlite3_column_type(s, i) == SQLITE_NULL)
        return true;
    return (kind == COL_COUNT && sqlite3_column_int64(s, i) < 0) || (kind == COL_TIME && sqlite3_column_int64(s, i) <= 0) ||
           (kind != COL_NUMBER && kind != COL_BOOL && kind != COL_COUNT && kind != COL_TIME && sqlite3_column_bytes(s, i) == 0);
}

static void cell_json(struct buf *b, sqlite3_stmt *s, int i, const struct col *col)
{
    if (is_null(s, i, col->kind)) {
        json_null(b, col->name);
        return;
    }
    switch (col->kind) {
    case COL_TEXT:
    case COL_ID:
    case COL_LONG:
    case COL_WORDS:
        json_str(b, col->name, (const char *)sqlite3_column_text(s, i));
        break;
    case COL_COUNT:
        json_i64(b, col->name, sqlite3_column_int64(s, i));
        break;
    case COL_NUMBER:
        json_f64(b, col->name, sqlite3_column_double(s, i));
        break;
    case COL_TIME:
        json_time(b, col->name, sqlite3_column_int64(s, i));
        break;
    case COL_BOOL:
        json_bool(b, col->name, sqlite3_column_int(s, i) != 0);
        break;
    case COL_JSON:
        json_raw(b, col->name, (const char *)sqlite3_column_text(s, i));
        break;
    }
}

static char *cell_text(sqlite3_stmt *s, int i, const struct col *col)
{
    char stamp[CLK_RFC3339_SIZE];
    if (is_null(s, i, col->kind))
        return NULL;
    if (col->kind == COL_TIME)
        return xstrndup(clk_rfc3339(sqlite3_column_int64(s, i), stamp), 19);
    if (col->kind == COL_NUMBER)
        return xasprintf("%.3f", sqlite3_column_double(s, i));
    if (col->kind == COL_BOOL)
        return xstrdup(sqlite3_column_int(s, i) ? "yes" : "no");
    return xstrdup((const char *)sqlite3_column_text(s, i));
}

static void print_object(sqlite3_stmt *s, const struct col *cols, size_t n_cols)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    for (size_t i = 0; i < n_cols; i++)
        if (cols[i].kind != COL_WORDS)
            cell_json(&b, s, (int)i, &cols[i]);
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
            cells[i] = cell_text(s, (int)i, &cols[i]);
        table_add(t, cells);
    }
    if (t && n)
        table_print(t);
    table_free(t);
    free(cells);
    return n;
}

int cli_since(const char *text, int64_t *ret_wall_ms)
{
    char *end;
    long long n = strtoll(text, &end, 10);
    const char *units = "smhd", *unit = *end && !end[1] ? strchr(units, *end) : NULL;
    static const int64_t ms[] = {1000, 60000, 3600000, 86400000};
    if (end != text && unit && n >= 0) {
        *ret_wall_ms = clk_wall_ms() - n * ms[unit - units];
        return 0;
    }
    return clk_parse(text, ret_wall_ms);
}

/* The statement for what was asked; values to bind are put into `values`. */
static char *listing_sql(const struct cli *c, const struct listing *l, const char *const given[3], int64_t since_ms, int64_t limit,
                         const char *values[4], int *n_values)
{
    AUTO_BUF struct buf b = {0};
    *n_values = 0;
    buf_addf(&b, "%s WHERE 1", l->select);
    if (c->argc) {
        buf_addf(&b, " AND %s=?", l->id);
        values[(*n_values)++] = c->argv[0];
    }
    for (int i = 0; i < 3; i++) {
        const char *extra = given[i] ? l->extra(l->filters[i].option, given[i]) : NULL;
        if (!given[i])
            continue;
        buf_addf(&b, " AND %s", l->filters[i].condition);
        if (extra)
            buf_addf(&b, " AND %s", extra);
        values[(*n_values)++] = given[i];
    }
    if (since_ms)
        buf_addf(&b, " AND %s>=%lld", l->since, (long long)since_ms);
    if (limit <= 0)
        return xasprintf("%s ORDER BY %s", b.p, l->id);
    /* Ids sort by time; a tenant's index does by its own column of it. */
    AUTO_FREE char *newest = given[0] && !given[2] ? xasprintf("%s DESC, %s", l->since, l->id) : xstrdup(l->id);
    return xasprintf("SELECT * FROM (%s ORDER BY %s DESC LIMIT %lld) ORDER BY %s", b.p, newest, (long long)limit, l->id);
}

static int64_t listing_limit(const struct cli *c, const char *limit)
{
    if (limit)
        return strtoll(limit, NULL, 10);
    return c->json || c->argc ? 0 : 100;
}

/* What one of our programs prints. Waits for its end. -EWOULDBLOCK: it cannot now, and knows no more. */
static int output_of(char *const argv[], struct buf *out, struct err *e)
{
    int status, r = spawn_output(argv, environ, out, MAX_OUTPUT, &status, e);
    if (r == 0 && WIFEXITED(status) && WEXITSTATUS(status) == EX_TEMPFAIL)
        return err_set(e, -EWOULDBLOCK, "%s is starting, and does not answer yet; try again", argv[0]);
    if (r == 0 && (!WIFEXITED(status) || WEXITSTATUS(status)))
        return err_set(e, ERR_REFUSED, "%s is down, and what it left cannot be read (see above)", argv[0]);
    return r;
}

static int list_array(struct cli *c, const char *what, const char *array, size_t n, const struct col *cols, size_t n_cols)
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
        const char *array = strchr(text, '[');
        r = list_array(c, from->what, array, (size_t)(strrchr(array, ']') - array) + 1, cols, n_cols);
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
    int64_t until = clk_now_ms() + START_WAIT_MS;
    for (;;) { /* one that dies while it is asked is down now; one that starts has its store but does not answer yet */
        AUTO_FD int fd = cli_connect(h, from->socket_name, NULL);
        r = fd < 0 ? output_of(from->offline, &array, &e) : cli_exchange(fd, from->request, &doc, &e);
        if ((r != ERR_CLOSED && r != -EWOULDBLOCK) || clk_now_ms() >= until)
            break;
        poll(NULL, 0, RETRY_MS);
    }
    if (r < 0)
        return cli_fail(c, &e);
    return doc ? list_answer(c, doc, from, cols, n_cols)
               : list_array(c, from->what, array.p ? array.p : "[]", array.p ? array.n : 2, cols, n_cols);
}

static int check_state(struct cli *c, const struct listing *l, const char *state)
{
    AUTO_BUF struct buf known = {0};
    struct near near = {.word = state};
    char meant[NEAR_TEXT_SIZE];
    for (const char *const *s = l->states; *s; s++) {
        if (!strcmp(*s, state))
            return 0;
        near_try(&near, *s);
        buf_addf(&known, " %s", *s);
    }
    return cli_usage(c, "--state %s is none%s; there are:%s", state, near_text(&near, meant), known.p);
}

bool cli_is_tenant(struct cli *c, const struct home *h, sqlite3 *db, const char *tenant)
{
    sqlite3_stmt *s = NULL;
    struct near near = {.word = tenant};
    char meant[NEAR_TEXT_SIZE];
    AUTO_FREE char *conf = xasprintf("conf/tenants/%s.conf", tenant), *best = NULL;
    bool found = !strchr(tenant, '/') && fd_exists(h->dirfd, conf);
    if (db && sqlite3_prepare_v2(db, "SELECT id FROM tenants", -1, &s, NULL) != SQLITE_OK)
        return true;
    while (!found && s && sqlite3_step(s) == SQLITE_ROW) {
        AUTO_FREE char *id = xstrdup((const char *)sqlite3_column_text(s, 0));
        found = !strcmp(id, tenant);
        const char *before = near.best;
        near_try(&near, id);
        if (near.best != before) {
            xstr_set(&best, id);
            near.best = best;
        }
    }
    sqlite3_finalize(s);
    if (!found)
        fprintf(stderr, "mysimbdp %s: there is no tenant %s%s\n", c->verb, tenant, near_text(&near, meant));
    return found;
}

bool cli_knows_tenant(struct cli *c, const struct home *h, const char *tenant)
{
    bool none = false;
    if (!tenant)
        return true;
    sqlite3 *db = cli_ledger(c, h, &none);
    bool known = (db || none) && cli_is_tenant(c, h, db, tenant);
    sqlite3_close(db);
    return known;
}

int cli_listing(struct cli *c, const struct listing *l, const struct col *cols, size_t n_cols)
{
    struct home h;
    bool none;
    const char *given[3], *values[4];
    int n_values, n = 0;
    for (int i = 0; i < 3; i++)
        given[i] = cli_opt(c, l->filters[i].option);
    const char *since = cli_opt(c, "--since"), *limit = cli_opt(c, "--limit");
    int64_t since_ms = 0;
    int r = cli_args(c, 0, 1);
    for (int i = 0; i < 3 && !r; i++)
        if (given[i] && !strcmp(l->filters[i].option, "--state"))
            r = check_state(c, l, given[i]);
    if (!r && since && cli_since(since, &since_ms) < 0)
        r = cli_usage(c, "--since %s is no time", since);
    if (r || cli_home(c, &h))
        return r ? r : CLI_FAILED;
    bool by_file = !c->argc && !strcmp(l->filters[1].option, "--file") && given[1];
    if ((c->argc && cli_whole_id(c, &h, !strcmp(l->id, "run_id"), (const char **)&c->argv[0])) ||
        (by_file && cli_whole_id(c, &h, false, &given[1]))) {
        home_close(&h);
        return CLI_FAILED;
    }
    int64_t n_max = listing_limit(c, limit);
    sqlite3 *db = cli_ledger(c, &h, &none);
    bool known = !db || !given[0] || cli_is_tenant(c, &h, db, given[0]);
    if (db && known) {
        sqlite3_stmt *s = NULL;
        AUTO_FREE char *sql = listing_sql(c, l, given, since_ms, n_max, values, &n_values);
        if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) != SQLITE_OK)
            fprintf(stderr, "mysimbdp %s: cannot read the ledger: %s\n", c->verb, db_why(db));
        for (int i = 0; i < n_values; i++)
            sqlite3_bind_text(s, i + 1, values[i], -1, SQLITE_STATIC);
        n = cli_list(c, s, cols, n_cols);
        sqlite3_finalize(s);
    }
    sqlite3_close(db);
    if (!c->json && !c->argc && !n && known && (db || none))
        fprintf(stderr, "no %s%s\n", l->what, given[0] || given[1] || given[2] || since ? " like this" : " yet");
    if (!c->json && n && n == n_max)
        fprintf(stderr, "(the newest %d; --limit 0 shows all)\n", n);
    home_close(&h);
    if (c->argc && !n)
        fprintf(stderr, "mysimbdp %s: the ledger has no %s\n", c->verb, c->argv[0]);
    return (!db && !none) || !known || (c->argc && !n) ? CLI_FAILED : CLI_DONE;
}
