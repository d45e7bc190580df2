/* What store.c (a directory) and stream.c (an archive) share. See store.h. */
#ifndef SIMBDP_PIECES_STORE_PARTS_H
#define SIMBDP_PIECES_STORE_PARTS_H

#include "store.h"

#include "base/map.h"

#include <archive.h>

struct store {
    char *path, *home;
    int dir, objects, tmp, lock; /* -1: none */
    struct archive *tar;         /* NULL: a directory */
    struct map put;              /* of an archive: the pieces that are in it */
    void *room;                  /* for a piece, packed */
    int64_t rate, began_ms;
    struct store_figures figures;
};

struct store *store_new(const char *path);
int store_make_parts(struct store *s, struct err *e);
int store_write_object(struct store *s, const char *name, const void *p, size_t n, struct err *e);

/* ---- stream.c ---- */

int store_stream_object(struct store *s, const char *name, const void *p, size_t n, struct err *e);
int store_stream_point(struct store *s, const char *path, const void *p, size_t n, struct err *e);
void store_end_stream(struct store *s);

#endif
