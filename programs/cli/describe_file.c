/* A file or a run: its row of the ledger, its story, and why it is not further. */
#include "describe.h"

#include "base/clk.h"
#include "base/mem.h"
#include "conf/cron.h"
#include "query/words.h"

#include <string.h>

/* ---- a file ---- */

/* The app that takes it: one that was named when it was handed in, else by dataset and name. NULL: none does. */
static const struct conf_batch *app_of(const struct thing *t)
{
    const struct conf_tenant *tenant = t->conf ? conf_tenant(t->conf, t->tenant) : NULL;
    const struct conf_batch *app = NULL;
    sqlite3_stmt *s = NULL;
    if (tenant &&
        sqlite3_prepare_v2(t->db, "SELECT NULLIF(app,''), dataset, name FROM files WHERE file_id=?", -1, &s, NULL) == SQLITE_OK) {
        sqlite3_bind_text(s, 1, t->id, -1, SQLITE_STATIC);
        if (sqlite3_step(s) == SQLITE_ROW)
            app = conf_route(tenant, (const char *)sqlite3_column_text(s, 0), (const char *)sqlite3_column_text(s, 1),
                             (const char *)sqlite3_column_text(s, 2));
    }
    sqlite3_finalize(s);
    return app;
}

static void why_trigger(struct thing *t, const struct conf_batch *app)
{
    struct cron *c = NULL;
    char stamp[CLK_RFC3339_SIZE];
    if (!strncmp(app->trigger, CONF_CRON, strlen(CONF_CRON)) &&
        cron_new(app->trigger + strlen(CONF_CRON), app->timezone, &c, NULL) == 0) {
        int64_t at = cron_next(c, clk_wall_ms());
        describe_why(t, "it waits for the trigger of app %s (%s), the next time at %.19s", app->app, app->trigger,
                     at > 0 ? clk_rfc3339(at, stamp) : "no time");
        cron_free(c);
    } else if (app->group.max_files > 1 && strcmp(app->trigger, CONF_MANUAL) != 0) {
        describe_why(t, "it waits for others of its group (app %s takes %lld at once), no longer than %lld ms", app->app,
                     (long long)app->group.max_files, (long long)app->group.max_wait_ms);
    } else {
        describe_why(t, "it waits for somebody who says `mysimbdp run %s/%s`", t->tenant, app->app);
    }
}

static void why_received(struct thing *t)
{
    const char *intake = t->platform ? json_get_str(t->platform, "intake", "open") : "open";
    if (strcmp(intake, "open") != 0)
        describe_why(t, "nothing is taken in now (%s)", intake);
    else
        describe_why(t, "it is being inspected, or waits for that: %lld files do",
                     (long long)(t->platform ? json_get_i64(t->platform, "inspecting", 0) : 0));
}

/* The last time that its story names as `until`. */
static const char *until_of(const bson_t *doc)
{
    bson_iter_t it;
    bson_t one;
    const char *until = NULL;
    if (json_get_iter(doc, "story", &it))
        while (json_next_doc(&it, &one))
            until = json_get_str(&one, "until", NULL);
    return until;
}

static void why_ended(struct thing *t, const char *state, const char *words)
{
    if (!strcmp(state, "rejected") || !strcmp(state, "quarantined"))
        describe_why(t, "it was %s: %s; `mysimbdp rejects %s` shows rows, `mysimbdp retry %s` tries it again", state, words, t->id,
                     t->id);
    else if (!strcmp(state, "duplicate"))
        describe_why(t, "the same bytes were ingested before (%s); `mysimbdp upload --force` takes them nevertheless", words);
    else if (!strcmp(state, "vanished"))
        describe_why(t, "it was gone before it could be taken (%s)", words);
}

