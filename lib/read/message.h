/* The rows of a stream's message: JSON (an object, an array of objects, or an object a line) or CSV, read with the columns and
 * rules of a dataset. CSV has a header where the spec's header_rows says so; where it does not say, a first line that names the
 * spec's columns only is one, and so is any first line if the spec has no columns; else the columns are the spec's, in its order.
 * What else the spec leaves open is not guessed at, as in a file: commas, double quotes, UTF-8.
 *
 * What begins with { or [ is JSON, also where the dataset's files are CSV.
 *
 * A message is good as a whole or not at all. */
#ifndef SIMBDP_READ_MESSAGE_H
#define SIMBDP_READ_MESSAGE_H

#include "base/buf.h"
#include "reader.h"

struct message_rows {
    struct buf elements; /* of all rows, as BSON elements */
    size_t *ends;        /* of each row in it */
    size_t n, cap;
    /* Borrowed, or NULL: where what is read is counted, also the rows of a message that is refused for a later one. */
    struct figures *figures;
};

/* Sees a row before it is taken: 0 take it as it then is, 1 leave it out, ERR_FORMAT refuse (and set rec->reject). */
typedef int (*message_row_fn)(void *arg, struct record *rec, struct buf *elements);

/* Reads all rows into *ret, which is emptied first and keeps its memory for the next message. published_ms: what max_age_days
 * counts from, so that a message that is read again is read alike. fn may be NULL. ERR_FORMAT: which row is no good, and why. */
int message_read(const struct spec *spec, int64_t published_ms, const void *p, size_t n, message_row_fn fn, void *arg,
                 struct message_rows *ret, struct err *e);
/* What a program printed: JSON starts with a brace or bracket; a single line without a comma is no table but, most likely, a
 * complaint: as JSON it becomes a reject that people see. */
bool message_looks_like_csv(const char *p, size_t n);
void message_rows_fini(struct message_rows *r);

#endif
