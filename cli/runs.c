#include "cli.h"

static const struct col cols[] = {
    {"run_id", COL_TEXT, true},   {"tenant_id", COL_TEXT, true},    {"app", COL_TEXT, true},
    {"kind", COL_TEXT, false},    {"instance_id", COL_TEXT, false}, {"attempt", COL_COUNT, true},
    {"state", COL_TEXT, true},    {"outcome", COL_TEXT, true},      {"exit_code", COL_COUNT, true},
    {"signal", COL_COUNT, true},  {"limit", COL_TEXT, true},        {"forced", COL_BOOL, false},
    {"error", COL_TEXT, true},    {"started_at", COL_TIME, true},   {"ended_at", COL_TIME, false},
    {"wall_s", COL_NUMBER, true}, {"cpu_s", COL_NUMBER, false},     {"max_rss_bytes", COL_COUNT, false},
    {"node", COL_TEXT, false},
};

/* Figures of a run are unknown until it ended. */
static const char sql[] =
    "SELECT * FROM (SELECT run_id, tenant, app, CASE step WHEN 'check' THEN 'check' ELSE 'batch' END, run_id, attempt, state, "
    "outcome, exit_code, signal, lim, "
    "CASE WHEN state='ended' THEN forced END, error, started_at, ended_at, CASE WHEN state='ended' THEN wall_s END, "
    "CASE WHEN state='ended' THEN cpu_s END, max_rss, node FROM runs WHERE (?1 IS NULL OR run_id=?1) AND (?2 IS NULL OR "
    "tenant=?2) AND (?3 IS NULL OR file_id=?3 OR run_id=(SELECT f.run_id FROM files f WHERE f.file_id=?3)) AND (?4 IS NULL OR "
    "state=?4) AND started_at>=?5 ORDER BY run_id DESC "
    "LIMIT ?6) ORDER BY run_id";

int verb_runs(struct cli *c)
{
    static const char *const filters[] = {"--tenant", "--file", "--state"};
    return cli_listing(c, sql, cols, sizeof cols / sizeof *cols, filters);
}
