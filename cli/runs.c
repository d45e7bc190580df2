#include "cli.h"

#include <string.h>

static const struct col cols[] = {
    {"run_id", COL_TEXT, true},       {"tenant_id", COL_TEXT, true},
    {"app", COL_TEXT, true},          {"kind", COL_TEXT, false},
    {"instance_id", COL_TEXT, false}, {"attempt", COL_COUNT, true},
    {"state", COL_TEXT, true},        {"outcome", COL_TEXT, true},
    {"exit_code", COL_COUNT, true},   {"signal", COL_COUNT, true},
    {"limit", COL_TEXT, true},        {"forced", COL_BOOL, false},
    {"error", COL_TEXT, true},        {"started_at", COL_TIME, true},
    {"ended_at", COL_TIME, false},    {"wall_s", COL_NUMBER, true},
    {"cpu_s", COL_NUMBER, false},     {"max_rss_bytes", COL_COUNT, false},
    {"node", COL_TEXT, false},        {"network_refused", COL_COUNT, true},
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
    /* The runs of a file are those that began with it, and the group it was last in. */
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
