/* The connection to the ledger is kept between questions, and opened anew when another file lies there (a book that came later, a
 * backup that was put back) or when reading failed. */
#include "parts.h"

#include "ledger_view.h"
#include "stream_days.h"

#include "base/clk.h"
#include "base/mem.h"
#include "db/db.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { WAIT_MS = 1000, PROGRESS_STEPS = 1000 };

struct identity {
    dev_t dev;
    ino_t ino;
};

struct queries {
    const struct home *home;
    const struct conf *conf;
    sqlite3 *db; /* NULL: not open */
    struct stream_days *days;
    struct identity ledger, book;
};

static const struct {
    const char *name;
    int (*fn)(struct asking *a);
    int64_t max_ms;
    const char *params; /* a blank around each */
} questions[] = {
    {"files", ask_files, QUERY_MAX_MS, " dataset state since limit cursor "},
    {"file", ask_file, QUERY_MAX_MS, " file_id "},
    {"runs", ask_runs, QUERY_MAX_MS, " app state file_id since limit cursor "},
    {"run", ask_run, QUERY_MAX_MS, " run_id "},
    {"rejects", ask_rejects, QUERY_MAX_MS, " file_id offset limit format "},
    {"log", ask_log, QUERY_MAX_MS, " run_id tail from most "},
    {"events", ask_events, QUERY_MAX_MS, " from to limit "},
    {"agreement", ask_agreement, QUERY_MAX_MS, "  "},
    {"apps", ask_apps, QUERY_MAX_MS, "  "},
    {"versions", ask_versions, QUERY_MAX_MS, " app "},
    {"version", ask_version, QUERY_MAX_MS, " app version "},
    {"configuration", ask_configuration, QUERY_MAX_MS, "  "},
    {"usage", ask_usage, QUERY_MAX_MS, "  "},
    {"ids", ask_ids, QUERY_MAX_MS, " of begin end "},
    {"bill", ask_bill, QUERY_MAX_BILL_MS, " month "},
};
enum { N_QUESTIONS = sizeof questions / sizeof *questions };

/* ---- life ---- */

struct queries *queries_new(const struct home *h)
{
    struct queries *q = xcalloc(1, sizeof *q);
    q->home = h;
    q->days = stream_days_new();
    return q;
}

void queries_free(struct queries *q)
{
    if (!q)
        return;
    sqlite3_close(q->db);
    stream_days_free(q->days);
    free(q);
}

void queries_set_conf(struct queries *q, const struct conf *c)
{
    q->conf = c;
}

void query_answer_fini(struct query_answer *a)
{
    buf_fini(&a->head);
    buf_fini(&a->body);
}

static struct identity identity_of(const struct queries *q, const char *file)
{
    struct stat st;
    return fstatat(q->home->dirfd, file, &st, 0) == 0 && st.st_size ? (struct identity){st.st_dev, st.st_ino}
                                                                    : (struct identity){0};
}

static bool is_same(struct identity a, struct identity b)
{
    return a.dev == b.dev && a.ino == b.ino;
}

static void close_db(struct queries *q)
{
    sqlite3_close(q->db);
    q->db = NULL;
}

static int open_db(struct queries *q, struct err *e)
{
    struct identity ledger = identity_of(q, "state/ledger.db"), book = identity_of(q, "state/streams.db");
    if (q->db && (!is_same(ledger, q->ledger) || !is_same(book, q->book)))
        close_db(q);
    int r = q->db ? 0 : ledger_view_open(q->home, WAIT_MS, &q->db, e);
    q->ledger = ledger;
    q->book = book;
    return r;
}

/* ---- how it is refused ---- */

int refuse(struct asking *a, int status, const char *code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(a->out->detail, sizeof a->out->detail, fmt, ap);
    va_end(ap);
    a->out->status = status;
    a->out->code = code;
    return ERR_REFUSED;
}

int refuse_not_found(struct asking *a)
{
    return refuse(a, 404, "not_found", "%s", "");
}

static int refuse_busy(struct asking *a)
{
    return refuse(a, 503, "busy", "it takes too long");
}

