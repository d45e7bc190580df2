/* What changed between two looks at the platform: of what does not change nothing is sent to those that follow it.
 *
 * A look has a document for each program, or none. A member of one that is an array of objects which all have a key is a list: its
 * elements are compared one by one. Key: tenant_id with, where they are there, app and run_id; else place; else program. Everything
 * else is compared as a whole. So nothing here knows which figures there are. Of each value a hash is kept (BLAKE2b, 16 bytes). */
#ifndef SIMBDP_GATEWAY_PLATFORM_DIFF_H
#define SIMBDP_GATEWAY_PLATFORM_DIFF_H

#include "base/buf.h"

#include <bson/bson.h>
#include <stddef.h>

struct platform_diff;

struct platform_part {
    const char *program;
    const bson_t *doc; /* NULL: it does not answer */
};
/* Appends {PROGRAM: its document or null, …}. */
void platform_write(const struct platform_part *parts, size_t n, struct buf *out);

struct platform_diff *platform_diff_new(void);
void platform_diff_free(struct platform_diff *d); /* NULL is fine */

/* Compares it with the look before (the first time: with {}), whose programs are the same. Appends an object of the form of
 * platform_write in which only what changed is: of a list the elements that did, null for a program that does not answer any more.
 * "gone" has what is not there any more: [program, member], or of a list [program, member, key], key: TENANT, TENANT/APP,
 * TENANT/APP/RUN, PLACE, PROGRAM. Nothing is appended where nothing changed. */
void platform_diff(struct platform_diff *d, const struct platform_part *parts, size_t n, struct buf *out);

#endif
