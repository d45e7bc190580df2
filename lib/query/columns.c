#include "columns.h"

bool column_is_null(sqlite3_stmt *s, int i, enum col_kind kind)
{
    if (sqlite3_column_type(s, i) == SQLITE_NULL)
        return true;
    return (kind == COL_COUNT && sqlite3_column_int64(s, i) < 0) || (kind == COL_TIME && sqlite3_column_int64(s, i) <= 0) ||
           (kind != COL_NUMBER && kind != COL_BOOL && kind != COL_COUNT && kind != COL_TIME && sqlite3_column_bytes(s, i) == 0);
}

static void column_json(struct buf *b, sqlite3_stmt *s, int i, const struct col *col)
{
    if (column_is_null(s, i, col->kind)) {
        json_null(b, col->name);
        return;
    }
    switch (col->kind) {
    case COL_TEXT:
    case COL_ID:
    case COL_LONG:
    case COL_WORDS:
        json_str(b, col->name, (const char *)sqlite3_column_text(s, i));
        break;
    case COL_COUNT:
        json_i64(b, col->name, sqlite3_column_int64(s, i));
        break;
    case COL_NUMBER:
        json_f64(b, col->name, sqlite3_column_double(s, i));
        break;
    case COL_TIME:
        json_time(b, col->name, sqlite3_column_int64(s, i));
        break;
    case COL_BOOL:
        json_bool(b, col->name, sqlite3_column_int(s, i) != 0);
        break;
    case COL_JSON:
        json_raw(b, col->name, (const char *)sqlite3_column_text(s, i));
        break;
    }
}

void columns_json(struct buf *b, sqlite3_stmt *s, const struct col *cols, size_t n_cols)
{
    for (size_t i = 0; i < n_cols; i++)
        if (cols[i].kind != COL_WORDS)
            column_json(b, s, (int)i, &cols[i]);
}
