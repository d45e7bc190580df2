/* Whether a file system has room for what the platform is going to write: bytes and inodes, either of which stops it. */
#ifndef SIMBDP_BASE_SPACE_H
#define SIMBDP_BASE_SPACE_H

#include <stdbool.h>
#include <stdint.h>

struct space {
    int64_t free_bytes, free_inodes; /* for users other than root; inodes -1: not counted (btrfs) */
};

/* Free space of the file system that `path` is on. 0 or -errno. */
int space_of(const char *path, struct space *ret);

/* Whether less than one of the floors is free (0: no floor). */
bool space_is_low(const struct space *s, int64_t min_free_bytes, int64_t min_free_inodes);

/* "N bytes and N inodes are free, min_free_bytes is N and min_free_inodes is N". The caller frees it. */
char *space_text(const struct space *s, int64_t min_free_bytes, int64_t min_free_inodes);

#endif
