/* A tenant's files, and the story of one. */
#include "parts.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

enum { MAX_RUNS = 1000, MAX_DATASET = 255 };

#define WANTED "(:dataset IS NULL OR dataset=:dataset) AND (:state IS NULL OR state=:state) AND " IN_SCOPE("dataset")

/* The plus keeps SQLite from the index by tenant: there are few unfinished files, and they have an index of their own. */
static char *statement_for(const char *state)
{
    static const char by_time[] =
        "SELECT file_id, " WANTED ", received_at FROM files WHERE tenant=:tenant AND received_at>=:since AND "
        "(received_at,file_id)<(:at,:cursor) ORDER BY received_at DESC, file_id DESC";
    static const char by_state[] = "SELECT file_id, " WANTED " AND received_at>=:since, received_at FROM files WHERE %s AND %s AND "
                                   "file_id<:cursor ORDER BY file_id DESC";
    const char *index = state ? records_index_of(&records_files, state) : NULL;
    bool live = index && strstr(index, "place='work'");
    return !index ? xstrdup(by_time)
                  : xasprintf(by_state, index, live ? "+state=:state AND +tenant=:tenant" : "state=:state AND tenant=:tenant");
}

int ask_files(struct asking *a)
{
    AUTO_PAGE struct page p = {0};
    const char *dataset, *state = NULL;
    int r = param_text(a, "dataset", MAX_DATASET, &dataset);
    if (r == 0)
        r = param_state(a, &records_files, &state);
    if (r == 0)
        r = page_of_params(a, &records_files, &p);
    AUTO_FREE char *sql = statement_for(state);
    AUTO_STATEMENT sqlite3_stmt *s = r == 0 ? prepare(a, sql) : NULL;
    if (!s)
        return ERR_REFUSED;
    bind_text(s, ":dataset", dataset);
    bind_text(s, ":state", state);
    r = page_pick(a, s, &p);
    return r < 0 ? r : page_show(a, &records_files, &p);
}

int file_is_seen(struct asking *a, const char *file_id, char ret_run[ID_SIZE])
{
    static const char sql[] = "SELECT run_id FROM files WHERE file_id=:id AND tenant=:tenant AND " IN_SCOPE("dataset");
    AUTO_STATEMENT sqlite3_stmt *s = file_id ? prepare(a, sql) : NULL;
    if (!file_id)
        return refuse(a, 400, "parameter", "file_id: is missing");
    if (!s)
        return ERR_REFUSED;
    bind_text(s, ":id", file_id);
    int r = sqlite3_step(s);
    if (r != SQLITE_ROW)
        return r == SQLITE_DONE ? refuse_not_found(a) : refuse_for_db(a);
    const char *run = (const char *)sqlite3_column_text(s, 0);
    if (ret_run)
        snprintf(ret_run, ID_SIZE, "%s", run ? run : "");
    return 0;
}

/* ---- its story ---- */

/* Members that it has beside these are null. */
struct event {
    int64_t at_ms;
    const char *name, *run_id, *app, *step;
    int64_t attempt; /* -1: none */
    const char *outcome, *reason, *detail;
    int64_t until_ms;
};

static void tell(struct buf *b, const struct event *v)
{
    json_begin(b, NULL, '{');
    json_time(b, "at", v->at_ms);
    json_str(b, "event", v->name);
    json_str(b, "run_id", v->run_id);
    json_str(b, "app", v->app);
    json_str(b, "step", v->step);
    json_i64_or_null(b, "attempt", v->attempt);
    json_str(b, "outcome", v->outcome);
    json_str(b, "reason", v->reason);
    json_str(b, "detail", v->detail);
    json_time(b, "until", v->until_ms);
    json_end(b, '}');
}

static const char *text_at(sqlite3_stmt *s, int i)
{
    const char *text = (const char *)sqlite3_column_text(s, i);
    return text && *text ? text : NULL;
}

static void tell_run(struct buf *b, sqlite3_stmt *s)
{
    struct event v = {.at_ms = sqlite3_column_int64(s, 8),
                      .name = "started",
                      .run_id = text_at(s, 0),
                      .app = text_at(s, 1),
                      .step = text_at(s, 2),
                      .attempt = sqlite3_column_int64(s, 3)};
    tell(b, &v);
    if (sqlite3_column_int(s, 4) == 0)
        return;
    v.at_ms = sqlite3_column_int64(s, 9);
    v.name = "ended";
    v.outcome = text_at(s, 5);
    v.reason = text_at(s, 6);
    v.detail = text_at(s, 7);
    tell(b, &v);
}

