/* The state of the program, which main.c makes and frees; what its modules do with it is in their own headers. One thread, one
 * loop; nothing waits.
 *
 *   main           life, the tick
 *   control        the control socket
 *   app_list       what is said of the apps
 *   reload         the configuration, read again
 *   recover        what an earlier streammgr left
 *   consumers      what the broker sees of instances; a message that waits
 *   reconcile      what is there against what should be: starts and drains the difference
 *   decide, drain_order   the decisions behind that, as plain functions
 *   asks           instances with arguments of their own
 *   drain          the way out of an instance
 *   instance       its life: started, ended
 *   instance_spec  what it is started with
 *   app            how many there should be; failures, parking
 *   watcher        the connection to the broker
 *   book, quality  what must not be forgotten
 *   tenant_facts   what batchmgr knows of the tenants
 *   model          apps, instances and asks as data
 *
 * Each uses those below it. What has to go on further up is handed in: instance_events, watcher_ops. */
#ifndef SIMBDP_STREAMMGR_STREAMMGR_H
#define SIMBDP_STREAMMGR_STREAMMGR_H

#include "base/map.h"
#include "host/home.h"
#include "host/isolation.h"

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct instances_db;
struct conf;
struct ctl;
struct images;
struct instance_events;
struct outside;
struct spawner;
struct watcher;

struct streammgr {
    struct event_base *base;
    struct home home;
    struct conf *conf;
    struct isolation_host isolation;
    struct spawner *spawner;
    struct outside *outside;
    struct images *images;
    struct instances_db *book;
    const struct instance_events *events;
    struct map apps;    /* "tenant/app" -> struct app */
    struct map facts;   /* tenant -> struct tenant_facts */
    uint64_t facts_ino; /* of the file of databases when they were read; 0: they were not */
    struct timespec facts_mtime;
    bool facts_failed; /* the last look did, and the log has it */
    struct ctl *ctl;
    struct watcher *watcher;
    struct event *tick_ev;
    struct {
        double cpus; /* in use */
        int64_t memory_bytes;
        size_t n;
        bool starving; /* an app waits for capacity for its first instance: nobody gets a further one */
    } places[2];       /* by enum conf_launcher */
    uint64_t epoch;    /* of the control endpoint: orders for another are stale */
    uint64_t version;  /* of configuration, facts and the broker's endpoint */
    int64_t seen_ms;   /* when the broker told of its consumers; 0: it has not, or is gone */
    int64_t prune_at_ms;
    size_t quality_at; /* whose result file is looked at next, by number */
    bool draining, supervised;
    bool holding; /* the broker was told of sessions that get nothing more */
    int64_t started_wall_ms;
};

/* Has the tick come after at most so long. */
void streammgr_wake_in(struct streammgr *m, int64_t ms);

#endif
