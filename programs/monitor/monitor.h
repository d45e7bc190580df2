/* The inside of the monitor. One thread, one loop; nothing in it waits.
 *
 * Reports come in over ZeroMQ (inbox.c) and are summed up by app (windows.c). Once a second the broker says how its queues stand,
 * streammgr which instances run, batchmgr what it does (follow.c); then it is decided how many instances each app should have
 * (scaling_law.c, orders.c), the board is made anew (board.c), and alerts are looked at (alerts.c). */
#ifndef SIMBDP_MONITOR_MONITOR_H
#define SIMBDP_MONITOR_MONITOR_H

#include "past.h"
#include "scaling_law.h"
#include "report.h"
#include "windows.h"

#include "base/trend.h"
#include "base/json.h"
#include "base/map.h"
#include "conf/conf.h"
#include "conf/expr.h"
#include "front/keeper.h"
#include "front/znet.h"
#include "host/home.h"
#include "loop/ctl.h"

#include <event2/event.h>

struct monitor;
struct peer;

enum app_state { APP_OK, APP_WARN, APP_STALLED, APP_STOPPED };

/* How an alert stands for an app. */
struct alarm {
    int64_t since_ms; /* its condition holds since then; 0: it does not */
    bool firing;
};

/* A stream app. */
struct app {
    char *tenant, *name, *stream;       /* stream: empty: none of ours */
    const struct conf_stream_app *conf; /* of the configuration in force */
    struct windows window;
    size_t n_silent;

    /* As the broker said at queue_ms; 0: it did not. */
    int64_t queue_ms;
    bool consumes; /* somebody is there to take messages */
    double ready, leased, oldest_age_s, dead, in_per_s, acked_per_s;
    int64_t n_partitions;                /* of a stream that several homes share; 0: it is not shared */
    uint64_t mine;                       /* bits: those that this home serves */
    double published, acked;             /* counters; NaN: unknown */
    double ingress_per_s, settled_per_s; /* between the last two answers; NaN: unknown */
    int64_t settled_ms;                  /* when something was settled last, or nothing waited */

    /* As streammgr said at managed_ms; 0: it did not. */
    int64_t managed_ms;
    char *managed_state, *why; /* why: of its state, or NULL */
    int64_t instances, running, desired, by_hand, restarts, order_seq;
    bool pinned, blocked; /* blocked: for `why` it cannot run now, however many are wanted */
    struct map run_ids;   /* value: the app itself */

    struct scale_memory memory;
    int64_t wanted;  /* as it was decided, or as it stays */
    char *reason;    /* NULL: it was not looked at yet */
    int64_t ordered; /* and not followed yet; -1: nothing is */
    int64_t decided_wall_ms, recorded;
    char *recorded_reason;
    char *refusal; /* of the last order, or NULL */

    enum app_state state;
    char state_why[160];  /* empty: it is OK */
    struct alarm *alarms; /* one for each of monitor.alerts */
    size_t n_firing;
    int64_t shown_ms;
    struct trend trends[METRIC_N_TRENDS];
};

/* A batch app: of its runs is known what they report. */
struct batch_app {
    char *tenant, *name;
    struct windows window;
};

struct mtenant {
    char *id;
    int64_t uid;
    double allowed_per_s, tokens; /* reports */
    int64_t filled_ms;
    uint64_t n_taken, n_refused[REPORT_N_REFUSALS];
    int64_t told_ms[REPORT_N_REFUSALS];
    char *last_refusal;
    int64_t flood_ms;
    int n_dropped; /* reports, since then */
    /* Its files, as batchmgr said at files_ms; 0: it did not. */
    int64_t files_ms;
    double arrived, settled; /* counters */
    struct trend trends[METRIC_N_TRENDS];
};

struct alert {
    char *name, *when, *runbook_url; /* runbook_url NULL: none */
    int64_t for_ms;
    int64_t index; /* in the configuration's list, as the keeper counts; -1: it is not there */
    uint64_t generation;
    struct expr *x;
};

