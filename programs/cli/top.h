/* The inside of `mysimbdp top`: what is known (top_board.c), as lines of text (top_lines.c, top_detail.c), on a screen
 * (top_screen.c). */
#ifndef SIMBDP_CLI_TOP_H
#define SIMBDP_CLI_TOP_H

#include "base/buf.h"
#include "base/trend.h"
#include "base/json.h"
#include "base/map.h"
#include "conf/conf.h"
#include "conf/metric.h"
#include "host/home.h"

struct cli;

struct top_row {
    const char *tenant, *app, *state, *why, *reason; /* in the board */
    double v[N_METRICS];
    int64_t decision;
};

struct top_board {
    enum metric sort;
    bool reversed, issues;
    bson_t *doc; /* the monitor's answer; NULL: there was none yet */
    struct top_row *rows;
    size_t n;
    struct map curves; /* "tenant/app", of files "tenant/" -> struct trend[METRIC_N_TRENDS]; of what is on the board alone */
};

/* ---- top_board.c ---- */

/* A request to the monitor; tenant NULL: about all. */
void top_add_request(struct buf *out, const char *op, const char *tenant);
/* TAKE doc. */
void top_board_take(struct top_board *v, bson_t *doc);
/* What the monitor knows of the last minutes; what is known already stays when the monitor began anew. */
void top_board_take_history(struct top_board *v, const bson_t *doc);
void top_board_arrange(struct top_board *v); /* rows anew, as they are to be sorted and filtered */
void top_board_fini(struct top_board *v);
bool top_is_issue(const char *state);
/* NULL: nothing is known. app "": of the tenant's files. */
const struct trend *top_curves(const struct top_board *v, const char *tenant, const char *app);

/* ---- top_lines.c ---- */

/* How lines are laid out: for a width (0: no terminal), on the live screen with a mark in front and curves. */
struct top_layout {
    size_t room, name, curve; /* columns: in all, of the name, of each curve (0: none) */
    int rank;                 /* the highest of the columns that are shown */
    bool live, blocks;        /* blocks: curves are of block elements, else of ASCII */
    int64_t now_ms;
};
void top_layout_init(struct top_layout *l, size_t room, bool live, bool blocks);
void top_add_header(struct buf *out, const struct top_layout *l);
/* An app in one line or more. */
void top_add_row(struct buf *out, const struct top_board *v, const struct top_row *r, const struct top_layout *l, bool selected);
/* What stands below the apps: files, batch apps, refused reports. False: nothing. */
bool top_add_below(struct buf *out, const struct top_board *v, const struct top_layout *l);
bool top_is_header(const char *line);
/* A number in `width` columns if it can be. */
void top_add_number(struct buf *out, double value, int width, const char *format);

/* ---- top_detail.c: one app ---- */

struct top_detail {
    const struct home *h;
    char *tenant, *app;
    struct conf *conf;           /* NULL: it has errors */
    bson_t *instances, *reports; /* streammgr's and the monitor's answers; NULL: none yet */
    char *instances_why;         /* why there is none; NULL: there is */
    struct map uses;             /* run_id -> struct use: what an instance used when it was looked at */
    struct buf decisions;        /* the last lines of the record that are the app's */
    int64_t decisions_size, decisions_ms;
    struct cgroup_host *cgroups; /* NULL: not looked for yet */
    size_t scrolled;
};

struct top_detail *top_detail_new(const struct home *h, const char *tenant, const char *app);
void top_detail_free(struct top_detail *d);
/* Requests to streammgr and to the monitor. */
void top_detail_requests(const struct top_detail *d, struct buf *of_streammgr, struct buf *of_monitor);
/* TAKE doc. why: why there is none. */
void top_detail_take_instances(struct top_detail *d, bson_t *doc, const char *why);
void top_detail_take_reports(struct top_detail *d, bson_t *doc); /* TAKE doc */
/* Lines of at most l->room columns; each begins with its kind. height: of the terminal. */
enum { TOP_PLAIN = ' ', TOP_HEADING = '#', TOP_STATE = '!' };
void top_detail_add(struct buf *out, struct top_detail *d, const struct top_board *v, const struct top_layout *l, size_t height);

/* ---- top_screen.c ---- */

/* Until the user leaves. CLI_… */
int top_live(struct cli *c, const struct home *h, struct top_board *v, const char *tenant);
/* Prints it once. */
void top_print(struct top_board *v);

#endif
