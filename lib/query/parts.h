/* What the questions of query.h have in common; for this folder. A function that answers one fills `out`, and returns 0, or
 * ERR_REFUSED after it said why there. */
#ifndef SIMBDP_QUERY_PARTS_H
#define SIMBDP_QUERY_PARTS_H

#include "query.h"
#include "records.h"

#include <sqlite3.h>
#include <sys/stat.h>

struct asking {
    sqlite3 *db;
    const struct home *home;
    const struct conf *conf; /* NULL: it cannot be read */
    const char *tenant;
    char *const *scope; /* names of datasets; NULL: all */
    char *datasets;     /* the same as a JSON array, to bind as :scope; NULL: all */
    const bson_t *params;
    struct stream_days *days;
    int64_t until_ms; /* monotonic */
    struct query_answer *out;
};

/* ---- how it is refused ---- */

int refuse(struct asking *a, int status, const char *code, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
int refuse_not_found(struct asking *a);
/* What the connection's last statement failed with: busy or unavailable. */
int refuse_for_db(struct asking *a);
int refuse_for_error(struct asking *a, const struct err *e); /* -ETIMEDOUT: busy; else unavailable */
bool has_time(void *asking);                                 /* false: it took too long */

/* ---- parameters ---- */

/* 0, and *ret NULL where it is absent. Text has no NUL, and max bytes at most. */
int param_text(struct asking *a, const char *key, size_t max, const char **ret);
int param_id(struct asking *a, const char *key, const char **ret); /* one that cannot be an id is not found */
int param_count(struct asking *a, const char *key, int64_t min, int64_t max, int64_t def, int64_t *ret);
int param_since(struct asking *a, int64_t *ret_wall_ms); /* 0: absent */
int param_state(struct asking *a, const struct records *r, const char **ret);

/* ---- statements ---- */

/* With :tenant and :scope bound. NULL after refuse_for_db. */
sqlite3_stmt *prepare(struct asking *a, const char *sql);
/* A parameter that the statement does not have is left out. Text is borrowed. */
void bind_text(sqlite3_stmt *s, const char *name, const char *text);
void bind_i64(sqlite3_stmt *s, const char *name, int64_t v);

static inline void statement_cleanup(sqlite3_stmt **s)
{
    sqlite3_finalize(*s);
}
#define AUTO_STATEMENT __attribute__((cleanup(statement_cleanup)))

/* A condition on a dataset's name: it is in scope. */
#define IN_SCOPE(dataset) "(:scope IS NULL OR " dataset " IN(SELECT value FROM json_each(:scope)))"
/* On a row of `runs`: it is of a file in scope. Runs of stream apps are of none. */
#define RUN_IN_SCOPE                                                                                                               \
    "(:scope IS NULL OR EXISTS(SELECT 1 FROM files f WHERE f.file_id=runs.file_id AND f.dataset IN(SELECT value FROM "             \
    "json_each(:scope))))"

/* ---- pages ---- */

struct page {
    int64_t limit, since_ms;
    const char *cursor; /* NULL: from the newest on */
    int64_t cursor_ms;  /* when that one came */
    char (*ids)[ID_SIZE];
    size_t n;
    char next[ID_SIZE]; /* "": it is the last page */
};
void page_fini(struct page *p);
#define AUTO_PAGE __attribute__((cleanup(page_fini)))

/* Reads since, limit and cursor. */
int page_of_params(struct asking *a, const struct records *r, struct page *ret);
/* Fills the page from a statement that gives ids, newest first, whether they are wanted, and when they came; :since, :cursor and
 * :at are bound here. */
int page_pick(struct asking *a, sqlite3_stmt *s, struct page *p);
/* Writes the records of these ids as an array, as far as the body has room; then "next". */
int page_show(struct asking *a, const struct records *r, struct page *p);

/* ---- what is shown in several places ---- */

/* A statement for show_record. NULL after a refusal. */
sqlite3_stmt *prepare_record(struct asking *a, const struct records *r);
/* Adds the tenant's record of this id as an object, open for more members. 1; 0: there is none; or ERR_REFUSED. */
int show_record(struct asking *a, const struct records *r, const char *id, const char *key, sqlite3_stmt *s);

/* The file's tenant is this one, and its dataset in scope. Fills the id of its last run, or "" (ret_run NULL: not asked). */
int file_is_seen(struct asking *a, const char *file_id, char ret_run[ID_SIZE]);
/* Likewise of a run; whether it ended, and whether its directory was deleted by age. */
int run_is_seen(struct asking *a, const char *run_id, bool *ret_ended, bool *ret_pruned);
const struct conf_tenant *tenant_of_conf(struct asking *a); /* NULL after a refusal */
bool in_scope(const struct asking *a, const char *dataset);

/* Of a file that is renamed when it is full: another one of its name has another, though it may have the inode's number. Never 0.
 */
static inline uint64_t identity_of_file(const struct statx *st)
{
    uint64_t v = st->stx_ino ^ ((uint64_t)st->stx_btime.tv_sec << 20) ^ ((uint64_t)st->stx_btime.tv_nsec << 32);
    return v ? v : 1;
}

/* ---- the questions ---- */

int ask_files(struct asking *a);
int ask_file(struct asking *a);
int ask_runs(struct asking *a);
int ask_run(struct asking *a);
int ask_rejects(struct asking *a);
int ask_log(struct asking *a);
int ask_events(struct asking *a);
int ask_agreement(struct asking *a);
int ask_apps(struct asking *a);
int ask_versions(struct asking *a);
int ask_version(struct asking *a);
int ask_configuration(struct asking *a);
int ask_usage(struct asking *a);
int ask_ids(struct asking *a);
int ask_bill(struct asking *a);

#endif
