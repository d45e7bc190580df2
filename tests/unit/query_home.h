/* A home with a ledger and a book, made by those who own them, and questions about the tenants in it: acme, other, and gone, which
 * was purged. */
#ifndef SIMBDP_TEST_QUERY_HOME_H
#define SIMBDP_TEST_QUERY_HOME_H

#include "check.h"

#include "base/json.h"
#include "query/query.h"

#include <sqlite3.h>

static const int64_t begin_ms = 1767225600000; /* 2026-01-01 */

extern struct home home;
extern struct queries *queries;
extern sqlite3 *ledger, *book;

int make_home(void **state);
int remove_home(void **state);

/* Ids in order of n, as home_new_id has them. */
void id_of(int n, char out[ID_SIZE]);
void put(sqlite3 *db, const char *sql);
/* Those of number n came n seconds behind begin_ms. */
void put_file(int n, const char *tenant, const char *dataset, const char *state, const char *name);
void put_run(int n, int file, const char *tenant, const char *step, const char *state);
void put_instance(int n, const char *tenant, const char *state);

extern const struct query_scope acme, other, gone, acme_a, acme_none; /* acme_a: only dataset a */

/* Asks; `'` in the parameters stands for `"`. *ret is to be given to query_answer_fini. */
void ask_for(const char *name, const struct query_scope *scope, const char *params, struct query_answer *ret);
/* The body's JSON, NULL when there is none; the answer's status and code. */
bson_t *ask_in(const char *name, const struct query_scope *scope, const char *params, int *ret_status, const char **ret_code);
/* Of acme. */
bson_t *ask(const char *name, const char *params);
void refused_in(const struct query_scope *scope, const char *name, const char *params, int status, const char *code);
void refused(const char *name, const char *params, int status, const char *code);

#endif
