/* Questions to many cells at once, for `mysimbdp cells stats` and `files`: each cell by a thread of its own, all within one
 * deadline, so that one that hangs holds up nobody. */
#ifndef SIMBDP_CELLS_ASK_H
#define SIMBDP_CELLS_ASK_H

#include "base/err.h"

#include <stdint.h>

struct ask_settings {
    const char *map, *key, *tokens, *requests;
    int64_t deadline_s;
};

/* Reads lines "CELL PATH" from the file `requests`, in which a cell's stand together, and prints for each a JSON object a line:
 * cell, path, and either body or error. Of a cell that failed nothing more is asked. Its token is in the file of its name below
 * `tokens`, which nobody else may read. */
int ask_all(const struct ask_settings *s, struct err *e);

#endif
