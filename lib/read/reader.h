/* The records of a CSV or JSON file, one at a time, in flat memory, and the documents they become. Used by the inspector, the
 * loader, libsimbdp and preview alike, so that what the one promised is what the other does. Not thread-safe; blocks only in
 * read(2) of the source.
 *
 * A damaged record costs that record only; JSON whose records cannot be told apart any more, or that was cut off, is refused as a
 * whole (json_split.h). */
#ifndef SIMBDP_READ_READER_H
#define SIMBDP_READ_READER_H

#include "csv.h"
#include "figures.h"
#include "spec.h"
#include "src.h"

#include <bson/bson.h>
#include <stdbool.h>

struct record {
    const char *raw; /* as UTF-8, without its line end; valid until the next call */
    size_t n;
    int64_t line, offset; /* of its first byte: 1-based line, byte offset in the decompressed file */
    size_t n_columns;     /* cells, or top-level members */
    const char *reject;   /* why it is refused, for people, or NULL; valid until the next call */
    const char *repaired; /* what was repaired (csv.damaged), for people, or NULL; rule, column and spot are its, then */
    const char *rule;     /* the reason as a short name (static): type, required, ragged, quote ... */
    const char *type;     /* the type that was expected (static), or NULL */
    int column;           /* 1-based column of the damage, 0 when it is none's */
    size_t spot;          /* where in raw it is */
    bool too_long;        /* longer than max_row_bytes; raw holds its beginning */
};

struct reader;

/* Borrows both. */
struct reader *reader_new(struct src *s, const struct spec *spec);
void reader_free(struct reader *r); /* accepts NULL */
AUTO_DEFINE(reader, reader_free)
#define AUTO_READER __attribute__((cleanup(reader_free_auto)))

/* 1 and a record, 0 at the end. Negative with `e`: of the source; ERR_FORMAT the header is damaged, or as said above; ERR_CONFIG
 * the spec's columns contradict the header. The dialect and the header are found before the first record. */
int reader_next(struct reader *r, struct record *ret, struct err *e);

/* Appends the record's fields to `out` as BSON elements (no length, no final NUL). A record without damage of its own may
 * still be refused here: 0, or ERR_FORMAT with record->reject and what follows it; `out` is then as it was. What is refused was
 * not repaired. */
int reader_row(struct reader *r, struct record *rec, struct buf *out);

/* The same for one JSON object that comes from no file. */
int reader_json_row(const struct spec *spec, struct record *rec, struct buf *out);

/* From now on every reader_row counts here, refused records too. Borrowed. */
void reader_set_figures(struct reader *r, struct figures *f);

/* After the first reader_next, or at the end. */
const struct dialect *reader_dialect(const struct reader *r);           /* of JSON only the encoding counts */
size_t reader_n_columns(const struct reader *r);                        /* of CSV */
const char *reader_column(const struct reader *r, size_t i);            /* as the header names it */
const struct cell *reader_cells(const struct reader *r, size_t *ret_n); /* of the last CSV record */
/* What was repaired in the header, for people, or NULL, and where the header is. */
const char *reader_header_repair(const struct reader *r, int64_t *ret_line, int64_t *ret_offset);
/* How many rows at the end were taken for a footer. */
int64_t reader_footers(const struct reader *r);

/* Whether more of the rows (damaged ones included) are damaged than max_pct percent; -1: any number may be. */
bool reader_rejects_exceed(int64_t rejects, int64_t rows, double max_pct);

/* The byte offset behind the last record. */
int64_t reader_offset(const struct reader *r);

#endif
