/* mysimbdp files --watch, runs --watch: what changes in the ledger, a line a change. The ledger is opened anew for each look, so
 * that one that was put back is not missed. */
#include "watch.h"
#include "ledger.h"

#include "base/mem.h"
#include "db/db.h"
#include "query/changes.h"

#include <poll.h>
#include <stdio.h>

enum { EVERY_MS = 500 };

static void take(const struct watch *w, struct changes *known, sqlite3_stmt *s)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    columns_json(&b, s, w->records->cols, w->records->n_cols);
    json_end(&b, '}');
    AUTO_BSON bson_t *row = json_parse(b.p, b.n, NULL);
    if (row && changes_take(known, row))
        changes_print(known, row, w->c->json);
}

static int prepare(const struct watch *w, sqlite3 *db, const char *sql, sqlite3_stmt **ret)
{
    if (sqlite3_prepare_v2(db, sql, -1, ret, NULL) == SQLITE_OK)
        return 0;
    fprintf(stderr, "mysimbdp %s: cannot read the ledger: %s\n", w->c->verb, db_why(db));
    return CLI_FAILED;
}

static int look_at_missing(const struct watch *w, struct changes *known, sqlite3 *db)
{
    AUTO_FREE char *sql = xasprintf("%s WHERE %s=?", w->records->select, w->records->id);
    sqlite3_stmt *s = NULL;
    int r = prepare(w, db, sql, &s);
    for (const char *id; !r && (id = changes_missing(known)); sqlite3_reset(s)) {
        sqlite3_bind_text(s, 1, id, -1, SQLITE_STATIC);
        if (sqlite3_step(s) == SQLITE_ROW)
            take(w, known, s);
    }
    sqlite3_finalize(s);
    return r;
}

static int look(const struct watch *w, struct changes *known)
{
    bool none;
    sqlite3 *db = cli_ledger(w->c, w->h, &none);
    sqlite3_stmt *s = NULL;
    changes_begin(known);
    if (!db) {
        changes_end(known);
        return none ? 0 : CLI_FAILED; /* the platform of this home did not run yet */
    }
    int r = prepare(w, db, w->sql, &s);
    for (int i = 0; i < w->n_values; i++)
        sqlite3_bind_text(s, i + 1, w->values[i], -1, SQLITE_STATIC);
    while (!r && sqlite3_step(s) == SQLITE_ROW)
        take(w, known, s);
    sqlite3_finalize(s);
    if (!r)
        r = look_at_missing(w, known, db);
    changes_end(known);
    sqlite3_close(db);
    return r;
}

int cli_watch(const struct watch *w)
{
    struct changes *known = changes_new(w->records);
    int r;
    while ((r = look(w, known)) == 0 && fflush(stdout) == 0 && !ferror(stdout))
        poll(NULL, 0, EVERY_MS);
    changes_free(known);
    return r;
}
