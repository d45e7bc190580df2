/* The names of a CSV file's columns, from the rows of its header. */
#ifndef SIMBDP_READ_HEADER_H
#define SIMBDP_READ_HEADER_H

#include "csv.h"
#include "spec.h"

struct header {
    char **names;
    size_t n;
    int64_t line, offset; /* of its first row */
    struct buf repaired;  /* what was repaired, for people; empty: nothing */
    size_t n_unsaid;
};

void header_fini(struct header *h);

/* Adds the cells of one more header row to the names: joined with '_'. With `repair` a name that is no text is left out. */
void header_add(struct header *h, const struct cell *cells, size_t n, bool repair);
__attribute__((format(printf, 2, 3))) void header_repaired(struct header *h, const char *fmt, ...);

/* Once all rows are added. Columns without a name become column_1 and so on. ERR_FORMAT when two have the same. */
int header_check(struct header *h, struct err *e);
/* The same, but names stay or become different, and what is stored under one name does: the later of two gets its place behind
 * it. */
void header_repair(struct header *h, const struct spec *s);

#endif
