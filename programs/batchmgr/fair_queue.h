/* Who runs next: dominant-resource fairness (Ghodsi et al., NSDI 2011) over tenants, weighted; first in first out with
 * app priority inside a tenant. Decides only; knows no loop, no clock and no ledger.
 *
 * Among the tenants that have a file to run and may run one, the one with the least weighted dominant share goes next.
 * Equal shares, which is all there is when runs are short and the machine holds one, are told apart by service received
 * so far (share times duration over weight, as in stride scheduling), where a tenant that was idle starts level with the
 * least served busy one: idling earns no credit. When the next file does not fit what is free, nothing else starts until
 * it does, so a large request is not starved by small ones.
 *
 * There is a pool for each place where runs are started: this machine, a cluster (docs/cluster.md). One stands not in for another,
 * so shares and service are of a pool, and what waits for one holds up nobody who wants another. `concurrency` is a tenant's in
 * all.
 *
 * Where cores are lent, a tenant with nothing running may start one run although they are taken (their time can be shared, memory
 * cannot, and must be free), up to the cores once more in all: a quiet tenant need not wait until a flood's slow runs end. */
#ifndef SIMBDP_BATCHMGR_FAIR_QUEUE_H
#define SIMBDP_BATCHMGR_FAIR_QUEUE_H

#include "model.h"

struct fair_queue;

enum { FAIR_QUEUE_LOCAL = 0 }; /* the pool that is there from the beginning */

/* Its capacity is that of FAIR_QUEUE_LOCAL. */
struct fair_queue *fair_queue_new(double cpus, int64_t memory_bytes);
void fair_queue_free(struct fair_queue *s); /* not the files */
/* The pool of that name, which is made, without capacity, where there is none. */
int fair_queue_pool(struct fair_queue *s, const char *name);
void fair_queue_set_capacity(struct fair_queue *s, int pool, double cpus, int64_t memory_bytes);
/* No tenant may have more than this part of the pool, 1 at first; one run it may. */
void fair_queue_set_most(struct fair_queue *s, int pool, double part);
void fair_queue_lend_cores(struct fair_queue *s, int pool, bool lend); /* false at first */

/* Makes or changes a tenant. `blocked` keeps its files queued (suspended, or its database is down). */
void fair_queue_set_tenant(struct fair_queue *s, const char *tenant, int64_t weight, int64_t concurrency);
void fair_queue_block_tenant(struct fair_queue *s, const char *tenant, bool blocked);
/* Makes or changes an app: its priority and what one run requests. */
void fair_queue_set_app(struct fair_queue *s, const char *tenant, const char *app, int64_t priority, const struct demand *one);
void fair_queue_park_app(struct fair_queue *s, const char *tenant, const char *app, bool parked);
/* A file that was picked goes back to the front of its app's, from which no other is picked until fair_queue_unhold. */
void fair_queue_hold(struct fair_queue *s, const char *app, struct file *f, const struct demand *d);
void fair_queue_unhold(struct fair_queue *s); /* all apps */

/* Queues a file for an app that was set. */
void fair_queue_add(struct fair_queue *s, const char *app, struct file *f);
/* Takes a queued file out; false when it is not queued. */
bool fair_queue_remove(struct fair_queue *s, struct file *f);
/* Empties every queue, calling fn with each file. */
void fair_queue_drain(struct fair_queue *s, void (*fn)(void *arg, struct file *f), void *arg);

/* The same for one tenant. */
void fair_queue_drain_tenant(struct fair_queue *s, const char *tenant, void (*fn)(void *arg, struct file *f), void *arg);

/* The next file to start, already charged to its tenant; NULL when nothing may start. ret_app points into s. */
struct file *fair_queue_pick(struct fair_queue *s, const char **ret_app, struct demand *ret);
/* Takes up to `max` queued files that may share a run with `f`, just picked for `app` (same tenant and dataset, each may be
 * grouped), hangs them on its `mate` in order of arrival, and gives their number. */
int64_t fair_queue_take_mates(struct fair_queue *s, const char *app, struct file *f, int64_t max);
/* Charges a run that is going already (taken back after a restart). */
void fair_queue_charge(struct fair_queue *s, const char *tenant, const struct demand *d);
/* A run ended after duration_ms. */
void fair_queue_release(struct fair_queue *s, const char *tenant, const struct demand *d, int64_t duration_ms);

size_t fair_queue_n_queued(const struct fair_queue *s, const char *tenant); /* NULL: all */
size_t fair_queue_n_running(const struct fair_queue *s, const char *tenant);
/* Why this tenant's next file does not start: static text, NULL when it has none or could start. */
const char *fair_queue_why_waiting(const struct fair_queue *s, const char *tenant);

#endif
