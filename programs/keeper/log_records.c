#include "log_records.h"
#include "otlp_json.h"

#include "base/json.h"
#include "host/trace_ids.h"
#include "query/ledger_view.h"

#include <string.h>

enum { LOCK_MS = 50 };

/* Numbers of the log data model's severities. */
static const struct {
    const char *level, *text;
    int number;
} severities[] = {{"debug", "DEBUG", 5}, {"info", "INFO", 9}, {"warn", "WARN", 13}, {"error", "ERROR", 17}};

/* False: the ledger does not know the run, or its sender does not record the trace. */
static bool find_trace(struct log_records *l, const char *run_id, struct trace_context *ret)
{
    static const char sql[] = "SELECT r.file_id, r.step, r.n_files, f.trace FROM runs AS r LEFT JOIN files AS f ON f.file_id = "
                              "r.file_id WHERE r.run_id = ?1";
    if (!l->tried && ledger_view_open(l->home, LOCK_MS, &l->db, NULL) == 0)
        sqlite3_prepare_v2(l->db, sql, -1, &l->of_run, NULL);
    l->tried = true;
    if (!l->of_run)
        return false;
    sqlite3_bind_text(l->of_run, 1, run_id, -1, SQLITE_STATIC);
    bool found = sqlite3_step(l->of_run) == SQLITE_ROW;
    if (found) {
        const char *file_id = (const char *)sqlite3_column_text(l->of_run, 0),
                   *step = (const char *)sqlite3_column_text(l->of_run, 1);
        bool several = sqlite3_column_int64(l->of_run, 2) > 1;
        trace_of_step(several ? NULL : (const char *)sqlite3_column_text(l->of_run, 3), several || !file_id ? run_id : file_id,
                      step && strcmp(step, "app") != 0 ? step : "run", run_id, ret);
    }
    sqlite3_reset(l->of_run);
    return found && ret->sampled;
}

void log_record_of_line(struct log_records *l, const bson_t *line, int64_t ts_ms, struct buf *out)
{
    const char *level = json_get_str(line, "level", ""), *run_id = json_get_str(line, "run", NULL);
    struct trace_context c;
    json_begin(out, NULL, '{');
    otlp_nanos(out, "timeUnixNano", ts_ms);
    otlp_nanos(out, "observedTimeUnixNano", ts_ms);
    for (size_t i = 0; i < sizeof severities / sizeof *severities; i++)
        if (!strcmp(level, severities[i].level)) {
            json_i64(out, "severityNumber", severities[i].number);
            json_str(out, "severityText", severities[i].text);
        }
    json_begin(out, "body", '{');
    json_str(out, "stringValue", json_get_str(line, "msg", ""));
    json_end(out, '}');
    json_str(out, "eventName", json_get_str(line, "event", ""));
    json_begin(out, "attributes", '[');
    otlp_str(out, "program", json_get_str(line, "program", NULL));
    otlp_str(out, "tenant_id", json_get_str(line, "tenant", NULL));
    otlp_str(out, "run_id", run_id);
    json_end(out, ']');
    if (run_id && find_trace(l, run_id, &c)) {
        json_str(out, "traceId", c.trace);
        json_str(out, "spanId", c.span);
        json_i64(out, "flags", 1); /* sampled */
    }
    json_end(out, '}');
}

void log_records_rest(struct log_records *l)
{
    sqlite3_finalize(l->of_run);
    sqlite3_close(l->db);
    l->of_run = NULL;
    l->db = NULL;
    l->tried = false;
}
