/* An object as people read it: what `mysimbdp describe` prints without --json. */
#ifndef SIMBDP_CLI_DESCRIBE_SHOW_H
#define SIMBDP_CLI_DESCRIBE_SHOW_H

#include "base/json.h"

/* Prints members that are text or numbers a line each, then objects below a heading and arrays of objects as tables. What is null
 * or empty is left out, and so is `but` (NULL: nothing). Lines fit the terminal. */
void describe_show(const bson_t *doc, const char *but);
/* A line "name   value", folded. */
void describe_line(const char *name, const char *value);

#endif
