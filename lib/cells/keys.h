/* The keys of a map: Ed25519, a line of text each. The secret one is for who signs alone (0600); fronts have the public one. */
#ifndef SIMBDP_CELLS_KEYS_H
#define SIMBDP_CELLS_KEYS_H

#include "base/err.h"

enum { CELLS_PUBLIC_BYTES = 32, CELLS_SECRET_BYTES = 64 };

/* Makes both files, which must not be there (-EEXIST). Durable. */
int cells_keys_make(int dirfd, const char *secret_file, const char *public_file, struct err *e);
/* ERR_FORMAT: the file is none. Of the secret one also ERR_REFUSED: others than its owner may read it. Wipe what was read. */
int cells_key_public(int dirfd, const char *file, unsigned char ret[CELLS_PUBLIC_BYTES], struct err *e);
int cells_key_secret(int dirfd, const char *file, unsigned char ret[CELLS_SECRET_BYTES], struct err *e);

#endif
