/* The elements of a JSON array (RFC 8259), each as its text stands. What is in an element is not looked at further than to find its
 * end. Pure. */
#ifndef SIMBDP_GATEWAY_JSON_ARRAY_H
#define SIMBDP_GATEWAY_JSON_ARRAY_H

#include <stdbool.h>
#include <stddef.h>

enum { JSON_ARRAY_DEPTH = 64 };

/* Calls `element` for each, without the blanks around it. False: the text is no array, or has something behind it; brackets do not
 * match, or are deeper than JSON_ARRAY_DEPTH; an element is empty. `element` was called for those before that then: so try first,
 * with NULL. */
bool json_array_split(const char *p, size_t n, void (*element)(void *arg, const char *p, size_t n), void *arg);

#endif