static void why_file(struct thing *t, const bson_t *doc, const struct conf_batch *app)
{
    const char *state = json_get_str(doc, "state", ""), *reason = json_get_str(doc, "reason", "");
    AUTO_FREE char *words = words_of(state, reason, json_get_str(doc, "detail", NULL), -1, -1);
    const char *said = words ? words : "it is not said why";
    bool turn = false;
    if (!strcmp(state, "received")) {
        why_received(t);
    } else if (!strcmp(state, "queued") && app && (!strcmp(reason, "trigger") || !strcmp(reason, "group"))) {
        why_trigger(t, app);
    } else if (!strcmp(state, "queued")) {
        turn = true;
        describe_why(t, "it is queued%s%s: its turn comes when a run of the tenant may start", words ? ", and " : "",
                     words ? words : "");
    } else if (!strcmp(state, "waiting")) {
        const char *until = until_of(doc);
        describe_why(t, "%s%s%.19s", said, until ? "; it is tried again at " : "", until ? until : "");
    } else if (!strcmp(state, "running")) {
        describe_why(t, "its run %s is going: `mysimbdp describe` or `logs` with that id", json_get_str(doc, "run_id", "?"));
    } else {
        why_ended(t, state, said);
        return;
    }
    describe_why_tenant(t, turn);
}

void describe_file(struct thing *t)
{
    AUTO_BUF struct buf params = {0};
    const struct conf_batch *app = app_of(t);
    json_begin(&params, NULL, '{');
    json_str(&params, "file_id", t->id);
    json_end(&params, '}');
    json_str(&t->out, "app", app ? app->app : NULL);
    AUTO_BSON bson_t *doc = describe_query(t, "file", params.p, true);
    if (doc)
        why_file(t, doc, app);
}

/* ---- a run ---- */

static void add_file_of_run(struct thing *t)
{
    static const char sql[] =
        "SELECT f.file_id, f.name, f.state, r.n_files FROM runs r JOIN files f USING(file_id) WHERE r.run_id=?";
    sqlite3_stmt *s = NULL;
    if (sqlite3_prepare_v2(t->db, sql, -1, &s, NULL) == SQLITE_OK) {
        sqlite3_bind_text(s, 1, t->id, -1, SQLITE_STATIC);
        if (sqlite3_step(s) == SQLITE_ROW) {
            json_str(&t->out, "file_id", (const char *)sqlite3_column_text(s, 0));
            json_str(&t->out, "file_name", (const char *)sqlite3_column_text(s, 1));
            json_str(&t->out, "file_state", (const char *)sqlite3_column_text(s, 2));
            json_i64(&t->out, "files", sqlite3_column_int64(s, 3));
        }
    }
    sqlite3_finalize(s);
}

static int64_t wall_s_of(const struct thing *t, const char *app)
{
    const struct conf_tenant *tenant = t->conf ? conf_tenant(t->conf, t->tenant) : NULL;
    const struct conf_batch *b = tenant ? conf_app(tenant, app) : NULL;
    const struct conf_profile *p = b ? conf_profile(t->conf, b->profile) : NULL;
    return p ? p->wall_s : -1;
}

static void why_run(struct thing *t, const bson_t *doc)
{
    const char *state = json_get_str(doc, "state", ""), *outcome = json_get_str(doc, "outcome", ""),
               *error = json_get_str(doc, "error", NULL), *limit = json_get_str(doc, "limit", NULL);
    const int64_t wall_s = wall_s_of(t, json_get_str(doc, "app", ""));
    if (strcmp(state, "ended") != 0 && wall_s >= 0 && strcmp(json_get_str(doc, "kind", ""), "stream") != 0)
        describe_why(t, "it is %s since %.19s, and may take %lld s (wall_s); `mysimbdp logs %s -f` shows what it prints", state,
                     json_get_str(doc, "started_at", ""), (long long)wall_s, t->id);
    else if (strcmp(state, "ended") != 0)
        describe_why(t, "it is %s since %.19s; `mysimbdp logs %s -f` shows what it prints", state,
                     json_get_str(doc, "started_at", ""), t->id);
    else if (strcmp(outcome, "ok") != 0)
        describe_why(t, "it ended as %s%s%s%s%s; `mysimbdp logs %s` shows what it printed", outcome, limit ? ", by the limit " : "",
                     limit ? limit : "", error ? ": " : "", error ? error : "", t->id);
}

void describe_run(struct thing *t)
{
    AUTO_BUF struct buf params = {0};
    json_begin(&params, NULL, '{');
    json_str(&params, "run_id", t->id);
    json_end(&params, '}');
    AUTO_BSON bson_t *doc = describe_query(t, "run", params.p, true);
    add_file_of_run(t);
    if (doc)
        why_run(t, doc);
}
