/* What streammgr must not forget: its instances, and what was asked for of each app. SQLite, state/streams.db; `mysimbdp runs`
 * reads it beside the ledger. A row is there before the spawner is asked. Commits are in the file (WAL, synchronous NORMAL) when
 * the call returns: they outlive this process, and a power cut that takes them takes the instances, too. */
#ifndef SIMBDP_STREAMMGR_INSTANCES_DB_H
#define SIMBDP_STREAMMGR_INSTANCES_DB_H

#include "base/err.h"
#include "host/home.h"
#include "run/spec.h"

struct book;
struct app;
struct instance;

/* Borrows h. owns: commits are counted, and a book that is not the one this home had (lib/db/continuity.h) is refused:
 * ERR_REFUSED. Else it is for reading alone, and such a book is only told of in the log. */
int book_open(const struct home *h, bool owns, struct book **ret, struct err *e);
void book_close(struct book *b); /* NULL is fine */

/* The row of an instance follows its life. Only the first write can fail its caller; a later one that fails is said in the log. */
int book_begin(struct book *b, const struct instance *i, struct err *e);
void book_started(struct book *b, const struct instance *i);
void book_consumes(struct book *b, const struct instance *i);
void book_draining(struct book *b, const struct instance *i);
/* In the same transaction, what it read is added to its app's figures (quality.h). */
void book_ended(struct book *b, const struct instance *i, const struct run_result *res);

/* What an app read in a UTC day (lib/read/quality.h): run_id is an instance's, for what it has read until now, or "" for what
 * those read that have ended. Kept until the tenant is removed for good. */
void book_put_quality(struct book *b, const struct instance *i, const char *run_id, int64_t day, const char *text);
char *book_quality(struct book *b, const struct instance *i, const char *run_id, int64_t day); /* caller frees; NULL: none */
size_t book_quality_days(struct book *b, const struct instance *i, int64_t *days, size_t max); /* of the instance */
bool book_drop_quality(struct book *b, const struct instance *i, int64_t day);

struct book_instance {
    const char *run_id, *tenant, *app, *ask;
    const char *stop; /* it was told to go, because of this; or NULL */
    uint64_t generation;
    int64_t attempt, started_wall_ms;
    bool consumes;
};
/* fn for every instance that has not ended, the oldest first. */
int book_each_live(struct book *b, void (*fn)(void *arg, const struct book_instance *i), void *arg, struct err *e);
/* Whether there is a row of it, and it has ended. */
bool book_is_ended(struct book *b, const char *run_id);

struct ask;
/* Instances that a person asked for (manual_instances.h). */
int book_put_ask(struct book *b, const struct app *a, const struct ask *ask, struct err *e);
void book_drop_ask(struct book *b, const struct app *a, const struct ask *ask);
int book_each_ask(struct book *b, void (*fn)(void *arg, const char *tenant, const char *app, const char *id, const char *args),
                  void *arg, struct err *e);

/* What was asked for: wanted, stopped, pinned, least, args. */
int book_put_app(struct book *b, const struct app *a, struct err *e);
struct book_app {
    const char *tenant, *app, *args;
    int64_t wanted, least;
    bool stopped, pinned;
};
int book_each_app(struct book *b, void (*fn)(void *arg, const struct book_app *a), void *arg, struct err *e);

/* Removes the logs (runs/<run_id>) of the tenant's instances that ended before then. At most `max`; how many. */
int book_prune(struct book *b, const char *tenant, int64_t before_wall_ms, int max);
/* Everything of a tenant that is removed for good, logs too. */
int book_forget(struct book *b, const char *tenant, struct err *e);

#endif
