/* The tenants' rows in the ledger: which uid each was given, whether it is suspended or being removed. They are few, and committed
 * at once. A uid is given once and never again to another. */
#include "ledger_rows.h"

#include "base/log.h"
#include "base/mem.h"
#include "conf/conf.h"
#include "db/db.h"

#include <errno.h>

int ledger_tenant_uid(struct ledger *l, const char *tenant, const struct ids *ids, int64_t *ret_uid, struct err *e)
{
    int64_t uid = ledger_get_i64(ledger_reader(l), "SELECT uid FROM tenants WHERE id=?1", tenant, -1);
    if (uid < 0 || (uid >= IDS_UNUSED && ids->base < IDS_UNUSED)) {
        /* Uids of another block are of tenants that the home had before it had this one; they keep them. */
        long long begin = ids_tenant_begin(ids->base), end = ids->base + ids->n;
        AUTO_FREE char *highest = xasprintf("SELECT max(uid) FROM tenants WHERE uid>=%lld AND uid<%lld", begin, end);
        uid = ledger_get_i64(ledger_reader(l), highest, NULL, ids->base) + 1;
        if (uid >= end)
            return err_set(e, ERR_LIMIT,
                           "no uid is left for tenant %s: this home has those from %lld to %lld; another home has its own", tenant,
                           begin, end - 1);
        AUTO_FREE char *sql =
            xasprintf("INSERT INTO tenants(id, uid) VALUES('%s', %lld) ON CONFLICT(id) DO UPDATE SET uid=excluded.uid", tenant,
                      (long long)uid);
        if (sqlite3_exec(ledger_reader(l), sql, NULL, NULL, NULL) != SQLITE_OK)
            return err_set(e, -EIO, "cannot give tenant %s a uid: %s", tenant, db_why(ledger_reader(l)));
    }
    *ret_uid = uid;
    return 0;
}

int ledger_set_suspended(struct ledger *l, const char *tenant, bool suspended, struct err *e)
{
    AUTO_FREE char *sql = xasprintf("UPDATE tenants SET suspended=%d WHERE id='%s'", suspended, tenant);
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