static int refuse_unavailable(struct asking *a, const char *why)
{
    snprintf(a->out->why, sizeof a->out->why, "%s", why);
    return refuse(a, 503, "unavailable", "%s", "");
}

int refuse_for_db(struct asking *a)
{
    int code = sqlite3_errcode(a->db) & 0xff;
    return code == SQLITE_INTERRUPT || code == SQLITE_BUSY || code == SQLITE_LOCKED ? refuse_busy(a)
                                                                                    : refuse_unavailable(a, db_why(a->db));
}

int refuse_for_error(struct asking *a, const struct err *e)
{
    return e->code == -ETIMEDOUT ? refuse_busy(a) : refuse_unavailable(a, e->msg);
}

bool has_time(void *asking)
{
    const struct asking *a = asking;
    return clk_now_ms() <= a->until_ms;
}

static int on_progress(void *asking)
{
    return !has_time(asking);
}

/* ---- parameters ---- */

static int refuse_parameter(struct asking *a, const char *key, const char *why)
{
    return refuse(a, 400, "parameter", "%s: %s", key, why);
}

static bool find(const struct asking *a, const char *key, bson_iter_t *it)
{
    return bson_iter_init_find(it, a->params, key) && !BSON_ITER_HOLDS_NULL(it);
}

int param_text(struct asking *a, const char *key, size_t max, const char **ret)
{
    bson_iter_t it;
    uint32_t n;
    if (!find(a, key, &it)) {
        *ret = NULL;
        return 0;
    }
    const char *text = BSON_ITER_HOLDS_UTF8(&it) ? bson_iter_utf8(&it, &n) : NULL;
    if (!text)
        return refuse_parameter(a, key, "is no text");
    if (n > max || strlen(text) != n)
        return refuse_parameter(a, key, "is too long, or has a NUL");
    *ret = text;
    return 0;
}

int param_id(struct asking *a, const char *key, const char **ret)
{
    bson_iter_t it;
    uint32_t n;
    if (!find(a, key, &it)) {
        *ret = NULL;
        return 0;
    }
    const char *text = BSON_ITER_HOLDS_UTF8(&it) ? bson_iter_utf8(&it, &n) : NULL;
    if (!text)
        return refuse_parameter(a, key, "is no text");
    if (strlen(text) != n || !home_valid_id(text))
        return refuse_not_found(a);
    *ret = text;
    return 0;
}

int param_count(struct asking *a, const char *key, int64_t min, int64_t max, int64_t def, int64_t *ret)
{
    bson_iter_t it;
    if (!find(a, key, &it)) {
        *ret = def;
        return 0;
    }
    int64_t v = BSON_ITER_HOLDS_INT(&it) ? bson_iter_as_int64(&it) : min - 1;
    if (!BSON_ITER_HOLDS_INT(&it) || v < min || v > max)
        return refuse(a, 400, "parameter", "%s: is no whole number from %lld to %lld", key, (long long)min, (long long)max);
    *ret = v;
    return 0;
}

int param_since(struct asking *a, int64_t *ret_wall_ms)
{
    enum { MAX_TIME = 40 };
    const char *text;
    int r = param_text(a, "since", MAX_TIME, &text);
    *ret_wall_ms = 0;
    if (r == 0 && text && clk_parse_since(text, ret_wall_ms) < 0)
        return refuse_parameter(a, "since", "is no time");
    return r;
}

int param_state(struct asking *a, const struct records *r, const char **ret)
{
    enum { MAX_STATE = 32 };
    int n = param_text(a, "state", MAX_STATE, ret);
    return n == 0 && *ret && !records_have_state(r, *ret) ? refuse_parameter(a, "state", "there is none of that name") : n;
}

/* Only those that the question has. */
static int check_params(struct asking *a, const char *known)
{
    bson_iter_t it;
    if (!bson_iter_init(&it, a->params))
        return refuse_parameter(a, "parameters", "are no object");
    while (bson_iter_next(&it)) {
        AUTO_FREE char *key = xasprintf(" %s ", bson_iter_key(&it));
        if (strchr(bson_iter_key(&it), ' ') || !strstr(known, key))
            return refuse(a, 400, "parameter", "there is none of that name, or it is not for this question");
    }
    return 0;
}

