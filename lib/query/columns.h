/* Columns of a statement's rows, written as JSON. */
#ifndef SIMBDP_QUERY_COLUMNS_H
#define SIMBDP_QUERY_COLUMNS_H

#include "base/buf.h"
#include "term/column.h"

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>

/* Whether column i of the row is null as that kind of value. */
bool column_is_null(sqlite3_stmt *s, int i, enum col_kind kind);
/* Adds each column i of the row as a member cols[i].name of the object that is being written. Whatever a text holds, the result is
 * valid JSON. */
void columns_json(struct buf *b, sqlite3_stmt *s, const struct col *cols, size_t n_cols);

#endif
