/* The inside of streammgr. One thread, one loop; nothing in it waits. */
#ifndef SIMBDP_STREAMMGR_STREAMMGR_H
#define SIMBDP_STREAMMGR_STREAMMGR_H

#include "base/map.h"
#include "conf/conf.h"
#include "db/tenants.h"
#include "host/home.h"
#include "host/isolation.h"
#include "loop/ctl.h"
#include "manager/images.h"
#include "manager/run_handle.h"
#include "run/spec.h"

#include <event2/event.h>

struct streammgr;
struct app;
struct book;

enum { MAX_SESSIONS = 8 };

enum instance_state { INSTANCE_starting, INSTANCE_running, INSTANCE_draining, INSTANCE_N_STATES };

/* One process tree that consumes: a run of kind "stream". */
struct instance {
    char run_id[ID_SIZE];
    char ask[ID_SIZE]; /* of the ask that it is there for; "": it is one of those that are scaled */
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
    uint64_t quality_ino; /* of its result file when it was looked at last */
    struct timespec quality_mtime;
    struct run_handle *handle;
    struct instance *next;
};

/* One instance more with arguments of its own, that a person asked for (asks.c). In the book. */
struct ask {
    char id[ID_SIZE];      /* the run id of its first instance */
    char *args;            /* {"args":[...]} */
    int64_t not_before_ms; /* of the next start */
    bool begun;            /* there was an instance */
    struct ask *next;
};

/* What is known of a stream app beside its configuration. Lives as long as streammgr. */
struct app {
    char *tenant, *name;
    struct streammgr *mgr;
    struct instance *instances; /* the youngest first */
    size_t n;                   /* of them, scaled and not draining */
    struct ask *asks;
    size_t n_asks;

    /* What was asked for; in the book. */
    int64_t wanted; /* by order or activation; before min, max and what forbids it */
    bool stopped;   /* by command */
    bool pinned;    /* a person said how many: the monitor does not decide */
    int64_t least;  /* instead of min_instances, since a person stopped an instance; -1: no */
    char *args;     /* {"args":[...]} instead of the configuration's, by a book of before there were asks; or NULL */
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
    size_t quality_at; /* whose result file is looked at next, by number */
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
/* What forbids any instance now, scaled or not (static); NULL: nothing. */
const char *app_obstacle(const struct app *a);
/* How many instances there should be now, beside those of asks, and why not more (static; NULL: nothing forbids it). */
int64_t app_target(struct app *a, const char **ret_why);
/* Another when its checker is; 0: it has none. */
int64_t app_checker_identity(const struct app *a);
/* stream_pct of the capacity has room for one more of these. */
bool app_has_capacity(const struct app *a, const struct conf_profile *p);
/* What our code in an instance said of its end, in its result file, where nobody else says why; the tenant may have written it. */
void app_take_words(struct run_result *res);
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
/* Starts one, for an ask or NULL. */
int instance_start(struct app *a, const struct ask *ask, struct err *e);
bool instance_is_scaled(const struct instance *i); /* it counts: for no ask, and not told to go */
/* Orders every instance of the app (NULL: of all) to go. */
void instances_stop(struct streammgr *m, struct app *a, const char *why);
/* The same of one. */
void instance_stop(struct instance *i, const char *why);
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

/* ---- asks.c: instances with arguments of their own ---- */

/* Takes up one that the book has. */
void ask_add(struct app *a, const char *id, const char *args);
/* A new one, and its instance. TAKE args, also on failure. ERR_REFUSED: there is no room for it, or it cannot be started now. */
int ask_start(struct app *a, char *args, const struct ask **ret, struct err *e);
/* It is over; its instance, if there is one, is the caller's to stop. */
void ask_end(struct app *a, const char *id);
void asks_end(struct app *a); /* all of the app's */
void asks_free(struct app *a);
const struct ask *ask_of(const struct app *a, const char *id);
/* Its instance that was not told to go, or NULL. */
struct instance *ask_instance(const struct app *a, const char *id);
/* An instance of an ask ended: is that the ask's end, or is another to be started? */
void ask_note_end(struct app *a, const struct instance *i, const struct run_result *res);
/* The same of one that could not be started. */
void ask_note_cancelled(struct app *a, const struct instance *i, int64_t delay_ms);
/* Starts those that have no instance, and tells them to go where none is allowed. */
void asks_reconcile(struct app *a);

/* ---- facts.c: what batchmgr knows of the tenants ---- */

struct facts {
    char *tenant;
    int64_t uid; /* -1: the platform's */
    bool suspended, database_up;
    bool removed; /* for good */
    char *mongo_url;
    char *database_why; /* it answers, and may not be used: why; or NULL */
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
