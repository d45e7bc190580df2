#include "cli.h"
#include "listing.h"

#include <string.h>

static const struct col cols[] = {
    {"run_id", COL_ID, 1},       {"tenant_id", COL_TEXT, 2},      {"app", COL_TEXT, 1},      {"kind", COL_TEXT, 0},
    {"instance_id", COL_ID, 0},  {"attempt", COL_COUNT, 8},       {"state", COL_TEXT, 3},    {"outcome", COL_TEXT, 1},
    {"exit_code", COL_COUNT, 5}, {"signal", COL_COUNT, 5},        {"limit", COL_TEXT, 5},    {"forced", COL_BOOL, 0},
    {"error", COL_LONG, 2},      {"started_at", COL_TIME, 4},     {"ended_at", COL_TIME, 0}, {"wall_s", COL_NUMBER, 6},
    {"cpu_s", COL_NUMBER, 0},    {"max_rss_bytes", COL_COUNT, 0}, {"node", COL_TEXT, 0},     {"network_refused", COL_COUNT, 9},
};

/* Figures of a run are unknown until it ended. */
static const char select_sql[] =
    "SELECT * FROM (SELECT run_id, tenant, app, CASE step WHEN 'check' THEN 'check' ELSE 'batch' END AS kind, run_id AS "
    "instance_id, attempt, "
    "state, outcome, exit_code, signal, lim, CASE WHEN state='ended' THEN forced END, error, started_at, ended_at, "
    "CASE WHEN state='ended' THEN wall_s END, CASE WHEN state='ended' THEN cpu_s END, max_rss, node, network_refused FROM runs "
    "UNION ALL "
    "SELECT run_id, tenant, app, 'stream', run_id, attempt, state, outcome, exit_code, signal, lim, CASE WHEN state='ended' THEN "
    "forced END, "
    "error, started_at, ended_at, CASE WHEN state='ended' THEN wall_s END, CASE WHEN state='ended' THEN cpu_s END, max_rss, node, "
    "network_refused FROM streams.instances)";

static const char *index_of(const char *option, const char *value)
{
    return !strcmp(option, "--state") && strcmp(value, "ended") != 0 ? "state<>'ended'" : NULL;
}

int verb_runs(struct cli *c)
{
    static const char *const states[] = {"starting", "running", "ended", NULL};
    /* The runs of a file are those that began with it, and the run of the group that it was in last. */
    static const struct listing l = {
        .select = select_sql,
        .id = "run_id",
        .since = "started_at",
        .filters = {{"--tenant", "tenant=?"},
                    {"--file", "run_id IN(WITH w(id) AS (SELECT ?) SELECT r.run_id FROM runs r, w WHERE r.file_id=w.id UNION "
                               "SELECT f.run_id FROM files f, w WHERE f.file_id=w.id)"},
                    {"--state", "state=?"}},
        .states = states,
        .what = "runs",
        .extra = index_of,
    };
    return cli_listing(c, &l, cols, sizeof cols / sizeof *cols);
}