struct monitor {
    struct event_base *base;
    struct home home;
    struct keeper *keeper, *textfile; /* textfile: writes the file of figures (textfile.c) */
    struct keeper *otlp;              /* exports for OpenTelemetry (export.c) */
    struct conf *conf;                /* what the keeper tells of it */
    struct znet net;
    struct map apps;         /* "tenant/app" -> struct app */
    struct map batch_apps;   /* likewise struct batch_app */
    struct map tenants;      /* struct mtenant; never removed */
    struct mtenant stranger; /* of reports whose sender nobody knows */
    struct znet_looks looks; /* into the ledger, for connections of uids that were not known */
    unsigned tenants_read;   /* how often: who a connection is, is looked up anew then */
    struct peer *broker, *streammgr, *batchmgr;
    bool broker_asked, streammgr_asked, batchmgr_asked; /* and not answered yet */
    int64_t broker_ms, streammgr_ms, batchmgr_ms;       /* they answered last; 0: they did not, or are gone */
    bool wants_alive;                                   /* a webhook is called as long as all is well */
    int64_t epoch;                                      /* of streammgr; 0: not known */
    bson_t *batch;                                      /* batchmgr's status, or NULL */
    struct past *past;
    struct alert *alerts;
    size_t n_alerts;
    struct ctl *ctl;
    struct event *tick_ev;
    int64_t started_wall_ms, started_ms, now_ms, wall_ms, judged_ms, dashboard_ms, textfile_ms;
    bool textfile_asked, export_asked, export_off; /* export_off: nothing of it is configured */
    bson_t *exported;                              /* what became of it; NULL: nobody knows */
    char *textfile_error;                          /* of the last writing; NULL: it went well */
    int64_t last_order_seq;
    uint64_t n_reports, n_refused;
};

/* main.c */
void monitor_look_at_clocks(struct monitor *m);
void monitor_judge(struct monitor *m); /* everything that is known was renewed: decide, show, alert */
int monitor_reload(struct monitor *m, struct err *e);
struct app *monitor_app(struct monitor *m, const char *tenant, const char *name);             /* NULL: none is configured */
struct batch_app *monitor_batch_app(struct monitor *m, const char *tenant, const char *name); /* likewise */

/* inbox.c */
int inbox_start(struct monitor *m, struct err *e);
void inbox_stop(struct monitor *m);
void inbox_read_tenants(struct monitor *m); /* the ledger's uids, and the configuration's allowances */

/* follow.c: what other programs say */
void follow_start(struct monitor *m);
void follow_stop(struct monitor *m);
void follow_ask(struct monitor *m);
bool follow_is_fresh(const struct monitor *m, int64_t told_ms); /* said lately */

/* orders.c */
void orders_decide(struct monitor *m, struct app *a);
void orders_answered(struct monitor *m, const bson_t *answer);
void orders_lost(struct monitor *m); /* streammgr is gone */

/* board.c */
void board_row(const struct monitor *m, const struct app *a, struct metric_row *ret);
void board_judge(struct monitor *m, struct app *a, const struct metric_row *row); /* sets its state */
bool board_is_issue(const struct app *a);                                         /* somebody should look at it */
void board_add(const struct monitor *m, const struct app *a, struct buf *out);
void board_add_batch(const struct monitor *m, const struct batch_app *a, struct buf *out); /* nothing, when none of it reports */
void board_log(struct monitor *m); /* what `tail -f logs/monitor.log` shows */
const char *board_state_name(enum app_state s);

/* history.c: the last minutes */
void history_take_app(const struct monitor *m, struct app *a, const struct metric_row *row);
void history_take_batch(struct monitor *m);                                     /* what batchmgr just said */
void history_add(const struct monitor *m, const char *tenant, struct buf *out); /* the members of `history` (control.c) */

/* figures.c: the board for Prometheus (base/prom.h). Returns how many series there was no room for. */
size_t figures_write(const struct monitor *m, struct buf *out, bool open_metrics);

/* textfile.c */
void textfile_write(struct monitor *m); /* when it is time */

/* export.c */
struct prom;
void export_ask(struct monitor *m); /* to go on */
void export_forget(struct monitor *m);
void export_status(const struct monitor *m, struct buf *out); /* a field `otlp`, where anything is exported */
void export_figures(const struct monitor *m, struct prom *p);

/* alerts.c */
int alerts_set(struct monitor *m, struct err *e); /* from the configuration; what fires goes on if its alert stays */
void alerts_look(struct monitor *m, struct app *a, const struct metric_row *row);
void alerts_app_gone(struct monitor *m, struct app *a);    /* it is not configured any more: what fires for it is over */
void alerts_alive(struct monitor *m);                      /* for the dead man's switch, if all is well */
void alerts_add(const struct monitor *m, struct buf *out); /* `alerts` of the board: where it says what to do about each */
void alerts_free(struct monitor *m);

/* control.c */
int control_start(struct monitor *m, struct err *e);
void control_stop(struct monitor *m);

#endif
