#include "cli.h"
#include "ledger.h"

#include <stdio.h>

/* Completes the run's id and finds out which manager has it. 0, or CLI_FAILED after a complaint. */
static int look_up(struct cli *c, bool *ret_instance)
{
    struct home h;
    bool none;
    if (cli_home(c, &h))
        return CLI_FAILED;
    int r = cli_whole_id(c, &h, true, (const char **)&c->argv[0]);
    sqlite3 *db = r ? NULL : cli_ledger(c, &h, &none);
    sqlite3_stmt *s = NULL;
    if (db && sqlite3_prepare_v2(db, "SELECT 1 FROM streams.instances WHERE run_id=?1", -1, &s, NULL) == SQLITE_OK) {
        sqlite3_bind_text(s, 1, c->argv[0], -1, SQLITE_STATIC);
        *ret_instance = sqlite3_step(s) == SQLITE_ROW;
    }
    sqlite3_finalize(s);
    sqlite3_close(db);
    home_close(&h);
    return r;
}

static void print_note(const bson_t *answer)
{
    const char *note = json_get_str(answer, "note", NULL);
    if (note)
        puts(note);
}

int verb_stop(struct cli *c)
{
    AUTO_BUF struct buf b = {0};
    bool instance = false, node_is_off = cli_flag(c, "--node-is-off");
    int r = cli_args(c, 1, 1);
    if (r || (r = look_up(c, &instance)))
        return r;
    json_begin(&b, NULL, '{');
    json_str(&b, "op", "stop");
    json_str(&b, "run_id", c->argv[0]);
    if (node_is_off)
        json_bool(&b, "node_is_off", true);
    json_end(&b, '}');
    return cli_order(c, instance ? "streammgr.sock" : "batchmgr.sock", b.p, print_note);
}
