/* The inside of streammgr. One thread, one loop; nothing in it waits. */
#ifndef SIMBDP_STREAMMGR_H
#define SIMBDP_STREAMMGR_H

#include "common/cgroup.h"
#include "common/conf.h"
#include "common/ctl.h"
#include "common/home.h"
#include "common/map.h"
#include "common/tenant.h"
#include "manager/live/live.h"

#include <event2/event.h>

struct streammgr;
struct app;
struct book;

/* One process tree that consumes: a run of kind "stream". */
struct instance {
    char run_id[ID_SIZE];
    struct app *app;
    enum { INSTANCE_starting, INSTANCE_running, INSTANCE_draining, INSTANCE_ended } state;
    uint64_t generation; /* of configuration and executable that it was started with */
    int64_t attempt, started_wall_ms, started_ms;
    double cpus; /* charged */
    int64_t memory_bytes;
    char *stop;     /* why it was told to go; NULL: it was not */
    int64_t leased; /* messages that its processes hold, as the broker said last; -1: they do not consume yet */
    struct live *live;
    struct instance *next;
};

/* What is known of a stream app beside its configuration. Lives as long as it is configured or has instances. */
struct app {
    char *tenant, *name;
    struct streammgr *mgr;
    struct instance *instances;
    size_t n;                      /* of them, not draining */
    int64_t wanted;                /* by order or activation; before min, max and what forbids it */
    int64_t order_expires_wall_ms; /* 0: no order is in force */
    bool stopped;                  /* by command */
    char *parked;                  /* why, or NULL */
    int64_t parked_identity;
    int64_t delay_ms, not_before_ms; /* of the next start after failures */
    int64_t attempts;                /* starts since the last healthy instance */
};

struct streammgr {
    struct event_base *base;
    struct home home;
    struct conf *conf;
    struct cgroup_host cgroups;
    struct spawner *spawner;
    struct book *book;
    struct map apps;  /* "tenant/app" -> struct app */
    struct map facts; /* tenant -> struct facts */
    struct ctl *ctl;
    struct watcher *watcher;
    struct event *tick_ev;
    double cpus; /* in use */
    int64_t memory_bytes;
    uint64_t epoch;  /* of the control endpoint: orders for another are stale */
    int64_t seen_ms; /* when the broker told of its consumers */
    bool draining;
    int64_t started_wall_ms;
};

/* Looks again after at most so long. */
void streammgr_wake_in(struct streammgr *m, int64_t ms);
int streammgr_reload(struct streammgr *m, struct err *e);

/* ---- instances.c ---- */

struct app *app_get(struct streammgr *m, const char *tenant, const char *name, bool make);
/* How many instances there should be now, and why not more (static; NULL: nothing forbids it). */
int64_t app_target(struct app *a, const char **ret_why);
/* False: stream_pct of the capacity is taken. */
bool app_has_capacity(const struct app *a);
/* Starts and drains until what is there is what should be; called whenever something changed, and once a second. */
void instances_reconcile(struct streammgr *m);
void app_reconcile(struct app *a);
/* Orders every instance of the app (NULL: of all) to go, with its grace. */
void instances_stop(struct streammgr *m, struct app *a, const char *why);
/* The same of one; false: there is none of this id. */
bool instance_stop(struct app *a, const char *run_id, const char *why);
size_t instances_n(const struct streammgr *m);
/* Takes up what an earlier streammgr left. */
int instances_recover(struct streammgr *m, struct err *e);
void instances_free(struct streammgr *m);
/* Forgets why an app was parked, and its failures. */
void app_forgive(struct app *a);

/* What the broker says of its consumers: an array of its control socket. */
void instances_see_consumers(struct streammgr *m, const bson_iter_t *consumers);

/* ---- facts.c ---- */

struct facts {
    int64_t uid; /* -1: the platform's */
    bool suspended, database_up;
    char *mongo_url;
};
int facts_read(struct streammgr *m, struct err *e);
const struct facts *facts_of(const struct streammgr *m, const char *tenant); /* NULL: batchmgr does not know it yet */
void facts_free(struct streammgr *m);

/* ---- watcher.c: the broker's notices ---- */

struct watcher *watcher_new(struct streammgr *m);
void watcher_free(struct watcher *w);
/* Asks what consumers hold; the answer comes by instances_see_consumers. False: the broker is not there. */
bool watcher_ask(struct watcher *w);
const char *watcher_endpoint(const struct watcher *w); /* NULL: the broker is not there */

/* ---- control.c ---- */

int control_start(struct streammgr *m, struct err *e);
void control_stop(struct streammgr *m);
/* An instance ended: who waits for all to be gone may go on. */
void control_check_drained(struct streammgr *m);

#endif
