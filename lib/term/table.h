/* A table that fits the terminal. Columns are left out and long texts cut as far as it takes; lines are never wrapped. When stdout
 * is no terminal, nothing is left out or cut. */
#ifndef SIMBDP_TERM_TABLE_H
#define SIMBDP_TERM_TABLE_H

#include "column.h"

#include "base/buf.h"

#include <stddef.h>

#define ID_GAP ".." /* stands in an id whose middle is left out */

struct table;

/* cols is borrowed. */
struct table *table_new(const struct col *cols, size_t n_cols);
void table_free(struct table *t);
/* Adds a row. TAKE each of the n_cols texts; NULL is shown as "-". Control characters are shown as numbers. */
void table_add(struct table *t, char *const *cells);
void table_print(struct table *t); /* prints nothing when there is no row */

/* Width of the terminal that stdout is; 0: it is none. */
size_t table_room(void);
/* How many columns of a terminal a text takes. */
size_t table_width(const char *text);
/* The text on one line, without control characters. The caller frees. */
char *table_plain(const char *text);
/* Appends the text in lines of `room` columns (0: one line), broken between words. Lines after the first are indented by `indent`
 * spaces. `at`: the column in which the first line begins. */
void table_fold(struct buf *out, const char *text, size_t at, size_t indent, size_t room);

#endif
