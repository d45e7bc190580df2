/* What streammgr must not forget: its instances, and which apps are stopped by command. SQLite, state/streams.db; `mysimbdp runs`
 * reads it beside the ledger. A row is there before the spawner is asked. Commits are in the file (WAL, synchronous NORMAL) when
 * the call returns: they outlive this process, and a power cut that takes them takes the instances, too. */
#ifndef SIMBDP_BOOK_H
#define SIMBDP_BOOK_H

#include "common/err.h"
#include "common/home.h"
#include "common/runspec.h"

struct book;
struct instance;

int book_open(const struct home *h, struct book **ret, struct err *e);
void book_close(struct book *b); /* NULL is fine */

int book_begin(struct book *b, const struct instance *i, struct err *e);
void book_started(struct book *b, const struct instance *i);
void book_ended(struct book *b, const struct instance *i, const struct run_result *res);

/* fn for every instance that has not ended. */
int book_each_live(struct book *b,
                   void (*fn)(void *arg, const char *run_id, const char *tenant, const char *app, uint64_t generation,
                              int64_t attempt, int64_t started_wall_ms),
                   void *arg, struct err *e);

int book_set_stopped(struct book *b, const char *tenant, const char *app, bool stopped, struct err *e);
int book_each_stopped(struct book *b, void (*fn)(void *arg, const char *tenant, const char *app), void *arg, struct err *e);
/* Everything of a tenant that is removed for good. */
int book_forget(struct book *b, const char *tenant, struct err *e);

#endif
