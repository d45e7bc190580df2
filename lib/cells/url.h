/* Where a cell's gateway is: https://host[:port], or http:// where that is this machine. */
#ifndef SIMBDP_CELLS_URL_H
#define SIMBDP_CELLS_URL_H

#include "base/address.h"

#include <stdbool.h>
#include <stddef.h>

enum { CELLS_URL_MAX = 300 };

struct cells_url {
    bool tls;
    struct address at;
};

/* No path, user or query; the host is a name of letters, digits, dots and hyphens, or an address. -EINVAL. n: length of the text.
 */
int cells_url_parse(const char *text, size_t n, struct cells_url *ret);

#endif
