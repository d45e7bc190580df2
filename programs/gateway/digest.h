/* Content-Digest (RFC 9530): sha-256 and sha-512 of what is sent, checked while it comes. Others in the field are passed over,
 * unless there is none of these. */
#ifndef SIMBDP_GATEWAY_DIGEST_H
#define SIMBDP_GATEWAY_DIGEST_H

#include <stdbool.h>
#include <stddef.h>

struct digest;

/* field NULL: none was said, *ret is NULL. False: the field is malformed, or names no algorithm that is known here. */
bool digest_parse(const char *field, struct digest **ret);
void digest_free(struct digest *d);                         /* NULL is fine */
void digest_add(struct digest *d, const void *p, size_t n); /* NULL is fine */
bool digest_fits(struct digest *d);                         /* once, at the end; true for NULL */

#endif
