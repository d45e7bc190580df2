#include "ledger.h"
#include "term/table.h"

#include "base/fd.h"
#include "base/mem.h"
#include "base/near.h"
#include "query/ledger_view.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { WAIT_MS = 10000 };

sqlite3 *cli_ledger(struct cli *c, const struct home *h, bool *ret_none)
{
    struct err e = {0};
    sqlite3 *db = NULL;
    int r = ledger_view_open(h, WAIT_MS, &db, &e);
    *ret_none = r == -ENOENT;
    if (r < 0 && !*ret_none)
        cli_fail(c, &e);
    return r < 0 ? NULL : db;
}

int cli_whole_id(struct cli *c, const struct home *h, bool run, const char **id)
{
    static const char files[] = "SELECT file_id FROM files WHERE file_id>=?1 AND file_id<?1||'~' AND file_id LIKE '%'||?2 LIMIT 2";
    static const char runs[] = "SELECT run_id FROM (SELECT run_id FROM runs UNION ALL SELECT run_id FROM streams.instances) "
                               "WHERE run_id>=?1 AND run_id<?1||'~' AND run_id LIKE '%'||?2 LIMIT 2";
    const char *gap = strstr(*id, ID_GAP);
    bool none;
    int n = 0;
    if (strlen(*id) >= ID_SIZE - 1 || strlen(*id) < 4)
        return 0;
    sqlite3 *db = cli_ledger(c, h, &none);
    sqlite3_stmt *s = NULL;
    if (db && sqlite3_prepare_v2(db, run ? runs : files, -1, &s, NULL) == SQLITE_OK)
        sqlite3_bind_text(s, 1, *id, gap ? (int)(gap - *id) : -1, SQLITE_STATIC);
    if (s)
        sqlite3_bind_text(s, 2, gap ? gap + strlen(ID_GAP) : "", -1, SQLITE_STATIC);
    for (; s && sqlite3_step(s) == SQLITE_ROW; n++)
        snprintf(c->whole_id, sizeof c->whole_id, "%s", (const char *)sqlite3_column_text(s, 0));
    sqlite3_finalize(s);
    sqlite3_close(db);
    if (n > 1)
        return fprintf(stderr, "mysimbdp %s: several ids are like %s; give more of it\n", c->verb, *id), CLI_FAILED;
    *id = n ? c->whole_id : *id;
    return 0;
}

bool cli_is_tenant(struct cli *c, const struct home *h, sqlite3 *db, const char *tenant)
{
    sqlite3_stmt *s = NULL;
    struct near near = {.word = tenant};
    char meant[NEAR_TEXT_SIZE];
    AUTO_FREE char *conf = xasprintf("conf/tenants/%s.conf", tenant), *best = NULL;
    bool found = !strchr(tenant, '/') && fd_exists(h->dirfd, conf);
    if (db && sqlite3_prepare_v2(db, "SELECT id FROM tenants", -1, &s, NULL) != SQLITE_OK)
        return true;
    while (!found && s && sqlite3_step(s) == SQLITE_ROW) {
        AUTO_FREE char *id = xstrdup((const char *)sqlite3_column_text(s, 0));
        found = !strcmp(id, tenant);
        const char *before = near.best;
        near_try(&near, id);
        if (near.best != before) {
            xstr_set(&best, id);
            near.best = best;
        }
    }
    sqlite3_finalize(s);
    if (!found)
        fprintf(stderr, "mysimbdp %s: there is no tenant %s%s\n", c->verb, tenant, near_text(&near, meant));
    return found;
}

bool cli_knows_tenant(struct cli *c, const struct home *h, const char *tenant)
{
    bool none = false;
    if (!tenant)
        return true;
    sqlite3 *db = cli_ledger(c, h, &none);
    bool known = (db || none) && cli_is_tenant(c, h, db, tenant);
    sqlite3_close(db);
    return known;
}

int cli_home_of_tenant(struct cli *c, struct home *h, const char *tenant)
{
    if (cli_home(c, h))
        return CLI_FAILED;
    if (cli_knows_tenant(c, h, tenant))
        return 0;
    home_close(h);
    return CLI_FAILED;
}
