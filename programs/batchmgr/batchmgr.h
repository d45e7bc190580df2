/* batchmgr's shared state. Internal to this folder: the modules around it are one program. */
#ifndef SIMBDP_BATCHMGR_BATCHMGR_H
#define SIMBDP_BATCHMGR_BATCHMGR_H

#include "fair.h"
#include "health.h"
#include "idents.h"
#include "ledger.h"
#include "refusals.h"
#include "sched.h"
#include "walk.h"

#include "base/map.h"
#include "conf/conf.h"
#include "host/age.h"
#include "host/cgroup.h"
#include "host/home.h"
#include "host/isolation.h"
#include "manager/images.h"
#include "manager/live.h"

#include <event2/event.h>
#include <sys/queue.h>

struct inspector;

/* A name seen in a staging directory that is to be looked at. */
struct candidate {
    char *dataset, *name;
    struct candidate *next;
};

struct usage { /* of a tenant, or of one of its datasets */
    int64_t day, files_today, bytes_today;
    int64_t n_live; /* files that are not final */
};

struct tenant {
    char *id;
    bool configured;  /* has a file in conf/tenants */
    bool suspended;   /* by command */
    bool purging;     /* being removed */
    bool purged;      /* nothing of it is left */
    int64_t uid, gid; /* -1: the platform's */
    struct health *health;
    char *mongo_url;    /* what its runs get */
    char *database_why; /* it answers, and may not be used yet: why; or NULL */
    size_t n_waiting;   /* files held or gathering: release.c */
    struct usage usage;
    struct map datasets; /* name -> struct usage */
    struct candidate *first, **last;
    size_t n_candidates;
    int n_claiming; /* whose row is being committed */
    struct walk walk;
    struct refusals refusals; /* lately */
    struct file *inspect_first, **inspect_last;
    struct fair_share share; /* of the inspectors */
};

struct batchmgr {
    struct home home;
    struct conf *conf;
    struct cgroup_host cgroups;
    struct isolation_host isolation;
    struct event_base *base;
    struct ledger *ledger;
    struct sched *sched;
    struct parking *parking;
    struct map tenants, files, staged, contents, runs;
    struct map exec_hashes; /* by path; runplan.c */
    struct map waiting;     /* release.c */
    size_t n_waiting;
    struct health **healths;
    size_t n_healths;
    struct idents *idents;
    char *mongo_url;  /* the platform's */
    char *mongo_kind; /* embedded | mongod | url */
    bool shared_credentials;

    int inotify_fd, staging_fd, work_fd, runs_fd;
    struct map watches; /* "wd" -> struct watch */
    struct map helpers; /* helper.c */
    struct map purges;  /* purge.c */
    struct age age;     /* what retention goes by */
    struct event *retention_ev;
    size_t retention_next; /* tenant that is looked at next */
    struct event *inotify_ev, *rescan_ev, *walk_ev, *claim_ev, *disk_ev, *dispatch_ev;
    bool disk_low, rescan_wanted;
    size_t n_candidates;
    int64_t overflow_logged_ms;
    LIST_HEAD(laters, later) laters; /* of intake */

    struct inspector *inspectors;
    size_t n_inspectors, n_lanes;
    struct event *inspect_ev;

    struct spawner *spawner;
    struct outside *outside;
    struct images *images;
    struct event *sweep_ev; /* of them */
    char *databases_told;   /* what state/databases.json says; NULL: not written yet */

    struct map uploads;

    bool draining, quit, supervised;
    int64_t started_wall_ms;
};

struct tenant *tenant_get(struct batchmgr *m, const char *id); /* made when new */
const struct conf_tenant *tenant_conf(struct batchmgr *m, const struct tenant *t);
bool tenant_accepts(const struct tenant *t); /* configured, not suspended, not being removed */
int64_t tenant_weight(struct batchmgr *m, const struct tenant *t);

/* What the tenant uses of the dataset; made when new. */
struct usage *tenant_usage(struct tenant *t, const char *dataset);
/* A file begins (1) or ends (-1) to count as unfinished. */
void tenant_count_live(struct batchmgr *m, const struct file *f, int by);

/* Logs old -> new and checks that the move is one the state machine has. */
void file_set_state(struct file *f, enum file_state next);

/* All of a reload's or start's effects; the configuration was checked before (TAKE). */
int batchmgr_apply_conf(struct batchmgr *m, struct conf *next, struct err *e);
int batchmgr_reload(struct batchmgr *m, struct err *e);
void batchmgr_check_quit(struct batchmgr *m);
/* Whether the tenant's runs may start is another thing than it was: suspended, resumed, its database. */
void batchmgr_let_tenant(struct batchmgr *m, struct tenant *t);
/* What `verify --accept --tenant` says. ERR_REFUSED: nothing is wrong with its database. */
int batchmgr_accept_database(struct batchmgr *m, const char *tenant, struct err *e);
/* Runs dispatch once more at the end of this loop turn. */
void batchmgr_kick(struct batchmgr *m);

/* One-shot timer on a file, replacing an older one. */
void file_timer(struct batchmgr *m, struct file *f, int64_t ms, void (*fn)(evutil_socket_t, short, void *));
void file_timer_stop(struct file *f);
struct batchmgr *batchmgr_the(void); /* for timers whose argument is the file */

#endif
