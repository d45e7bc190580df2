/* Copies a directory that somebody else owns, and may still change, into one of ours: what is then looked at and executed is the
 * copy. Regular files and directories only; no link is followed. */
#ifndef SIMBDP_APPSTORE_TREE_COPY_H
#define SIMBDP_APPSTORE_TREE_COPY_H

#include "base/err.h"

#include <stdint.h>

enum { TREE_COPY_DEPTH_MAX = 40 };

struct tree_copy {
    int64_t max_bytes, max_files;
    int64_t bytes, files; /* counted so far; files: with directories */
};

/* Copies what is in directory `from` to directory `to`, which both exist. Files become 0644, or 0755 where their owner may execute
 * them, or they begin as an executable does ("#!", ELF). ERR_REFUSED (err_refuse: archive, max_app_bytes, max_app_files): there is
 * something else than files and directories, or too much of it; else -errno. Blocks. */
int tree_copy(struct tree_copy *c, int from, int to, struct err *e);

/* One file, to the new file `path` of directory `to`. The same errors. */
int tree_copy_file(struct tree_copy *c, int from, int to, const char *path, struct err *e);

#endif
