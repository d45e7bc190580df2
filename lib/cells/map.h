/* The map of a fleet: which cell each tenant is in. A file that the provider signs, and that fronts read; it is the only thing that
 * cells have in common, and says nothing that is secret. map.c has its format.
 *
 * A map is refused in words when it is damaged, not signed by the key, expired, or older than one that was seen (seen.h). A tenant
 * that it does not name is in no cell: were such tenants spread by a hash, a cell more would take tenants along whose data are
 * elsewhere. */
#ifndef SIMBDP_CELLS_MAP_H
#define SIMBDP_CELLS_MAP_H

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "keys.h"
#include "url.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CELLS_MAX = 10000,
    CELLS_TENANTS_MAX = 1000000,
    CELLS_NAME_MAX = 32,        /* of a cell and of a tenant: [a-z][a-z0-9_-]*, as conf_valid_id */
    CELLS_BYTES_MAX = 96 << 20, /* of the file */
    CELLS_PIN_SIZE = 65,        /* 64 hexadecimal digits: SHA-256 of the cell's certificate (DER) */
    CELLS_HASH_BYTES = 32,
    CELLS_AHEAD_MS = 300000, /* how far the signer's clock may be ahead */
};

struct cells_cell {
    const char *name, *url; /* as text; point into the map */
    struct cells_url at;
    char pin[CELLS_PIN_SIZE]; /* "": its certificate is one that this machine's authorities vouch for, for the URL's host */
};

struct cells_map;

/* Reads a map. key NULL: a draft, which has neither serial nor signature. TAKE the text, also on failure. ERR_FORMAT: it is none,
 * or damaged; ERR_REFUSED: it is not signed by the key; ERR_LIMIT; ERR_VERSION. Freed with cells_map_free. 0.4 s for a million. */
int cells_map_parse(struct buf *text, const unsigned char key[CELLS_PUBLIC_BYTES], struct cells_map **ret, struct err *e);
int cells_map_read(int dirfd, const char *path, const unsigned char key[CELLS_PUBLIC_BYTES], struct cells_map **ret, struct err *e);
void cells_map_free(struct cells_map *m); /* NULL is fine */
AUTO_DEFINE(cells_map, cells_map_free)
#define AUTO_CELLS_MAP __attribute__((cleanup(cells_map_free_auto)))

/* ERR_REFUSED: it has expired, or is of the future. */
int cells_map_check_time(const struct cells_map *m, int64_t wall_ms, struct err *e);

/* The cell of a tenant; NULL: it is not named. *ret_moving: it is being moved, and no cell is to be asked. Does not block; any
 * number of threads may ask. n: length of the name, which may hold anything. */
const struct cells_cell *cells_map_find(const struct cells_map *m, const char *tenant, size_t n, bool *ret_moving);

size_t cells_map_n_cells(const struct cells_map *m);
size_t cells_map_n_tenants(const struct cells_map *m);
const struct cells_cell *cells_map_cell(const struct cells_map *m, size_t i); /* by name */
/* The i-th tenant, by name; *ret_n: its length. Points into the map, and has no NUL behind it. */
const char *cells_map_tenant(const struct cells_map *m, size_t i, size_t *ret_n, const struct cells_cell **ret_cell,
                             bool *ret_moving);
uint64_t cells_map_serial(const struct cells_map *m);
int64_t cells_map_from_ms(const struct cells_map *m); /* wall clock; likewise */
int64_t cells_map_until_ms(const struct cells_map *m);
const unsigned char *cells_map_hash(const struct cells_map *m); /* CELLS_HASH_BYTES, of all of the file */

/* [a-z][a-z0-9_-]{0,31} */
bool cells_valid_name(const char *name, size_t n);
/* A SHA-256 as 64 hexadecimal digits of either case, with or without colons; false: it is none. */
bool cells_pin_parse(const char *text, char ret[CELLS_PIN_SIZE]);

#endif
