#include "cli.h"
#include "listing.h"

#include <string.h>

static const struct col cols[] = {
    {"file_id", COL_ID, 1},          {"tenant_id", COL_TEXT, 2},      {"dataset", COL_TEXT, 5},      {"file_name", COL_LONG, 1},
    {"size_bytes", COL_COUNT, 7},    {"content_hash", COL_TEXT, 0},   {"state", COL_TEXT, 1},        {"reason", COL_TEXT, 0},
    {"detail", COL_TEXT, 0},         {"attempts", COL_COUNT, 8},      {"rows_parsed", COL_COUNT, 0}, {"rows_loaded", COL_COUNT, 6},
    {"rows_rejected", COL_COUNT, 6}, {"rows_repaired", COL_COUNT, 7}, {"quality", COL_JSON, 0},      {"received_at", COL_TIME, 4},
    {"started_at", COL_TIME, 0},     {"ended_at", COL_TIME, 0},       {"run_id", COL_ID, 0},         {"why", COL_WORDS, 1},
};

static const char select_sql[] =
    "SELECT file_id, tenant, dataset, name, size, hash, state, reason, detail, attempts, rows_parsed, rows_loaded, rows_rejected, "
    "rows_repaired, "
    "COALESCE((SELECT q.quality FROM quality q WHERE q.file_id=files.file_id), quality), received_at, started_at, ended_at, "
    "run_id, "
    "words(state, reason, detail, rows_loaded, rows_rejected) "
    "FROM files";

/* SQLite only uses a partial index when the statement repeats the index's condition word for word. */
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
