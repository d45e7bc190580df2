/* A piece of a backup: its name is made of its bytes, and it is kept compressed. */
#ifndef SIMBDP_PIECES_PIECE_H
#define SIMBDP_PIECES_PIECE_H

#include "store.h"

void piece_name(const void *p, size_t n, char ret[STORE_NAME]);
bool piece_is_name(const char *name);
/* How many bytes n bytes are at most when they are packed. */
size_t piece_bound(size_t n);
/* room has piece_bound(n) bytes; how many of them were used. */
size_t piece_pack(const void *p, size_t n, void *room);
/* False: these are not the bytes of that name, or they are more than `cap`. */
bool piece_unpack(const void *p, size_t n, const char *name, void *room, size_t cap, size_t *ret_n);

#endif
