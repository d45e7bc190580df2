/* mysimbdp cells page: how all cells are, as one page of HTML without scripts. */
#ifndef SIMBDP_CLI_CELLS_PAGE_H
#define SIMBDP_CLI_CELLS_PAGE_H

#include "base/buf.h"
#include "cells/map.h"

#include <bson/bson.h>

struct cells_page {
    struct buf cells, issues, tenants; /* rows of tables */
    int n_cells, n_silent;
    int64_t n_issues, n_tenants;
};

/* What a cell answered to GET /v1/platform; error: why it did not, and body is not looked at then. Nothing of it is trusted. */
void cells_page_add(struct cells_page *p, const struct cells_map *m, const char *cell, const char *error, const bson_t *body);
/* Puts the page to the file, in one step (mode 0640). Blocks. */
int cells_page_write(const struct cells_page *p, const char *path, struct err *e);
void cells_page_fini(struct cells_page *p);

#endif
