/* The ledger's tables: how they are made, and a row from and to its struct. ledger.c writes them, ledger_query.c reads them.
 * Functions that return a code of SQLite say so; the message is the connection's.
 *
 * Version 7 of the schema (SCHEMA_VERSION). Times are wall-clock milliseconds since the epoch, 0: none; counts are -1 when unknown.
 *   meta(key, value)                      schema_version
 *   continuity(id, commits)               one row (lib/db/continuity.h)
 *   tenants(id, uid, suspended, purging)  a uid is never given twice; purging: 1 being removed, 2 removed
 *   files(...), runs(...)                 one column a field of struct file and struct run
 *   quality(file_id, quality)             a file's figures, a kilobyte or more: apart, so that they are written once and not with
 *                                         every state of the file (files.quality holds those of older versions)
 *   hand_ins(tenant, key, file_id, dataset, name, size, at)
 *                                         by which key of its tenant's a file was handed in: 'k' and the client's, or 's' and its
 *                                         name in the spool (hand_in.h). Rows go after a day
 * Readers (the command line) open the database on their own; docs/architecture.md lists the columns they rely on. */
#ifndef SIMBDP_BATCHMGR_LEDGER_ROWS_H
#define SIMBDP_BATCHMGR_LEDGER_ROWS_H

#include "ledger.h"

#include <sqlite3.h>

/* *ret is to be closed, also on failure. */
int ledger_connect(const char *path, sqlite3 **ret, struct err *e);
/* New tables, or those of an older version brought up to date; ERR_VERSION: they are of a newer one. */
int ledger_make_tables(sqlite3 *db, struct err *e);

struct ledger_puts {
    sqlite3_stmt *file, *quality, *run, *pruned, *expired, *hand_in, *forget;
};

int ledger_puts_init(struct ledger_puts *p, sqlite3 *db, struct err *e);
void ledger_puts_fini(struct ledger_puts *p); /* also of what was not initialised to the end */
/* Codes of SQLite. */
int ledger_put_file_row(const struct ledger_puts *p, const struct file *f);
int ledger_put_run_row(const struct ledger_puts *p, const struct run *r);
int ledger_mark_row(sqlite3_stmt *s, const char *id); /* pruned or expired */
int ledger_put_hand_in_row(const struct ledger_puts *p, const struct ledger_hand_in *h);
int ledger_forget_hand_in_rows(const struct ledger_puts *p, int64_t wall_ms);

/* The row that a SELECT * is at. The caller frees. */
struct file *ledger_row_file(sqlite3_stmt *s);
struct run *ledger_row_run(sqlite3_stmt *s);
char *ledger_column(sqlite3_stmt *s, int i);
void ledger_column_id(sqlite3_stmt *s, int i, char *out, size_t size);

/* text may be NULL; it must live until the statement is reset. */
void ledger_bind_text(sqlite3_stmt *s, int i, const char *text);
/* The first column of the first row; def when there is none. text: ?1, or NULL. */
int64_t ledger_get_i64(sqlite3 *db, const char *sql, const char *text, int64_t def);

/* For reading, on the loop's thread. */
bool ledger_has_hand_in_before(struct ledger *l, int64_t wall_ms);
sqlite3 *ledger_reader(struct ledger *l);

#endif
