/* Answers of questions about a tenant (query.h), shown to people: by the gateway's client and by the desk's. */
#ifndef SIMBDP_QUERY_OBJECTS_H
#define SIMBDP_QUERY_OBJECTS_H

#include "base/json.h"
#include "term/table.h"

/* The text of a member as a table of the style that is set shows it (term/table.h); NULL: it is null, or absent. The caller frees.
 */
char *object_cell(const bson_t *doc, const struct col *col);
/* Prints "name  value" lines; arrays and objects as JSON; what is null is left out. left_out: ends with NULL, or is NULL. */
void object_members(const bson_t *doc, const char *const *left_out);
/* The answers of `agreement` and `usage`. */
void object_agreement(const bson_t *doc);
void object_usage(const bson_t *doc);

#endif
