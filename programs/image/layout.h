/* An OCI image layout (opencontainers/image-spec, image-layout.md) in a directory that a tenant writes: finds the image that is
 * meant, and copies it if its bytes are what their digests say. No link there is followed. */
#ifndef SIMBDP_IMAGE_LAYOUT_H
#define SIMBDP_IMAGE_LAYOUT_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

enum { LAYOUT_DIGEST_SIZE = 65 };

/* The name of the one image of a copy. */
#define LAYOUT_REF "image"

/* The layout's directory (a descriptor), and the digest of the manifest (hex of SHA-256) that `tag` names; "": of its only one.
 * Negative with what is wrong. Blocks. */
int layout_open(const char *path, const char *tag, char ret_digest[LAYOUT_DIGEST_SIZE], struct err *e);

/* What layout_open does with the text of index.json. */
int layout_choose(const char *json, size_t n, const char *tag, char ret_digest[LAYOUT_DIGEST_SIZE], struct err *e);

/* Copies the image to another directory, as a layout that holds it alone, readable by all. ERR_FORMAT: a blob is missing or is not
 * what its digest says; ERR_LIMIT: there are more than max_bytes of them. */
int layout_copy(int layout, const char *digest, int to, int64_t max_bytes, struct err *e);

#endif