/* ---- statements ---- */

sqlite3_stmt *prepare(struct asking *a, const char *sql)
{
    sqlite3_stmt *s = NULL;
    if (sqlite3_prepare_v2(a->db, sql, -1, &s, NULL) != SQLITE_OK) {
        refuse_for_db(a);
        return NULL;
    }
    bind_text(s, ":tenant", a->tenant);
    bind_text(s, ":scope", a->datasets);
    return s;
}

void bind_text(sqlite3_stmt *s, const char *name, const char *text)
{
    int i = sqlite3_bind_parameter_index(s, name);
    if (i)
        sqlite3_bind_text(s, i, text, -1, SQLITE_STATIC);
}

void bind_i64(sqlite3_stmt *s, const char *name, int64_t v)
{
    int i = sqlite3_bind_parameter_index(s, name);
    if (i)
        sqlite3_bind_int64(s, i, v);
}

bool in_scope(const struct asking *a, const char *dataset)
{
    for (char *const *d = a->scope; d && *d; d++)
        if (!strcmp(*d, dataset))
            return true;
    return !a->scope;
}

const struct conf_tenant *tenant_of_conf(struct asking *a)
{
    const struct conf_tenant *t = a->conf ? conf_tenant(a->conf, a->tenant) : NULL;
    if (!a->conf)
        refuse_unavailable(a, "the configuration cannot be read");
    else if (!t)
        refuse_not_found(a);
    return t;
}

/* ---- */

static int is_tenant(struct asking *a)
{
    if (a->conf && conf_tenant(a->conf, a->tenant))
        return 0;
    AUTO_STATEMENT sqlite3_stmt *s = prepare(a, "SELECT 1 FROM tenants WHERE id=:tenant");
    int r = s ? sqlite3_step(s) : SQLITE_ERROR;
    return r == SQLITE_ROW ? 0 : r == SQLITE_DONE ? refuse_not_found(a) : refuse_for_db(a);
}

static char *array_of(char *const *datasets)
{
    AUTO_BUF struct buf b = {0};
    if (!datasets)
        return NULL;
    json_begin(&b, NULL, '[');
    for (char *const *d = datasets; *d; d++)
        json_str(&b, NULL, *d);
    json_end(&b, ']');
    return xstrdup(b.p);
}

static int ask(struct asking *a, size_t i)
{
    int r = check_params(a, questions[i].params);
    if (r < 0)
        return r;
    a->until_ms = clk_now_ms() + questions[i].max_ms;
    sqlite3_progress_handler(a->db, PROGRESS_STEPS, on_progress, a);
    if (sqlite3_exec(a->db, "BEGIN", NULL, NULL, NULL) != SQLITE_OK)
        r = refuse_for_db(a);
    if (r == 0)
        r = is_tenant(a);
    if (r == 0)
        r = questions[i].fn(a);
    sqlite3_progress_handler(a->db, 0, NULL, NULL);
    sqlite3_exec(a->db, "ROLLBACK", NULL, NULL, NULL);
    return r;
}

void query(struct queries *q, const char *name, const struct query_scope *scope, const bson_t *params, struct query_answer *ret)
{
    AUTO_FREE char *datasets = array_of(scope->datasets);
    struct asking a = {.home = q->home,
                       .conf = q->conf,
                       .tenant = scope->tenant,
                       .scope = scope->datasets,
                       .datasets = datasets,
                       .params = params,
                       .days = q->days,
                       .out = ret};
    struct err e = {0};
    size_t i = 0;
    while (i < N_QUESTIONS && strcmp(questions[i].name, name) != 0)
        i++;
    if (i == N_QUESTIONS) {
        refuse(&a, 400, "query", "there is no such question");
        return;
    }
    if (open_db(q, &e) < 0) {
        refuse_unavailable(&a, e.msg);
        return;
    }
    a.db = q->db;
    ret->status = 200;
    ret->type = "application/json";
    if (ask(&a, i) < 0)
        buf_reset(&ret->body);
    if (ret->status == 503)
        close_db(q);
}
