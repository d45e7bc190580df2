/* Bytes of a file, decompressed: plain, gzip (all members) or zstd (all frames). Flat memory. */
#ifndef SIMBDP_READ_SRC_H
#define SIMBDP_READ_SRC_H

#include "base/err.h"
#include "base/mem.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum src_compression { SRC_PLAIN, SRC_GZIP, SRC_ZSTD };

/* By the file name's ending; *ret_stem_len is the length without it. */
enum src_compression src_compression_of(const char *name, size_t *ret_stem_len);

struct src;

/* Called with every block of raw bytes as it is read; for hashing. */
typedef void (*src_raw_fn)(void *arg, const void *p, size_t n);

/* Reads from fd (kept by the caller) at its offset. max_bytes (-1: none) bounds what comes out. */
struct src *src_new(int fd, enum src_compression c, int64_t max_bytes, src_raw_fn raw, void *arg);
/* Of what is in memory; borrowed. */
struct src *src_new_text(const void *p, size_t n);
void src_free(struct src *s);
AUTO_DEFINE(src, src_free)
#define AUTO_SRC __attribute__((cleanup(src_free_auto)))

/* Up to n bytes; 0 at the end; negative with e: -errno, ERR_FORMAT damaged data, ERR_LIMIT over max_bytes. Blocks. */
ssize_t src_read(struct src *s, void *p, size_t n, struct err *e);

/* What the next read can give of n bytes: less where the rest is known, but at least 1. */
size_t src_at_most(const struct src *s, size_t n);

int64_t src_raw_bytes(const struct src *s);

#endif
