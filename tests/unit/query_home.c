#include "query_home.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/mem.h"
#include "db/db.h"
#include "programs/batchmgr/ledger_rows.h"
#include "programs/streammgr/instances_db.h"
#include "programs/streammgr/quality.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Of streammgr; the book calls it when an instance ends, which none does here. */
void quality_end(struct instances_db *b, const struct instance *i, const struct run_result *res)
{
    (void)b;
    (void)i;
    (void)res;
}

struct home home;
struct queries *queries;
sqlite3 *ledger, *book;

static char *const of_a[] = {"a", NULL}, *const of_nothing[] = {NULL};
const struct query_scope acme = {"acme", NULL}, other = {"other", NULL}, gone = {"gone", NULL}, acme_a = {"acme", of_a},
                         acme_none = {"acme", of_nothing};

/* ---- a home ---- */

static sqlite3 *open_db(const char *rel)
{
    AUTO_FREE char *path = home_path(&home, rel);
    sqlite3 *db = NULL;
    assert_int_equal(db_open(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &db), SQLITE_OK);
    return db;
}

int make_home(void **state)
{
    char dir[] = "/tmp/simbdp-query-XXXXXX";
    struct instances_db *b;
    struct err e = {0};
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    home = (struct home){.path = xstrdup(dir), .dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    assert_int_equal(mkdirat(home.dirfd, "state", 0700), 0);
    ledger = open_db("state/ledger.db");
    assert_int_equal(ledger_make_tables(ledger, &e), 0);
    assert_int_equal(instances_db_open(&home, false, &b, &e), 0);
    instances_db_close(b);
    book = open_db("state/streams.db");
    assert_int_equal(
        sqlite3_exec(ledger, "INSERT INTO tenants VALUES('acme',1,0,0),('other',2,0,0),('gone',3,0,2)", NULL, NULL, NULL),
        SQLITE_OK);
    queries = queries_new(&home);
    return 0;
}

int remove_home(void **state)
{
    (void)state;
    queries_free(queries);
    sqlite3_close(ledger);
    sqlite3_close(book);
    fd_remove_tree(AT_FDCWD, home.path);
    close(home.dirfd);
    free(home.path);
    return 0;
}

/* As home_new_id has it: in order of n. */
void id_of(int n, char out[ID_SIZE])
{
    snprintf(out, ID_SIZE, "01kdwgyr00%016d", n);
}

void put(sqlite3 *db, const char *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sqlite3_errmsg(db), sql);
}

void put_file(int n, const char *tenant, const char *dataset, const char *state, const char *name)
{
    char id[ID_SIZE];
    id_of(n, id);
    char *sql = sqlite3_mprintf(
        "INSERT INTO files(file_id,tenant,dataset,name,state,place,size,rows,columns,hash,rows_parsed,rows_loaded,rows_rejected,"
        "attempts,losses,force,received_at,started_at,ended_at,run_id) VALUES(%Q,%Q,%Q,%Q,%Q,'done',7,-1,-1,'',-1,-1,-1,0,0,0,%lld,"
        "0,0,'')",
        id, tenant, dataset, name, state, (long long)(begin_ms + (int64_t)n * 1000));
    put(ledger, sql);
    sqlite3_free(sql);
}

void put_run(int n, int file, const char *tenant, const char *step, const char *state)
{
    char id[ID_SIZE], of[ID_SIZE];
    id_of(n, id);
    id_of(file, of);
    char *sql = sqlite3_mprintf("INSERT INTO runs(run_id,file_id,tenant,app,step,attempt,state,outcome,lim,error,forced,started_at,"
                                "ended_at) VALUES(%Q,%Q,%Q,'load',%Q,1,%Q,%Q,NULL,'',0,%lld,%lld)",
                                id, of, tenant, step, state, strcmp(state, "ended") ? NULL : "ok",
                                (long long)(begin_ms + (int64_t)n * 1000), (long long)(begin_ms + (int64_t)n * 1000 + 500));
    put(ledger, sql);
    sqlite3_free(sql);
}

void put_instance(int n, const char *tenant, const char *state)
{
    char id[ID_SIZE];
    id_of(n, id);
    char *sql =
        sqlite3_mprintf("INSERT INTO instances(run_id,tenant,app,generation,attempt,state,started_at) VALUES(%Q,%Q,'pipe',1,1,%Q,"
                        "%lld)",
                        id, tenant, state, (long long)(begin_ms + (int64_t)n * 1000));
    put(book, sql);
    sqlite3_free(sql);
}

/* ---- asking ---- */

void ask_for(const char *name, const struct query_scope *scope, const char *params, struct query_answer *ret)
{
    AUTO_FREE char *text = xstrdup(params);
    for (char *p = text; *p; p++)
        *p = *p == '\'' ? '"' : *p;
    AUTO_BSON bson_t *doc = json_parse(text, strlen(text), NULL);
    assert_non_null(doc);
    *ret = (struct query_answer){0};
    query(queries, name, scope, doc, ret);
    if (ret->status == 503)
        print_message("%s %s: %s\n", name, params, ret->why);
    assert_true(ret->status == 200 ? !ret->code : ret->code && !ret->body.n && !ret->head.n);
}

bson_t *ask_in(const char *name, const struct query_scope *scope, const char *params, int *ret_status, const char **ret_code)
{
    struct query_answer a;
    struct err e = {0};
    ask_for(name, scope, params, &a);
    bson_t *body = a.status == 200 ? json_parse(a.body.p, a.body.n, &e) : NULL;
    if (a.status == 200 && !body)
        fail_msg("%s: %s", e.msg, a.body.p);
    *ret_status = a.status;
    *ret_code = a.code;
    query_answer_fini(&a);
    return body;
}

bson_t *ask(const char *name, const char *params)
{
    const char *code;
    int status;
    bson_t *body = ask_in(name, &(struct query_scope){"acme", NULL}, params, &status, &code);
    if (!body)
        fail_msg("%s %s: %d %s", name, params, status, code);
    return body;
}

void refused_in(const struct query_scope *scope, const char *name, const char *params, int status, const char *code)
{
    const char *got;
    int n;
    AUTO_BSON bson_t *body = ask_in(name, scope, params, &n, &got);
    if (body || n != status || strcmp(got, code) != 0)
        fail_msg("%s %s: %d %s", name, params, n, body ? "" : got);
}

void refused(const char *name, const char *params, int status, const char *code)
{
    refused_in(&(struct query_scope){"acme", NULL}, name, params, status, code);
}
