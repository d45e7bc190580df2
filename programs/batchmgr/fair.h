/* Whose file is inspected next, and which inspection makes room: decisions only, without a loop and without a clock.
 *
 * A tenant is charged for the seconds that it occupies inspectors, over its weight, while it does; who was charged least is next.
 * There are `n_lanes` inspectors for everybody and one more for a tenant that holds none. When all are held for longer than a slot,
 * the oldest inspection stands aside: it goes on, but its place is given away (up to FAIR_MAX_ASIDE of them). So a tenant that
 * holds nothing waits for a slot at most, unless more than n_lanes + 1 + FAIR_MAX_ASIDE tenants were quicker. */
#ifndef SIMBDP_BATCHMGR_FAIR_H
#define SIMBDP_BATCHMGR_FAIR_H

#include <stdbool.h>
#include <stdint.h>

enum { FAIR_SLOT_MS = 1000, FAIR_MAX_ASIDE = 8 };

struct fair_share { /* of a tenant */
    double used;    /* seconds over weight */
    int n_held;     /* inspectors */
};

struct fair_pool {
    int n_lanes, n_held, n_aside; /* n_aside: of those held */
};

/* Seconds of one inspector are charged. */
void fair_charge(struct fair_share *s, int64_t ms, int64_t weight);
/* A tenant that held and wanted nothing begins to: it starts level with the least of the others (NULL: there is none), so that
 * idling earns no credit. */
void fair_join(struct fair_share *s, const struct fair_share *least);
/* Whether the tenant may have an inspector now. */
bool fair_may_start(const struct fair_pool *p, const struct fair_share *s);
/* Whether a is served before b. */
bool fair_before(const struct fair_share *a, const struct fair_share *b);
/* Whether a tenant whose inspector is warm goes on, though `first` is before it: a little, since warming one up costs time. */
bool fair_goes_on(const struct fair_share *s, const struct fair_share *first);
/* Whether an inspection of this age stands aside for a tenant that waits and holds nothing. */
bool fair_stands_aside(const struct fair_pool *p, int64_t age_ms);
/* Whether it steps back (a lower priority) for the youngest inspection of another tenant; youngest_other_ms -1: there is none,
 * 0: one waits. */
bool fair_steps_back(int64_t age_ms, int64_t youngest_other_ms);

#endif
