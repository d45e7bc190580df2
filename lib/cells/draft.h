/* The map while it is worked on: cells and tenants, changed by who holds the directory's lock, and signed. */
#ifndef SIMBDP_CELLS_DRAFT_H
#define SIMBDP_CELLS_DRAFT_H

#include "map.h"

struct cells_draft;

struct cells_draft *cells_draft_new(void);
struct cells_draft *cells_draft_of(const struct cells_map *m); /* a copy */
void cells_draft_free(struct cells_draft *d);                  /* NULL is fine */
AUTO_DEFINE(cells_draft, cells_draft_free)
#define AUTO_CELLS_DRAFT __attribute__((cleanup(cells_draft_free_auto)))

/* ERR_USAGE: name, URL or pin is none; -EEXIST; ERR_LIMIT. pin NULL: none. */
int cells_draft_add(struct cells_draft *d, const char *name, const char *url, const char *pin, struct err *e);
/* Other URL and pin; -ENOENT. */
int cells_draft_change(struct cells_draft *d, const char *name, const char *url, const char *pin, struct err *e);
/* ERR_REFUSED: there are tenants in it; -ENOENT. */
int cells_draft_remove(struct cells_draft *d, const char *name, struct err *e);
/* Puts a tenant into a cell, wherever it was. -ENOENT: there is no such cell; ERR_USAGE; ERR_LIMIT. */
int cells_draft_assign(struct cells_draft *d, const char *tenant, const char *cell, bool moving, struct err *e);
/* Takes one out of the map; -ENOENT. */
int cells_draft_forget(struct cells_draft *d, const char *tenant, struct err *e);

/* Appends it as a draft, or as a map that is signed; TAKE nothing. */
void cells_draft_write(const struct cells_draft *d, struct buf *out);
void cells_draft_sign(const struct cells_draft *d, uint64_t serial, int64_t from_ms, int64_t until_ms,
                      const unsigned char secret[CELLS_SECRET_BYTES], struct buf *out);

#endif
