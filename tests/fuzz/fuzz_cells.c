/* A draft of the map of cells: what is taken is in order and within the bounds, and written again it is the same. (A signed map is
 * looked at only after its signature.) */
#include "cells/draft.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_CELLS_MAP struct cells_map *m = NULL;
    AUTO_BUF struct buf again = {0};
    struct buf b = {0};
    struct err e = {0};
    bool moving;
    buf_add(&b, data, size);
    if (cells_map_parse(&b, NULL, &m, &e) < 0) {
        assert(*e.msg);
        return 0;
    }
    AUTO_CELLS_DRAFT struct cells_draft *d = cells_draft_of(m);
    cells_draft_write(d, &again);
    assert(again.n == size && !memcmp(again.p, data, size));
    for (size_t i = 0; i < cells_map_n_tenants(m); i++) {
        const struct cells_cell *c;
        size_t n;
        const char *name = cells_map_tenant(m, i, &n, &c, &moving);
        assert(cells_valid_name(name, n) && cells_map_find(m, name, n, &moving) == c);
    }
    return 0;
}
