/* The part of a file that is being read, as UTF-8: from the start of the current record to the end of what was read. It
 * moves and grows so that a record always lies in one piece. */
#ifndef SIMBDP_READ_WINDOW_H
#define SIMBDP_READ_WINDOW_H

#include "decode.h"
#include "src.h"

#include <stdbool.h>

enum { WINDOW_BLOCK = 256 << 10 };

struct window {
    struct src *src;
    struct decoder decoder;
    unsigned char *raw; /* undecoded block; only for encodings other than UTF-8 */
    char *p;
    size_t at, n, cap; /* the record starts at p + at; n is the end of what was read */
    bool end;          /* nothing follows n */
    int64_t offset;    /* bytes of the decompressed source before p + at */
    int64_t line;      /* 1-based, of p + at */
};

/* Reads more. *ret_shift: by how much everything in p moved towards its front. */
int window_grow(struct window *w, size_t *ret_shift, struct err *e);

/* The record starts n bytes and `lines` lines later. */
void window_advance(struct window *w, size_t n, size_t lines);
void window_advance_text(struct window *w, size_t n); /* counts the lines */

/* What was read so far turns out to be of another encoding: decodes it (once, before anything was consumed). */
void window_set_encoding(struct window *w, enum encoding e);

void window_fini(struct window *w);

#endif
