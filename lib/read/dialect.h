/* How a CSV file is written: what a configuration may say of it, and what the sniffer finds where it says nothing. */
#ifndef SIMBDP_READ_DIALECT_H
#define SIMBDP_READ_DIALECT_H

#include "decode.h"

#include <stdbool.h>
#include <stddef.h>

enum line_end { LINE_LF, LINE_CR, LINE_ANY }; /* LF also ends with CRLF; ANY: LF, CRLF and CR, mixed */
enum ragged { RAGGED_REJECT, RAGGED_PAD, RAGGED_KEEP_EXTRA };

enum { DELIMITER_MAX = 8, NO_CHAR = -1, SNIFFED = -1, SNIFFED_COLUMNS = 1024 };

struct dialect {
    char delimiter[DELIMITER_MAX];
    size_t n_delimiter;
    int quote;  /* NO_CHAR: there are no quotes */
    int escape; /* the quote itself: doubled; NO_CHAR: none */
    enum line_end line_end;
    enum encoding encoding;
    int skip_rows;   /* lines before the header */
    int header_rows; /* their cells are joined with '_' */
    int footer_rows; /* rows at the end that are not records; SNIFFED: those that look like a remark */
    enum ragged ragged;
    /* What the sniffer found besides. */
    size_t n_cells;                             /* of most rows; 0: there are none */
    unsigned char numbers[SNIFFED_COLUMNS / 8]; /* a bit a column: its first cells are numbers or nothing */
    double confidence;                          /* 0 to 1 */
    char why[512];
};

static inline bool dialect_numbers(const struct dialect *d, size_t column)
{
    return column < SNIFFED_COLUMNS && (d->numbers[column / 8] >> column % 8 & 1);
}

#endif