/* What happened before its first run, as far as the ledger knows: of some it keeps that they were, and not when. */
static void tell_beginning(struct buf *b, sqlite3_stmt *file, bool ran)
{
    const char *state = text_at(file, 0);
    int64_t released_ms = sqlite3_column_int64(file, 5);
    bool queued = ran || released_ms > 0 || (state && (!strcmp(state, "queued") || !strcmp(state, "running")));
    tell(b, &(struct event){.at_ms = sqlite3_column_int64(file, 3), .name = "received", .attempt = -1});
    if (sqlite3_column_int(file, 8))
        tell(b, &(struct event){.name = "inspected", .attempt = -1});
    if (queued)
        tell(b, &(struct event){.name = "queued", .attempt = -1});
    if (released_ms > 0)
        tell(b, &(struct event){.at_ms = released_ms, .name = "released", .attempt = -1});
}

static void tell_end(struct buf *b, sqlite3_stmt *file)
{
    struct event v = {.attempt = -1, .reason = text_at(file, 1), .detail = text_at(file, 2)};
    const char *state = text_at(file, 0);
    if (state && !strcmp(state, "waiting")) {
        v.name = "waiting";
        v.until_ms = sqlite3_column_int64(file, 6);
        tell(b, &v);
    } else if (sqlite3_column_int(file, 9)) {
        v.name = "verdict";
        v.at_ms = sqlite3_column_int64(file, 4);
        v.outcome = state;
        tell(b, &v);
    }
    if (sqlite3_column_int(file, 7))
        tell(b, &(struct event){.name = "expired", .attempt = -1});
}

static int show_runs(struct asking *a, const struct buf *ids)
{
    AUTO_STATEMENT sqlite3_stmt *s = prepare_record(a, &records_runs);
    int r = s ? 1 : ERR_REFUSED;
    json_begin(&a->out->body, "runs", '[');
    for (size_t at = 0; r >= 0 && at < ids->n; at += ID_SIZE) {
        r = show_record(a, &records_runs, ids->p + at, NULL, s);
        if (r == 1)
            json_end(&a->out->body, '}');
    }
    json_end(&a->out->body, ']');
    return r < 0 ? r : 0;
}

/* Adds "story" and "runs". */
static int tell_story(struct asking *a, const char *file_id)
{
    static const char of_file[] =
        "SELECT state, reason, detail, received_at, ended_at, released_at, not_before, expired, hash<>'' OR "
        "rows>=0, state IN('ingested','rejected','duplicate','vanished','quarantined') FROM files WHERE "
        "file_id=:id AND tenant=:tenant";
    static const char of_runs[] =
        "SELECT * FROM (SELECT run_id, app, step, attempt, state='ended', outcome, lim, error, started_at, "
        "ended_at FROM runs WHERE +tenant=:tenant AND " RECORDS_RUNS_OF_FILE(":id") " ORDER BY run_id DESC "
                                                                                    "LIMIT :limit) ORDER BY run_id";
    AUTO_STATEMENT sqlite3_stmt *file = prepare(a, of_file);
    AUTO_STATEMENT sqlite3_stmt *runs = prepare(a, of_runs);
    AUTO_BUF struct buf ids = {0};
    struct buf *b = &a->out->body;
    if (!file || !runs)
        return ERR_REFUSED;
    bind_text(file, ":id", file_id);
    bind_text(runs, ":id", file_id);
    bind_i64(runs, ":limit", MAX_RUNS);
    if (sqlite3_step(file) != SQLITE_ROW)
        return refuse_for_db(a);
    int r = sqlite3_step(runs);
    json_begin(b, "story", '[');
    tell_beginning(b, file, r == SQLITE_ROW);
    for (; r == SQLITE_ROW; r = sqlite3_step(runs)) {
        char id[ID_SIZE];
        snprintf(id, sizeof id, "%s", (const char *)sqlite3_column_text(runs, 0));
        buf_add(&ids, id, sizeof id);
        tell_run(b, runs);
    }
    tell_end(b, file);
    json_end(b, ']');
    return r == SQLITE_DONE ? show_runs(a, &ids) : refuse_for_db(a);
}

int ask_file(struct asking *a)
{
    const char *id;
    int r = param_id(a, "file_id", &id);
    if (r == 0)
        r = file_is_seen(a, id, NULL);
    AUTO_STATEMENT sqlite3_stmt *s = r == 0 ? prepare_record(a, &records_files) : NULL;
    if (!s)
        return ERR_REFUSED;
    r = show_record(a, &records_files, id, NULL, s);
    if (r == 1)
        r = tell_story(a, id);
    json_end(&a->out->body, '}');
    return r;
}
