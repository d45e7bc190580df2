/* Columns of what is listed: what a value is, and how it is written as JSON. Tables on a terminal are made of the same ones
 * (programs/cli/table.h). */
#ifndef SIMBDP_QUERY_COLUMNS_H
#define SIMBDP_QUERY_COLUMNS_H

#include "base/buf.h"

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>

enum col_kind { COL_TEXT, COL_ID, COL_LONG, COL_COUNT, COL_NUMBER, COL_TIME, COL_BOOL, COL_JSON, COL_WORDS };
struct col {
    const char *name;
    enum col_kind kind; /* COL_COUNT: negative is null; COL_TIME: milliseconds, 0 is null; COL_ID, COL_LONG: text of which a table
                           may show the beginning; COL_JSON: the platform's own; COL_WORDS: as COL_LONG, and in no JSON */
    int rank;           /* 0: in JSON only. Else in tables; a terminal that is too narrow leaves out the highest first, 1 never */
};

/* Whether column i of the row is null as that kind of value. */
bool column_is_null(sqlite3_stmt *s, int i, enum col_kind kind);
/* Adds each column i of the row as a member cols[i].name of the object that is being written. Whatever a text holds, the result is
 * valid JSON. */
void columns_json(struct buf *b, sqlite3_stmt *s, const struct col *cols, size_t n_cols);

#endif
