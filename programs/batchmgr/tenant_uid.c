/* Gives each tenant its uid, out of the home's block (lib/host/uid_block.h). A uid is given once and never again to another tenant,
 * so files that a removed tenant left behind somewhere are nobody's. */
#include "ledger_rows.h"

#include "base/mem.h"
#include "db/db.h"

#include <errno.h>

int ledger_tenant_uid(struct ledger *l, const char *tenant, const struct uid_block *block, int64_t *ret_uid, struct err *e)
{
    int64_t uid = ledger_get_i64(ledger_reader(l), "SELECT uid FROM tenants WHERE id=?1", tenant, -1);
    if (uid < 0 || (uid >= UID_UNUSED && block->base < UID_UNUSED)) {
        /* Uids of another block are of tenants that the home had before it had this one; they keep them. */
        long long begin = uid_tenant_begin(block->base), end = block->base + block->n;
        AUTO_FREE char *highest = xasprintf("SELECT max(uid) FROM tenants WHERE uid>=%lld AND uid<%lld", begin, end);
        uid = ledger_get_i64(ledger_reader(l), highest, NULL, block->base) + 1;
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
