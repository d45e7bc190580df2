#include "records.h"

#include <string.h>

static const struct col file_cols[] = {
    {"file_id", COL_ID, 1},          {"tenant_id", COL_TEXT, 2},      {"dataset", COL_TEXT, 5},      {"file_name", COL_LONG, 1},
    {"size_bytes", COL_COUNT, 7},    {"content_hash", COL_TEXT, 0},   {"state", COL_TEXT, 1},        {"reason", COL_TEXT, 0},
    {"detail", COL_TEXT, 0},         {"attempts", COL_COUNT, 8},      {"rows_parsed", COL_COUNT, 0}, {"rows_loaded", COL_COUNT, 6},
    {"rows_rejected", COL_COUNT, 6}, {"rows_repaired", COL_COUNT, 7}, {"quality", COL_JSON, 0},      {"received_at", COL_TIME, 4},
    {"started_at", COL_TIME, 0},     {"ended_at", COL_TIME, 0},       {"run_id", COL_ID, 0},         {"why", COL_WORDS, 1},
};

static const char *const file_states[] = {"received", "queued",    "running",  "waiting",     "ingested",
                                          "rejected", "duplicate", "vanished", "quarantined", NULL};

/* What an inspector found of a tenant's file lies in `quality`: it is shown as it is only if it is JSON. */
const struct records records_files = {
    .cols = file_cols,
    .n_cols = sizeof file_cols / sizeof *file_cols,
    .select = "SELECT file_id, tenant, dataset, name, size, hash, state, reason, detail, attempts, rows_parsed, rows_loaded, "
              "rows_rejected, rows_repaired, "
              "COALESCE((SELECT CASE WHEN json_valid(q.quality) THEN q.quality END FROM quality q WHERE q.file_id=files.file_id), "
              "CASE WHEN json_valid(quality) THEN quality END), "
              "received_at, started_at, ended_at, run_id, words(state, reason, detail, rows_loaded, rows_rejected) FROM files",
    .id = "file_id",
    .since = "received_at",
    .what = "files",
    .states = file_states,
};

static const struct col run_cols[] = {
    {"run_id", COL_ID, 1},       {"tenant_id", COL_TEXT, 2},      {"app", COL_TEXT, 1},      {"kind", COL_TEXT, 0},
    {"instance_id", COL_ID, 0},  {"attempt", COL_COUNT, 8},       {"state", COL_TEXT, 3},    {"outcome", COL_TEXT, 1},
    {"exit_code", COL_COUNT, 5}, {"signal", COL_COUNT, 5},        {"limit", COL_TEXT, 5},    {"forced", COL_BOOL, 0},
    {"error", COL_LONG, 2},      {"started_at", COL_TIME, 4},     {"ended_at", COL_TIME, 0}, {"wall_s", COL_NUMBER, 6},
    {"cpu_s", COL_NUMBER, 0},    {"max_rss_bytes", COL_COUNT, 0}, {"node", COL_TEXT, 0},     {"network_refused", COL_COUNT, 9},
};

static const char *const run_states[] = {"starting", "running", "draining", "ended", NULL};

/* Figures of a run are unknown until it ended. */
const struct records records_runs = {
    .cols = run_cols,
    .n_cols = sizeof run_cols / sizeof *run_cols,
    .select =
        "SELECT * FROM (SELECT run_id, tenant, app, CASE step WHEN 'check' THEN 'check' ELSE 'batch' END AS kind, run_id AS "
        "instance_id, attempt, state, outcome, exit_code, signal, lim, CASE WHEN state='ended' THEN forced END, error, "
        "started_at, ended_at, CASE WHEN state='ended' THEN wall_s END, CASE WHEN state='ended' THEN cpu_s END, max_rss, node, "
        "network_refused FROM runs UNION ALL "
        "SELECT run_id, tenant, app, 'stream', run_id, attempt, state, outcome, exit_code, signal, lim, CASE WHEN "
        "state='ended' THEN forced END, error, started_at, ended_at, CASE WHEN state='ended' THEN wall_s END, CASE WHEN "
        "state='ended' THEN cpu_s END, max_rss, node, network_refused FROM streams.instances)",
    .id = "run_id",
    .since = "started_at",
    .what = "runs",
    .states = run_states,
};

bool records_have_state(const struct records *r, const char *state)
{
    for (const char *const *s = r->states; *s; s++)
        if (!strcmp(*s, state))
            return true;
    return false;
}

/* SQLite only uses a partial index when the statement repeats the index's condition word for word
 * (programs/batchmgr/ledger_schema.c). */
const char *records_index_of(const struct records *r, const char *state)
{
    static const char *const live[] = {"received", "queued", "running", "waiting"};
    static const char *const failed[] = {"rejected", "duplicate", "vanished", "quarantined"};
    if (r == &records_runs)
        return strcmp(state, "ended") != 0 ? "state<>'ended'" : NULL;
    for (size_t i = 0; i < sizeof live / sizeof *live; i++) {
        if (!strcmp(state, live[i]))
            return "(state IN('received','queued','running','waiting') OR place='work')";
        if (!strcmp(state, failed[i]))
            return "state IN('rejected','duplicate','vanished','quarantined')";
    }
    return NULL;
}
