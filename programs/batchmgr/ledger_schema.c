/* The ledger's tables: how they are made, and how those of an earlier version are migrated, one version after the other, each in a
 * transaction. The columns are described in ledger_rows.h. */
#include "ledger_rows.h"

#include "db/continuity.h"
#include "db/db.h"
#include "db/versions.h"

#include <errno.h>

_Static_assert(VERSION_LEDGER == 7, "the schema below is of this version, and the last step leads to it");
static const char schema[] =
    "BEGIN IMMEDIATE;"
    "CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value TEXT);"
    "INSERT OR IGNORE INTO meta VALUES('schema_version','7');" CONTINUITY_TABLE
    "CREATE TABLE IF NOT EXISTS tenants(id TEXT PRIMARY KEY, uid INTEGER UNIQUE, suspended INTEGER NOT NULL DEFAULT 0,"
    " purging INTEGER NOT NULL DEFAULT 0);"
    "CREATE TABLE IF NOT EXISTS files(file_id TEXT PRIMARY KEY, tenant TEXT, dataset TEXT, name TEXT, raw_name BLOB,"
    " safe TEXT, source TEXT, app TEXT, state TEXT, place TEXT, reason TEXT, detail TEXT, size INTEGER, rows INTEGER,"
    " columns INTEGER, hash TEXT, rows_parsed INTEGER, rows_loaded INTEGER, rows_rejected INTEGER, quality TEXT,"
    " attempts INTEGER, losses INTEGER, force INTEGER, received_at INTEGER, started_at INTEGER, ended_at INTEGER,"
    " not_before INTEGER, first_temp INTEGER, run_id TEXT, output_run TEXT, prefix TEXT, old_prefixes TEXT,"
    " checkpoint INTEGER, released_at INTEGER NOT NULL DEFAULT 0, checked INTEGER NOT NULL DEFAULT 0,"
    " solo INTEGER NOT NULL DEFAULT 0, group_n INTEGER NOT NULL DEFAULT 1, expired INTEGER NOT NULL DEFAULT 0,"
    " rows_repaired INTEGER NOT NULL DEFAULT -1, rows_added INTEGER NOT NULL DEFAULT -1, trace TEXT) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS quality(file_id TEXT PRIMARY KEY, quality TEXT) WITHOUT ROWID;"
    "CREATE INDEX IF NOT EXISTS files_live ON files(file_id) WHERE state IN('received','queued','running','waiting') OR"
    " place='work';"
    "CREATE INDEX IF NOT EXISTS files_content ON files(tenant, dataset, hash) WHERE state='ingested';"
    "CREATE INDEX IF NOT EXISTS files_tenant ON files(tenant, received_at);"
    "CREATE INDEX IF NOT EXISTS files_filed ON files(tenant, ended_at) WHERE place IN('done','quarantine');"
    "CREATE INDEX IF NOT EXISTS files_stored ON files(tenant, ended_at) WHERE state='ingested' AND expired=0 AND prefix<>'';"
    "CREATE INDEX IF NOT EXISTS files_failed ON files(state, tenant, file_id) WHERE state IN('rejected','duplicate','vanished',"
    "'quarantined');"
    "CREATE TABLE IF NOT EXISTS runs(run_id TEXT PRIMARY KEY, file_id TEXT, tenant TEXT, app TEXT, step TEXT,"
    " attempt INTEGER, state TEXT, outcome TEXT, exit_code INTEGER, signal INTEGER, lim TEXT, error TEXT, node TEXT,"
    " forced INTEGER, started_at INTEGER, ended_at INTEGER, wall_s REAL, cpu_s REAL, max_rss INTEGER,"
    " output_dropped INTEGER, n_files INTEGER NOT NULL DEFAULT 1, rows_parsed INTEGER NOT NULL DEFAULT -1,"
    " rows_loaded INTEGER NOT NULL DEFAULT -1, rows_rejected INTEGER NOT NULL DEFAULT -1, pruned INTEGER NOT NULL DEFAULT 0,"
    " network_refused INTEGER NOT NULL DEFAULT -1, rows_repaired INTEGER NOT NULL DEFAULT -1,"
    " rows_added INTEGER NOT NULL DEFAULT -1) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS bills(tenant TEXT, day INTEGER, name TEXT, value REAL NOT NULL, PRIMARY KEY(tenant, day, name))"
    " WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS hand_ins(tenant TEXT, key TEXT, file_id TEXT NOT NULL, dataset TEXT NOT NULL, name TEXT NOT NULL,"
    " size INTEGER NOT NULL, at INTEGER NOT NULL, PRIMARY KEY(tenant, key)) WITHOUT ROWID;"
    "CREATE INDEX IF NOT EXISTS hand_ins_at ON hand_ins(at);"
    "CREATE INDEX IF NOT EXISTS runs_live ON runs(run_id) WHERE state<>'ended';"
    "CREATE INDEX IF NOT EXISTS runs_kept ON runs(tenant, ended_at) WHERE state='ended' AND pruned=0;"
    "CREATE INDEX IF NOT EXISTS runs_tenant ON runs(tenant, started_at);"
    "CREATE INDEX IF NOT EXISTS runs_file ON runs(file_id);"
    "COMMIT;";

