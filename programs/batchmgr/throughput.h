/* How much of a tenant's came to a verdict in the last minutes. A decision without loop and clock; memory alone, so it begins anew
 * with the program. */
#ifndef SIMBDP_BATCHMGR_THROUGHPUT_H
#define SIMBDP_BATCHMGR_THROUGHPUT_H

#include <stddef.h>
#include <stdint.h>

enum { THROUGHPUT_SLOTS = 30, THROUGHPUT_SLOT_MS = 10000, THROUGHPUT_MS = THROUGHPUT_SLOTS * THROUGHPUT_SLOT_MS };

/* All zero: nothing yet. */
struct throughput {
    struct {
        int64_t number, files, rows; /* number: which THROUGHPUT_SLOT_MS of the clock it is of */
    } slots[THROUGHPUT_SLOTS];
};

/* Monotonic ms. */
void throughput_add(struct throughput *t, int64_t now_ms, int64_t files, int64_t rows);
/* A second, on average over the last THROUGHPUT_MS, or since since_ms where that is later; in whole slots. */
void throughput_per_s(const struct throughput *t, int64_t now_ms, int64_t since_ms, double *ret_files, double *ret_rows);

#endif
