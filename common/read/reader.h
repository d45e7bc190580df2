/* The records of a CSV or JSON file, one at a time, in flat memory. Used by the inspector and the loader alike, so that
 * what the one promised is what the other does.
 *
 * CSV is RFC 4180 with a comma, one header row, LF, CRLF or CR line ends (decided by the first), a UTF-8 BOM skipped and
 * blank lines skipped. JSON is one object a line, or one array of objects. A damaged record costs that record only. */
#ifndef SIMBDP_READER_H
#define SIMBDP_READER_H

#include "src.h"

#include <bson/bson.h>
#include <stdbool.h>

enum reader_format { READER_CSV, READER_JSON };

struct cell {
    const char *p;
    size_t n;
    bool quoted;
};

struct record {
    const char *raw; /* without its line end; valid until the next call */
    size_t n;
    int64_t line, offset; /* of its first byte: 1-based line, decompressed byte offset */
    size_t n_columns;     /* cells, or top-level members */
    const char *reject;   /* why it is damaged (static text), or NULL */
    int column;           /* 1-based column of the damage, 0 when it is none's */
    bool too_long;        /* longer than max_row_bytes; raw holds its beginning */
};

struct reader;

/* max_row_bytes bounds memory; at most READER_MAX_ROW_BYTES, which is also used for -1. */
enum { READER_MAX_ROW_BYTES = 16 << 20 };
struct reader *reader_new(struct src *s, enum reader_format f, int64_t max_row_bytes);
void reader_free(struct reader *r); /* not the src */

/* 1 and a record, 0 at the end, negative on an error of the source. The CSV header is read before the first record. */
int reader_next(struct reader *r, struct record *ret, struct err *e);

/* Number of CSV columns after the first reader_next (or at the end); what is wrong with the header in `e` of reader_next as
 * ERR_FORMAT. */
size_t reader_n_columns(const struct reader *r);

/* The byte offset behind the last record. */
int64_t reader_offset(const struct reader *r);

/* Appends the record's fields to `doc`. Without damage of its own a record may still be refused here: 0, or ERR_FORMAT
 * with record->reject, ->column and, in type, the type that was expected. CSV cells without a rule are inferred one by
 * one so that nothing is lost: empty is null; a canonical integer of at most 18 digits is int32 or int64; a plain decimal
 * that a double prints back digit by digit is double; true and false are bool; all else (007, +49, 1e5) is string. */
int reader_bson(struct reader *r, struct record *rec, bson_t *doc, const char **ret_type);

#endif
