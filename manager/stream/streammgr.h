/* The inside of streammgr. One thread, one loop; nothing in it waits. */
#ifndef SIMBDP_STREAMMGR_H
#define SIMBDP_STREAMMGR_H

#include "common/conf/conf.h"
#include "common/ctl.h"
#include "common/home.h"
#include "common/isolation.h"
#include "common/map.h"
#include "common/runspec.h"
#include "common/tenant.h"
#include "manager/live/images.h"
#include "manager/live/live.h"

#include <event2/event.h>

struct streammgr;
struct app;
struct book;

enum { MAX_SESSIONS = 8 };

enum instance_state { INSTANCE_starting, INSTANCE_running, INSTANCE_draining, INSTANCE_N_STATES };

/* One process tree that consumes: a run of kind "stream". */
struct instance {
    char run_id[ID_SIZE];
    struct app *app;
    enum instance_state state;
    uint64_t generation; /* of configuration and executable that it was started with */
    int64_t attempt, started_wall_ms, started_ms;
    double cpus; /* charged */
    int64_t memory_bytes;
    char *stop;         /* why it was told to go; NULL: it was not */
    int64_t term_at_ms; /* draining: until then it may finish what it holds; 0: it got SIGTERM */
    bool held;          /* the broker was asked to give it nothing more, and has answered since */
    bool consumes;      /* the broker has seen it */
    int64_t absent_ms;  /* but not since then; 0: it sees it now, or is not there */
    int64_t leased;     /* messages that its processes hold, as the broker said last; -1: they do not consume */
    uint64_t sessions[MAX_SESSIONS];
    size_t n_sessions;
    struct live *live;
    struct instance *next;
};

/* What is known of a stream app beside its configuration. Lives as long as streammgr. */
struct app {
    char *tenant, *name;
    struct streammgr *mgr;
    struct instance *instances; /* the youngest first */
    size_t n;                   /* of them, not draining */

    /* What was asked for; in the book. */
    int64_t wanted; /* by order or activation; before min, max and what forbids it */
    bool stopped;   /* by command */
    bool pinned;    /* a person said how many: the monitor does not decide */
    char *args;     /* {"args":[...]} instead of the configuration's, or NULL */
    bool forgotten; /* its tenant is being removed for good */

    int64_t order_expires_wall_ms; /* 0: no order is in force */
    int64_t order_seq;             /* of the last one that had a number; -1: none had */

    char *image;      /* its instances' root, or NULL */
    bool image_waits; /* it is being unpacked */
    int64_t image_identity;

    char *parked; /* why, or NULL */
    int64_t parked_identity, parked_until_ms;
    int64_t failures, restarts; /* ends by itself: in a row, none of them after health; since this streammgr began */
    int64_t not_before_ms;      /* of the next start */
    char *last_end;             /* of one that ended by itself */
    int64_t told_unready_ms;

    uint64_t generation, generation_of; /* cached for this version of everything (streammgr.version) */
    int64_t identity;
};

struct streammgr {
    struct event_base *base;
    struct home home;
    struct conf *conf;
    struct isolation_host isolation;
    struct spawner *spawner;
    struct outside *outside;
    struct images *images;
    struct book *book;
    struct map apps;  /* "tenant/app" -> struct app */
    struct map facts; /* tenant -> struct facts */
    struct ctl *ctl;
    struct watcher *watcher;
    struct event *tick_ev;
    double cpus; /* in use */
    int64_t memory_bytes;
    uint64_t epoch;   /* of the control endpoint: orders for another are stale */
    uint64_t version; /* of configuration, facts and the broker's endpoint */
    int64_t seen_ms;  /* when the broker told of its consumers */
    int64_t prune_at_ms;
    bool draining, supervised;
    bool holding;  /* the broker was told of sessions that get nothing more */
    bool starving; /* an app waits for capacity for its first instance: nobody gets a further one */
    int64_t started_wall_ms;
};

/* Looks again after at most so long. */
void streammgr_wake_in(struct streammgr *m, int64_t ms);
int streammgr_reload(struct streammgr *m, struct err *e);

/* ---- apps.c: how many there should be ---- */