static const char from_1_to_2[] = "BEGIN IMMEDIATE;"
                                  "ALTER TABLE tenants ADD COLUMN purging INTEGER NOT NULL DEFAULT 0;"
                                  "ALTER TABLE files ADD COLUMN released_at INTEGER NOT NULL DEFAULT 0;"
                                  "ALTER TABLE files ADD COLUMN checked INTEGER NOT NULL DEFAULT 0;"
                                  "ALTER TABLE files ADD COLUMN solo INTEGER NOT NULL DEFAULT 0;"
                                  "ALTER TABLE files ADD COLUMN group_n INTEGER NOT NULL DEFAULT 1;"
                                  "ALTER TABLE files ADD COLUMN expired INTEGER NOT NULL DEFAULT 0;"
                                  "ALTER TABLE runs ADD COLUMN n_files INTEGER NOT NULL DEFAULT 1;"
                                  "ALTER TABLE runs ADD COLUMN rows_parsed INTEGER NOT NULL DEFAULT -1;"
                                  "ALTER TABLE runs ADD COLUMN rows_loaded INTEGER NOT NULL DEFAULT -1;"
                                  "ALTER TABLE runs ADD COLUMN rows_rejected INTEGER NOT NULL DEFAULT -1;"
                                  "ALTER TABLE runs ADD COLUMN pruned INTEGER NOT NULL DEFAULT 0;"
                                  "CREATE TABLE IF NOT EXISTS quality(file_id TEXT PRIMARY KEY, quality TEXT) WITHOUT ROWID;"
                                  "UPDATE meta SET value='2' WHERE key='schema_version';"
                                  "COMMIT;";

static const char from_2_to_3[] = "BEGIN IMMEDIATE;"
                                  "ALTER TABLE runs ADD COLUMN network_refused INTEGER NOT NULL DEFAULT -1;"
                                  "UPDATE meta SET value='3' WHERE key='schema_version';"
                                  "COMMIT;";

static const char from_3_to_4[] = "BEGIN IMMEDIATE;"
                                  "ALTER TABLE files ADD COLUMN rows_repaired INTEGER NOT NULL DEFAULT -1;"
                                  "ALTER TABLE runs ADD COLUMN rows_repaired INTEGER NOT NULL DEFAULT -1;"
                                  "UPDATE meta SET value='4' WHERE key='schema_version';"
                                  "COMMIT;";

static const char from_4_to_5[] = "BEGIN IMMEDIATE;"
                                  "ALTER TABLE files ADD COLUMN rows_added INTEGER NOT NULL DEFAULT -1;"
                                  "ALTER TABLE runs ADD COLUMN rows_added INTEGER NOT NULL DEFAULT -1;"
                                  "UPDATE meta SET value='5' WHERE key='schema_version';"
                                  "COMMIT;";

/* Its table, hand_ins, is made with those that are not there. */
static const char from_5_to_6[] = "UPDATE meta SET value='6' WHERE key='schema_version';";

static const char from_6_to_7[] = "BEGIN IMMEDIATE;"
                                  "ALTER TABLE files ADD COLUMN trace TEXT;"
                                  "UPDATE meta SET value='7' WHERE key='schema_version';"
                                  "COMMIT;";

int ledger_make_tables(sqlite3 *db, struct err *e)
{
    int64_t version = ledger_get_i64(db, "SELECT value FROM meta WHERE key='schema_version'", NULL, 0);
    if (version > VERSION_LEDGER)
        return version_refused("it", version, VERSION_LEDGER, e);
    int r = db_own(db, e);
    if (r < 0)
        return r;
    if (sqlite3_exec(db, "PRAGMA journal_mode=WAL", NULL, NULL, NULL) != SQLITE_OK ||
        (version == 1 && sqlite3_exec(db, from_1_to_2, NULL, NULL, NULL) != SQLITE_OK) ||
        ((version == 1 || version == 2) && sqlite3_exec(db, from_2_to_3, NULL, NULL, NULL) != SQLITE_OK) ||
        (version >= 1 && version <= 3 && sqlite3_exec(db, from_3_to_4, NULL, NULL, NULL) != SQLITE_OK) ||
        (version >= 1 && version <= 4 && sqlite3_exec(db, from_4_to_5, NULL, NULL, NULL) != SQLITE_OK) ||
        (version >= 1 && version <= 5 && sqlite3_exec(db, from_5_to_6, NULL, NULL, NULL) != SQLITE_OK) ||
        (version >= 1 && version <= 6 && sqlite3_exec(db, from_6_to_7, NULL, NULL, NULL) != SQLITE_OK) ||
        sqlite3_exec(db, schema, NULL, NULL, NULL) != SQLITE_OK)
        return err_set(e, -EIO, "%s", db_why(db));
    return 0;
}
