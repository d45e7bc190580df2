/* Lines of the programs' logs (base/log.h) as records of OTLP. One that names a run of a batch app has that step's trace and span.
 */
#ifndef SIMBDP_KEEPER_LOG_RECORDS_H
#define SIMBDP_KEEPER_LOG_RECORDS_H

#include "base/buf.h"
#include "host/home.h"

#include <bson/bson.h>
#include <sqlite3.h>
#include <stdint.h>

/* The ledger, opened when the first line asks for it; zeroed at first. */
struct log_records {
    const struct home *home;
    sqlite3 *db;
    sqlite3_stmt *of_run;
    bool tried; /* to open it */
};

/* A JSON object. Blocks for the ledger's disk. */
void log_record_of_line(struct log_records *l, const bson_t *line, int64_t ts_ms, struct buf *out);
/* Closes the ledger: to be called behind each batch of lines, since a reader that stays keeps its WAL from being reset. */
void log_records_rest(struct log_records *l);

#endif
