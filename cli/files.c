#include "cli.h"

#include <string.h>

static const struct col cols[] = {
    {"file_id", COL_TEXT, true},        {"tenant_id", COL_TEXT, true},      {"dataset", COL_TEXT, true},
    {"file_name", COL_TEXT, true},      {"size_bytes", COL_COUNT, true},    {"content_hash", COL_TEXT, false},
    {"state", COL_TEXT, true},          {"reason", COL_TEXT, false},         {"detail", COL_TEXT, false},
    {"attempts", COL_COUNT, true},      {"rows_parsed", COL_COUNT, false},  {"rows_loaded", COL_COUNT, true},
    {"rows_rejected", COL_COUNT, true}, {"rows_repaired", COL_COUNT, true}, {"quality", COL_JSON, false},
    {"received_at", COL_TIME, true},    {"started_at", COL_TIME, false},    {"ended_at", COL_TIME, false},
    {"run_id", COL_TEXT, false},      {"why", COL_WORDS, true},
};

static const char select_sql[] =
    "SELECT file_id, tenant, dataset, name, size, hash, state, reason, detail, attempts, rows_parsed, rows_loaded, rows_rejected, "
    "rows_repaired, "
    "COALESCE((SELECT q.quality FROM quality q WHERE q.file_id=files.file_id), quality), received_at, started_at, ended_at, "
    "run_id, "
    "words(state, reason, detail, rows_loaded, rows_rejected) "
    "FROM files";

/* The partial indexes of the ledger are found by their own words. */
static const char *index_of(const char *option, const char *value)
{
    static const char *const live[] = {"received", "queued", "running", "waiting"};
    static const char *const failed[] = {"rejected", "duplicate", "vanished", "quarantined"};
    for (size_t i = 0; !strcmp(option, "--state") && i < 4; i++) {
        if (!strcmp(value, live[i]))
            return "(state IN('received','queued','running','waiting') OR place='work')";
        if (!strcmp(value, failed[i]))
            return "state IN('rejected','duplicate','vanished','quarantined')";
    }
    return NULL;
}

int verb_files(struct cli *c)
{
    static const char *const states[] = {"received", "queued",    "running",  "waiting",     "ingested",
                                         "rejected", "duplicate", "vanished", "quarantined", NULL};
    static const struct listing l = {
        .select = select_sql,
        .id = "file_id",
        .since = "received_at",
        .filters = {{"--tenant", "tenant=?"}, {"--dataset", "dataset=?"}, {"--state", "state=?"}},
        .states = states,
        .what = "files",
        .extra = index_of,
    };
    return cli_listing(c, &l, cols, sizeof cols / sizeof *cols);
}
