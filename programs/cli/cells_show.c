/* mysimbdp cells show: the map that was signed last, and whether the draft says something else. */
#include "cells.h"
#include "listing.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/mem.h"
#include "cells/draft.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

static const struct col cell_cols[] = {
    {"cell", COL_TEXT, 1}, {"url", COL_TEXT, 1}, {"tenants", COL_COUNT, 1}, {"moving", COL_COUNT, 2}, {"pin", COL_TEXT, 3}};
static const struct col tenant_cols[] = {
    {"tenant_id", COL_TEXT, 1}, {"cell", COL_TEXT, 1}, {"moving", COL_BOOL, 1}, {"url", COL_TEXT, 2}};

static int show_tenant(struct cli *c, const struct cells_map *m, const char *tenant)
{
    struct err e = {0};
    AUTO_BUF struct buf b = {0};
    bool moving;
    const struct cells_cell *cell = cells_map_find(m, tenant, strlen(tenant), &moving);
    if (!cell)
        return err_set(&e, ERR_REFUSED, "the map does not name %s", tenant), cli_fail(c, &e);
    json_begin(&b, NULL, '[');
    json_begin(&b, NULL, '{');
    json_str(&b, "tenant_id", tenant);
    json_str(&b, "cell", cell->name);
    json_bool(&b, "moving", moving);
    json_str(&b, "url", cell->url);
    json_end(&b, '}');
    json_end(&b, ']');
    return cli_list_array(c, "tenants", b.p, b.n, tenant_cols, sizeof tenant_cols / sizeof *tenant_cols);
}

static void count(const struct cells_map *m, int64_t (*counts)[2])
{
    const struct cells_cell *first = cells_map_n_cells(m) ? cells_map_cell(m, 0) : NULL, *cell;
    for (size_t i = 0; i < cells_map_n_tenants(m); i++) {
        size_t n;
        bool moving;
        cells_map_tenant(m, i, &n, &cell, &moving);
        counts[cell - first][0]++;
        counts[cell - first][1] += moving;
    }
}

static int show_cells(struct cli *c, const struct cells_map *m)
{
    AUTO_BUF struct buf b = {0};
    size_t n = cells_map_n_cells(m);
    AUTO_FREE int64_t(*counts)[2] = xcalloc(n + 1, sizeof *counts);
    count(m, counts);
    json_begin(&b, NULL, '[');
    for (size_t i = 0; i < n; i++) {
        const struct cells_cell *cell = cells_map_cell(m, i);
        json_begin(&b, NULL, '{');
        json_str(&b, "cell", cell->name);
        json_str(&b, "url", cell->url);
        json_i64(&b, "tenants", counts[i][0]);
        json_i64(&b, "moving", counts[i][1]);
        json_str(&b, "pin", *cell->pin ? cell->pin : NULL);
        json_end(&b, '}');
    }
    json_end(&b, ']');
    return cli_list_array(c, "cells", b.p, b.n, cell_cols, sizeof cell_cols / sizeof *cell_cols);
}

/* Whether the draft is what was signed. */
static int compare(const struct cells_dir *at, const struct cells_map *m, bool *ret_same, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    AUTO_BUF struct buf there = {0};
    AUTO_CELLS_DRAFT struct cells_draft *d = cells_draft_of(m);
    cells_draft_write(d, &b);
    int r = fd_read_file(at->dirfd, CELLS_DRAFT, &there, CELLS_BYTES_MAX, e);
    *ret_same = r == 0 && b.n == there.n && !memcmp(b.p, there.p, b.n);
    return r;
}

int cells_show(struct cli *c, const char *dir, const char *tenant)
{
    struct err e = {0};
    struct cells_dir at;
    AUTO_CELLS_MAP struct cells_map *m = NULL;
    unsigned char key[CELLS_PUBLIC_BYTES];
    char until[CLK_RFC3339_SIZE];
    bool same = false;
    int r = cells_open(c, dir, LOCK_SH, &at);
    if (r)
        return r;
    if (fd_is_gone(at.dirfd, CELLS_MAP))
        r = err_set(&e, ERR_REFUSED, "nothing was signed yet; `mysimbdp cells sign` does");
    if (r == 0)
        r = cells_key_public(at.dirfd, CELLS_PUBLIC_FILE, key, &e);
    if (r == 0)
        r = cells_map_read(at.dirfd, CELLS_MAP, key, &m, &e);
    if (r == 0)
        r = compare(&at, m, &same, &e);
    cells_close(&at);
    if (r < 0)
        return cli_fail(c, &e);
    if (!cli_is_read_by_programs(c))
        printf("serial %" PRIu64 ", valid until %s%s\n", cells_map_serial(m), clk_rfc3339(cells_map_until_ms(m), until),
               same ? "" : "; the draft says something else (`mysimbdp cells sign`)");
    return tenant ? show_tenant(c, m, tenant) : show_cells(c, m);
}
