/* A tenant's runs: of batch apps, from the ledger, and of stream apps, from streammgr's book. */
#include "parts.h"

enum { MAX_APP = 255 };

#define WANTED "(:app IS NULL OR app=:app) AND (:state IS NULL OR state=:state)"
#define ARM(table, of, scope, more)                                                                                                \
    "SELECT run_id, " WANTED " AND " scope ", started_at FROM " table " WHERE " of "tenant=:tenant AND " more

/* Both arms of a union come in order, by an index each, and are merged. The plus keeps SQLite from the index by tenant where there
 * is a better one: few runs are going, or are of one file. */
static const char *statement_for(const char *file_id, const char *state)
{
#define BY_TIME "started_at>=:since AND (started_at,run_id)<(:at,:cursor)"
#define BY_ID   "+started_at>=:since AND run_id<:cursor"
    static const char by_time[] = ARM("runs", "", RUN_IN_SCOPE, BY_TIME) " UNION ALL " ARM(
        "streams.instances", "", ":scope IS NULL", BY_TIME) " ORDER BY 3 DESC, 1 DESC";
    static const char live[] = ARM("runs", "+", RUN_IN_SCOPE, "state<>'ended' AND " BY_ID) " UNION ALL " ARM(
        "streams.instances", "+", ":scope IS NULL", "state<>'ended' AND " BY_ID) " ORDER BY 1 DESC";
    static const char of_file[] =
        ARM("runs", "+", "1", RECORDS_RUNS_OF_FILE(":file") " AND +run_id<:cursor AND +started_at>=:since") " ORDER BY 1 DESC";
    return file_id ? of_file : state && records_index_of(&records_runs, state) ? live : by_time;
}

int ask_runs(struct asking *a)
{
    AUTO_PAGE struct page p = {0};
    const char *app, *state = NULL, *file_id = NULL;
    int r = param_text(a, "app", MAX_APP, &app);
    if (r == 0)
        r = param_state(a, &records_runs, &state);
    if (r == 0)
        r = param_id(a, "file_id", &file_id);
    if (r == 0 && file_id)
        r = file_is_seen(a, file_id, NULL);
    if (r == 0)
        r = page_of_params(a, &records_runs, &p);
    AUTO_STATEMENT sqlite3_stmt *s = r == 0 ? prepare(a, statement_for(file_id, state)) : NULL;
    if (!s)
        return ERR_REFUSED;
    bind_text(s, ":app", app);
    bind_text(s, ":state", state);
    bind_text(s, ":file", file_id);
    r = page_pick(a, s, &p);
    return r < 0 ? r : page_show(a, &records_runs, &p);
}

int run_is_seen(struct asking *a, const char *run_id, bool *ret_ended, bool *ret_pruned)
{
    static const char sql[] =
        "SELECT state='ended', pruned FROM runs WHERE run_id=:id AND tenant=:tenant AND " RUN_IN_SCOPE
        " UNION ALL SELECT state='ended', pruned FROM streams.instances WHERE run_id=:id AND tenant=:tenant AND "
        ":scope IS NULL";
    AUTO_STATEMENT sqlite3_stmt *s = run_id ? prepare(a, sql) : NULL;
    if (!run_id)
        return refuse(a, 400, "parameter", "run_id: is missing");
    if (!s)
        return ERR_REFUSED;
    bind_text(s, ":id", run_id);
    int r = sqlite3_step(s);
    if (r != SQLITE_ROW)
        return r == SQLITE_DONE ? refuse_not_found(a) : refuse_for_db(a);
    *ret_ended = sqlite3_column_int(s, 0) != 0;
    *ret_pruned = sqlite3_column_int(s, 1) != 0;
    return 0;
}

int ask_run(struct asking *a)
{
    bool ended, pruned;
    const char *id;
    int r = param_id(a, "run_id", &id);
    if (r == 0)
        r = run_is_seen(a, id, &ended, &pruned);
    AUTO_STATEMENT sqlite3_stmt *s = r == 0 ? prepare_record(a, &records_runs) : NULL;
    if (!s)
        return ERR_REFUSED;
    r = show_record(a, &records_runs, id, NULL, s);
    json_end(&a->out->body, '}');
    return r < 0 ? r : 0;
}
