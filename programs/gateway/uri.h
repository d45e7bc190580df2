/* The target of a request (RFC 9112, 3.2; RFC 3986): its path in segments, its query in fields, both percent-decoded. Pure. */
#ifndef SIMBDP_GATEWAY_URI_H
#define SIMBDP_GATEWAY_URI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { URI_SEGMENTS = 12, URI_FIELDS = 16, URI_MAX = 8192 };

struct uri {
    char *text; /* what the pointers below point into */
    char *segments[URI_SEGMENTS];
    size_t n_segments;
    struct {
        const char *name, *value;
    } fields[URI_FIELDS];
    size_t n_fields;
};

/* False: it is no absolute path, is longer than URI_MAX, has more segments or fields than above, an escape that is none, or, once
 * decoded, a control character, bytes that are not UTF-8, or a segment that is empty, `.`, `..` or has a slash. Free
 * with uri_fini in either case. */
bool uri_parse(const char *target, struct uri *ret);
void uri_fini(struct uri *u);

/* The value of a field; NULL when it is not there, or is there twice. */
const char *uri_field(const struct uri *u, const char *name);
/* The number in a field; def when it is not there. False: it is none, or is not between min and max. */
bool uri_number(const struct uri *u, const char *name, int64_t def, int64_t min, int64_t max, int64_t *ret);
/* Whether all fields are among those, once each; `names` ends with NULL. *ret_other: one that is not. */
bool uri_knows(const struct uri *u, const char *const *names, const char **ret_other);

#endif
