/* usage: map_cost TENANTS CELLS: what a map of cells costs: to sign, to load (with its signature), to look a tenant up. A line of
 * JSON. */
#include "base/clk.h"
#include "cells/draft.h"
#include "tests/bench/chance.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

enum { LOOKUPS = 1000000 };

int main(int argc, char **argv)
{
    AUTO_CELLS_DRAFT struct cells_draft *d = cells_draft_new();
    AUTO_CELLS_MAP struct cells_map *m = NULL;
    unsigned char public[CELLS_PUBLIC_BYTES], secret[CELLS_SECRET_BYTES];
    struct buf b = {0};
    struct rng r = {1};
    char name[CELLS_NAME_MAX + 1], cell[CELLS_NAME_MAX + 1];
    int tenants = argc > 2 ? atoi(argv[1]) : 0, cells = argc > 2 ? atoi(argv[2]) : 0, found = 0;
    if (tenants < 1 || cells < 1 || sodium_init() < 0)
        return 2;
    crypto_sign_keypair(public, secret);
    for (int i = 0; i < cells; i++) {
        snprintf(cell, sizeof cell, "cell-%05d", i);
        if (cells_draft_add(d, cell, "https://cell.example:8443", NULL, NULL) < 0)
            return 1;
    }
    for (int i = 0; i < tenants; i++) {
        snprintf(name, sizeof name, "tenant-%07d", i);
        snprintf(cell, sizeof cell, "cell-%05d", i % cells);
        if (cells_draft_assign(d, name, cell, false, NULL) < 0)
            return 1;
    }
    int64_t t0 = clk_now_us();
    cells_draft_sign(d, 1, 0, 1, secret, &b);
    size_t bytes = b.n;
    int64_t t1 = clk_now_us();
    if (cells_map_parse(&b, public, &m, NULL) < 0)
        return 1;
    int64_t t2 = clk_now_us();
    for (int i = 0; i < LOOKUPS; i++) {
        bool moving;
        int n = snprintf(name, sizeof name, "tenant-%07d", (int)(rng_uniform(&r) * tenants));
        found += cells_map_find(m, name, (size_t)n, &moving) != NULL;
    }
    int64_t t3 = clk_now_us();
    printf("{\"tenants\":%d,\"cells\":%d,\"bytes\":%zu,\"sign_ms\":%.1f,\"load_ms\":%.1f,\"lookup_ns\":%.0f}\n", tenants, cells,
           bytes, (double)(t1 - t0) / 1e3, (double)(t2 - t1) / 1e3, (double)(t3 - t2) * 1e3 / LOOKUPS);
    return found != LOOKUPS;
}
