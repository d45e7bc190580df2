#include "cli.h"

static bool is_instance(struct cli *c)
{
    struct home h;
    bool none, yes = false;
    if (cli_home(c, &h))
        return false;
    sqlite3 *db = cli_ledger(c, &h, &none);
    sqlite3_stmt *s = NULL;
    if (db && sqlite3_prepare_v2(db, "SELECT 1 FROM streams.instances WHERE run_id=?1", -1, &s, NULL) == SQLITE_OK) {
        sqlite3_bind_text(s, 1, c->argv[0], -1, SQLITE_STATIC);
        yes = sqlite3_step(s) == SQLITE_ROW;
    }
    sqlite3_finalize(s);
    sqlite3_close(db);
    home_close(&h);
    return yes;
}

int verb_stop(struct cli *c)
{
    AUTO_BUF struct buf b = {0};
    int r = cli_args(c, 1, 1);
    if (r)
        return r;
    json_begin(&b, NULL, '{');
    json_str(&b, "op", "stop");
    json_str(&b, "run_id", c->argv[0]);
    json_end(&b, '}');
    return cli_order(c, is_instance(c) ? "streammgr.sock" : "batchmgr.sock", b.p, NULL);
}
