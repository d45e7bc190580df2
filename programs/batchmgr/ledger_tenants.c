/* The tenants' rows in the ledger: whether each is suspended or being removed (its uid: tenant_uid.c). They are few, and committed
 * at once. */
#include "ledger_rows.h"

#include "base/log.h"
#include "base/mem.h"
#include "conf/conf.h"
#include "db/db.h"

#include <errno.h>

int ledger_set_suspended(struct ledger *l, const char *tenant, bool suspended, struct err *e)
{
    AUTO_FREE char *sql = xasprintf("UPDATE tenants SET suspended=(suspended & ~1) | %d WHERE id='%s'", suspended, tenant);
    if (!conf_valid_id(tenant) || sqlite3_exec(ledger_reader(l), sql, NULL, NULL, NULL) != SQLITE_OK)
        return err_set(e, -EIO, "cannot store that tenant %s is %s: %s", tenant, suspended ? "suspended" : "active",
                       db_why(ledger_reader(l)));
    return 0;
}

bool ledger_is_suspended(struct ledger *l, const char *tenant)
{
    return ledger_get_i64(ledger_reader(l), "SELECT suspended FROM tenants WHERE id=?1", tenant, 0) != 0;
}

int ledger_set_purging(struct ledger *l, const char *tenant, int purging, struct err *e)
{
    AUTO_FREE char *sql =
        xasprintf("UPDATE tenants SET purging=%d, suspended=%s WHERE id='%s'", purging, purging == 2 ? "0" : "suspended", tenant);
    if (!conf_valid_id(tenant) || sqlite3_exec(ledger_reader(l), sql, NULL, NULL, NULL) != SQLITE_OK)
        return err_set(e, -EIO, "cannot store that tenant %s is removed: %s", tenant, db_why(ledger_reader(l)));
    return 0;
}

void ledger_take_up(struct ledger *l, const char *tenant)
{
    AUTO_FREE char *sql = xasprintf("UPDATE tenants SET purging=0 WHERE id='%s'", tenant);
    if (ledger_get_i64(ledger_reader(l), "SELECT purging FROM tenants WHERE id=?1", tenant, 0) == 2 &&
        sqlite3_exec(ledger_reader(l), sql, NULL, NULL, NULL) != SQLITE_OK)
        log_warn("ledger", tenant, NULL, "%s", db_why(ledger_reader(l)));
}
