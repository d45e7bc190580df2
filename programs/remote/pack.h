/* A directory as an archive. */
#ifndef SIMBDP_REMOTE_PACK_H
#define SIMBDP_REMOTE_PACK_H

#include "base/err.h"

/* Packs what is in the directory as a tar.gz without a name: files and directories in the order of their names, nobody's (uid 0),
 * so that the same files give the same bytes. A link to a file in the directory is that file; others are refused, as the platform
 * does.
 * `.git` is left out. A descriptor at its beginning; negative: something cannot be read, or is none of these. Blocks. */
int pack_directory(const char *path, struct err *e);

#endif
