/* Splits a window of text into CSV records. RFC 4180, with any dialect.
 *
 * A record that is damaged costs itself only: characters behind a closing quote end at the next line end; a quote that is
 * never closed, or whose text runs over lines and then turns out damaged, makes its first line a damaged record, and
 * reading goes on at the next line. */
#ifndef SIMBDP_READ_CSV_H
#define SIMBDP_READ_CSV_H

#include "base/buf.h"
#include "dialect.h"
#include "window.h"

enum { CSV_MAX_CELLS = 65536 };

struct cell {
    const char *p;
    uint32_t n;
    bool quoted;
};

struct csv_row {
    size_t n, next, lines; /* length without its line end; bytes and lines to the next record */
    const char *damage;    /* static text, or NULL */
    const char *rule;      /* its short name */
    size_t cell, spot;     /* 1-based cell of the damage (0: none), and where it is in the record */
};

struct csv {
    const struct dialect *d;
    unsigned char set[5];
    size_t n_set;
    uint32_t *index; /* positions of bytes of `set` in the window */
    size_t n_index, cap_index, next, indexed;
    struct cell *cells;
    size_t n_cells, cap_cells;
    struct buf arena; /* unescaped cells */
};

void csv_init(struct csv *c, const struct dialect *d); /* borrows d */
void csv_fini(struct csv *c);
#define AUTO_CSV __attribute__((cleanup(csv_fini)))

/* The record at the window's start: true, with its cells in c->cells; they are valid until the next call and while the
 * window stays. False: more must be read. Call csv_advance behind every true, csv_moved after every window_grow. */
bool csv_split(struct csv *c, struct window *w, struct csv_row *ret);
void csv_advance(struct csv *c, struct window *w, const struct csv_row *row);
void csv_moved(struct csv *c, size_t shift);
/* After something else moved the window's start. */
void csv_resync(struct csv *c, const struct window *w);

/* Reads the record at the window's start, which csv_split or csv_line gave as damaged by a quote, again: the same bytes, but a
 * quote closes a cell only where a delimiter or the record's end follows, and one that no such quote closes is text, like all
 * others that neither open nor close. So repairing moves no record. False: too many cells. */
bool csv_repair(struct csv *c, const struct window *w, const struct csv_row *row);

/* Length of the line at the window's start (its end not counted), whatever quotes it has. False: more must be read. */
bool csv_line(const struct csv *c, const struct window *w, size_t *ret_n, size_t *ret_next);

#endif
