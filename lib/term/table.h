/* A table that fits the terminal. Columns are left out and long texts cut as far as it takes, names in the middle; lines are never
 * wrapped. When stdout is no terminal, nothing is left out or cut. */
#ifndef SIMBDP_TERM_TABLE_H
#define SIMBDP_TERM_TABLE_H

#include "column.h"

#include "base/buf.h"

#include <stddef.h>

#define ID_GAP ".." /* stands in an id whose middle is left out */

struct table;

/* How the tables of this process are printed; TABLE_FIT unless it is said before the first one is made. */
enum table_style {
    TABLE_FIT,  /* as above */
    TABLE_WIDE, /* every column but those of JSON, nothing left out or cut, whatever the terminal's width */
    TABLE_CSV,  /* RFC 4180 with a header, but lines end with a linefeed alone: the same columns without COL_WORDS; null is empty */
};
void table_set_style(enum table_style style);
enum table_style table_get_style(void);
/* Prints a line of CSV. NULL is an empty cell. */
void table_csv_line(const char *const *cells, size_t n);

/* cols is borrowed. */
struct table *table_new(const struct col *cols, size_t n_cols);
void table_free(struct table *t);
/* Adds a row. TAKE each of the n_cols texts; NULL is shown as "-". Control characters are shown as numbers. */
void table_add(struct table *t, char *const *cells);
void table_print(struct table *t); /* prints nothing when there is no row; as CSV, the header */

/* Width of the terminal that stdout is; 0: it is none. */
size_t table_room(void);
/* How many columns of a terminal a text takes. */
size_t table_width(const char *text);
/* How many bytes of the text fit in `columns`: whole characters alone. */
size_t table_bytes_within(const char *text, size_t columns);
/* The text in at most `columns`; "…" stands for its middle where that takes leaving it out. The caller frees. */
char *table_shorten(const char *text, size_t columns);
/* The text on one line, without control characters. The caller frees. */
char *table_plain(const char *text);
/* Appends the text in lines of `room` columns (0: one line), broken between words. Lines after the first are indented by `indent`
 * spaces. `at`: the column in which the first line begins. */
void table_fold(struct buf *out, const char *text, size_t at, size_t indent, size_t room);

#endif
