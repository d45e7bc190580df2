#include "cli.h"

static const struct col cols[] = {
    {"file_id", COL_TEXT, true},        {"tenant_id", COL_TEXT, true},     {"dataset", COL_TEXT, true},
    {"file_name", COL_TEXT, true},      {"size_bytes", COL_COUNT, true},   {"content_hash", COL_TEXT, false},
    {"state", COL_TEXT, true},          {"reason", COL_TEXT, true},        {"detail", COL_TEXT, false},
    {"attempts", COL_COUNT, true},      {"rows_parsed", COL_COUNT, false}, {"rows_loaded", COL_COUNT, true},
    {"rows_rejected", COL_COUNT, true}, {"quality", COL_JSON, false},      {"received_at", COL_TIME, true},
    {"started_at", COL_TIME, false},    {"ended_at", COL_TIME, false},     {"run_id", COL_TEXT, false},
};

static const char sql[] =
    "SELECT * FROM (SELECT file_id, tenant, dataset, name, size, hash, state, reason, detail, attempts, rows_parsed, "
    "rows_loaded, rows_rejected, COALESCE((SELECT q.quality FROM quality q WHERE q.file_id=files.file_id), quality), received_at, "
    "started_at, ended_at, run_id FROM files WHERE (?1 IS NULL OR "
    "file_id=?1) AND (?2 IS NULL OR tenant=?2) AND (?3 IS NULL OR dataset=?3) AND (?4 IS NULL OR state=?4) AND "
    "received_at>=?5 ORDER BY file_id DESC LIMIT ?6) ORDER BY file_id";

int verb_files(struct cli *c)
{
    static const char *const filters[] = {"--tenant", "--dataset", "--state"};
    return cli_listing(c, sql, cols, sizeof cols / sizeof *cols, filters);
}
