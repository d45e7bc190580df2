/* How many files of a tenant may end refused. Each is a row of the ledger, a line of the log and a file in quarantine/, whatever
 * limits are agreed: REFUSALS_AT_ONCE, then REFUSALS_PER_S a second. A tenant that has used them up is slowed down: no more of its
 * names are taken than that. A decision only, without a clock. */
#ifndef SIMBDP_BATCHMGR_REFUSALS_H
#define SIMBDP_BATCHMGR_REFUSALS_H

#include <stdbool.h>
#include <stdint.h>

enum { REFUSALS_AT_ONCE = 2000, REFUSALS_PER_S = 10 };

struct refusals { /* of a tenant; all 0 at first */
    double n;     /* as of at_ms */
    int64_t at_ms;
    bool told;
};

void refusals_count(struct refusals *r, int64_t now_ms);
bool refusals_slow_down(struct refusals *r, int64_t now_ms);
/* Whether it is slowed down and that was not said yet; it is said again only after it had used less than half of them. */
bool refusals_must_tell(struct refusals *r, int64_t now_ms);

#endif