struct app *app_get(struct streammgr *m, const char *tenant, const char *name, bool make);
/* NULL: it is not configured, or has no executable. */
const struct conf_stream_app *app_conf(const struct app *a, const struct conf_tenant **ret_tenant);
/* How many instances there should be now, and why not more (static; NULL: nothing forbids it). */
int64_t app_target(struct app *a, const char **ret_why);
/* stream_pct of the capacity has room for one more of these. */
bool app_has_capacity(const struct app *a, const struct conf_profile *p);
/* An instance ended by itself: when is the next worth trying, or is the app parked? */
void app_note_failure(struct app *a, const struct instance *i, const struct run_result *res);
/* Forgets why an app was parked, and its failures. */
void app_forgive(struct app *a);
/* Forgets what was asked for of an app whose tenant is gone: one that comes back under the name begins anew. */
void app_forget_if_gone(struct app *a);
/* Finds out what its instances have as their root; an app whose image is not to be had is parked. */
void app_look_at_image(struct app *a);
/* A parked app whose executable changed, or whose time is over, may try again. */
void app_unpark_if_due(struct app *a);

/* ---- spec.c: what an instance is started with ---- */

void spec_make(const struct instance *i, const struct conf_tenant *t, const struct conf_stream_app *c, struct run_spec *ret);
/* A number that is another when configuration, arguments, executable or database are. 0: not to be told yet. */
uint64_t spec_generation(struct app *a);

/* ---- instances.c ---- */

/* Starts and drains until what is there is what should be; called whenever something changed, and once a second. */
void instances_reconcile(struct streammgr *m);
void app_reconcile(struct app *a);
/* Orders every instance of the app (NULL: of all) to go. */
void instances_stop(struct streammgr *m, struct app *a, const char *why);
/* The same of one; false: there is none of this id. */
bool instance_stop(struct app *a, const char *run_id, const char *why);
/* It runs, and consumes if its elders do. */
bool instance_is_ready(const struct instance *i);
size_t instances_of(const struct streammgr *m, const char *tenant); /* NULL: any */
/* Reads the book, and no more. */
int instances_read(struct streammgr *m, struct err *e);
/* Takes up what an earlier streammgr left. */
int instances_recover(struct streammgr *m, struct err *e);
void instances_free(struct streammgr *m);

/* What the broker says of its consumers: an array of its control socket. */
void instances_see_consumers(struct streammgr *m, const bson_iter_t *consumers);
/* Its sessions are no more. */
void instances_broker_gone(struct streammgr *m);
/* A message waits for the app. */
void instances_activate(struct streammgr *m, const char *tenant, const char *app);
/* The sessions that are to get nothing more, as a JSON array; false: none is, and none was. */
bool instances_held(struct streammgr *m, struct buf *out);

/* ---- facts.c: what batchmgr knows of the tenants ---- */

struct facts {
    char *tenant;
    int64_t uid; /* -1: the platform's */
    bool suspended, database_up;
    bool removed; /* for good */
    char *mongo_url;
};
int facts_read(struct streammgr *m, struct err *e);
const struct facts *facts_of(const struct streammgr *m, const char *tenant); /* NULL: batchmgr does not know it yet */
void facts_free(struct streammgr *m);

/* ---- watcher.c: the broker's notices ---- */

struct watcher *watcher_new(struct streammgr *m);
void watcher_free(struct watcher *w);
/* Asks what consumers hold, and says who is to get nothing more; the answer comes by instances_see_consumers. One request is
 * under way at a time. False: the broker is not there. */
bool watcher_ask(struct watcher *w);
const char *watcher_endpoint(const struct watcher *w); /* NULL: the broker has not been there yet */

/* ---- control.c ---- */

int control_start(struct streammgr *m, struct err *e);
void control_stop(struct streammgr *m);
/* What streammgr knows of the apps, as `mysimbdp app list` shows it: a JSON array. */
void control_print_apps(struct streammgr *m, struct buf *out, const char *tenant);
/* An instance ended: who waits for all to be gone may go on. */
void control_check_drained(struct streammgr *m);

#endif
