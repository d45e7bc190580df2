/* Which entries of an archive are taken: regular files and directories, below names that lead nowhere else and that every program
 * can print. Everything else is refused, and the archive with it. */
#ifndef SIMBDP_UNPACK_ENTRY_H
#define SIMBDP_UNPACK_ENTRY_H

#include "base/err.h"

#include <archive_entry.h>
#include <stdbool.h>

enum { ENTRY_NAME_MAX = 255, ENTRY_PATH_MAX = 1024, ENTRY_DEPTH_MAX = 32 };

/* Writes the path without "./" and doubled or final slashes to `ret`; "" stands for the directory itself. ERR_REFUSED: it is
 * absolute, has a part "..", is too long or too deep, is no UTF-8 or has control characters. */
int entry_path(const char *name, char ret[ENTRY_PATH_MAX + 1], struct err *e);

/* ERR_REFUSED: a link, a device, a socket, a FIFO, or with setuid, setgid or sticky bit. */
int entry_check(struct archive_entry *entry, const char *path, struct err *e);

#endif
