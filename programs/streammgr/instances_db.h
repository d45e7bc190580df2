/* What streammgr must not forget: its instances, and what was asked for of each app. SQLite, state/streams.db; `mysimbdp runs`
 * reads it beside the ledger. A row is there before the spawner is asked. Commits are in the file (WAL, synchronous NORMAL) when
 * the call returns: they outlive this process, and a power cut that takes them takes the instances, too. What was asked for (apps,
 * asks) is synced as well, since whoever asked is told that it is so. */
#ifndef SIMBDP_STREAMMGR_INSTANCES_DB_H
#define SIMBDP_STREAMMGR_INSTANCES_DB_H

#include "base/err.h"
#include "host/home.h"
#include "run/spec.h"

struct instances_db;
struct app;
struct instance;

/* Borrows h. owns: commits are counted, and a book that is not the one this home had (lib/db/continuity.h) is refused:
 * ERR_REFUSED. Else it is for reading alone, and such a book is only told of in the log. */
int instances_db_open(const struct home *h, bool owns, struct instances_db **ret, struct err *e);
void instances_db_close(struct instances_db *b); /* NULL is fine */

/* The row of an instance follows its life. Only the first write can fail its caller; a later one that fails is said in the log. */
int instances_db_begin(struct instances_db *b, const struct instance *i, struct err *e);
void instances_db_started(struct instances_db *b, const struct instance *i);
void instances_db_node(struct instances_db *b, const struct instance *i);
void instances_db_consumes(struct instances_db *b, const struct instance *i);
void instances_db_draining(struct instances_db *b, const struct instance *i);
/* In the same transaction, what it read is added to its app's figures (quality.h). */
void instances_db_ended(struct instances_db *b, const struct instance *i, const struct run_result *res);

/* What an app read in a UTC day (lib/read/quality.h): run_id is an instance's, for what it has read until now, or "" for what
 * those read that have ended. Kept until the tenant is removed for good. */
void instances_db_put_quality(struct instances_db *b, const struct instance *i, const char *run_id, int64_t day, const char *text);
char *instances_db_quality(struct instances_db *b, const struct instance *i, const char *run_id,
                           int64_t day); /* caller frees; NULL: none */
size_t instances_db_quality_days(struct instances_db *b, const struct instance *i, int64_t *days, size_t max); /* of the instance */
bool instances_db_drop_quality(struct instances_db *b, const struct instance *i, int64_t day);

struct instances_db_row {
    const char *run_id, *tenant, *app, *ask;
    const char *stop; /* it was told to go, because of this; or NULL */
    uint64_t generation;
    int64_t attempt, started_wall_ms;
    bool consumes;
};
/* fn for every instance that has not ended, the oldest first. */
int instances_db_each_live(struct instances_db *b, void (*fn)(void *arg, const struct instances_db_row *i), void *arg,
                           struct err *e);
/* Whether there is a row of it, and it has ended. */
bool instances_db_is_ended(struct instances_db *b, const char *run_id);

/* Adds to a JSON object how the last of the ask's instances that is no more ended, or (ask NULL) of the app's others: run_id,
 * outcome, exit_code, signal, limit, error, ended_at. null: none ended yet, or the book cannot be read. */
struct buf;
void instances_db_add_last_end(struct instances_db *b, const struct app *a, const char *ask, struct buf *out, const char *key);

struct ask;
/* Instances that a person asked for (manual_instances.h). */
/* With the key, or NULL, that it is asked for by, in one transaction, which forgets keys that are too old or too many. */
enum { ASK_KEYS_KEPT = 10000 /* of a tenant, the youngest */, ASK_KEY_KEPT_MS = 24 * 3600 * 1000 };
int instances_db_put_ask(struct instances_db *b, const struct app *a, const struct ask *ask, const char *key, struct err *e);
/* 1: ret_id was asked for by this key of the tenant's, and *ret_same says whether of this app with these arguments; 0: none was. */
int instances_db_find_key(struct instances_db *b, const struct app *a, const char *key, const char *args, char ret_id[ID_SIZE],
                          bool *ret_same, struct err *e);
/* It was not started: neither it nor its key is known any more. */
void instances_db_take_back_ask(struct instances_db *b, const struct app *a, const struct ask *ask);
/* It is over; who asks again by its key is still told of it. */
void instances_db_drop_ask(struct instances_db *b, const struct app *a, const struct ask *ask);
int instances_db_each_ask(struct instances_db *b,
                          void (*fn)(void *arg, const char *tenant, const char *app, const char *id, const char *args), void *arg,
                          struct err *e);

/* What was asked for: wanted, stopped, pinned, least, args. */
int instances_db_put_app(struct instances_db *b, const struct app *a, struct err *e);
struct instances_db_app {
    const char *tenant, *app, *args;
    int64_t wanted, least;
    bool stopped, pinned;
};
int instances_db_each_app(struct instances_db *b, void (*fn)(void *arg, const struct instances_db_app *a), void *arg,
                          struct err *e);

/* Removes the logs (runs/<run_id>) of the tenant's instances that ended before then. At most `max`; how many. */
int instances_db_prune(struct instances_db *b, const char *tenant, int64_t before_wall_ms, int max);
/* Everything of a tenant that is removed for good, logs too. */
int instances_db_forget(struct instances_db *b, const char *tenant, bool bill, struct err *e);

#endif
