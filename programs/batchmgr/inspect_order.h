/* Whose file is inspected next, and which inspection makes room: decisions only, without a loop and without a clock.
 *
 * A tenant is charged for the seconds that it occupies inspectors, over its weight, while it does; who was charged least is next.
 * There are `n_lanes` inspectors for everybody and one more for a tenant that holds none. When all are held for longer than a slot,
 * the oldest inspection stands aside: it goes on, but its place is given away (up to INSPECT_ORDER_MAX_ASIDE of them). So a tenant
 * that holds nothing waits for a slot at most, unless more than n_lanes + 1 + INSPECT_ORDER_MAX_ASIDE tenants were quicker. */
#ifndef SIMBDP_BATCHMGR_INSPECT_ORDER_H
#define SIMBDP_BATCHMGR_INSPECT_ORDER_H

#include <stdbool.h>
#include <stdint.h>

enum { INSPECT_ORDER_SLOT_MS = 1000, INSPECT_ORDER_MAX_ASIDE = 8 };

struct inspect_share { /* of a tenant */
    double used;       /* seconds over weight */
    int n_held;        /* inspectors */
};

struct inspect_pool {
    int n_lanes, n_held, n_aside; /* n_aside: of those held */
};

/* Seconds of one inspector are charged. */
void inspect_order_charge(struct inspect_share *s, int64_t ms, int64_t weight);
/* A tenant that held and wanted nothing begins to: it starts level with the least of the others (NULL: there is none), so that
 * idling earns no credit. */
void inspect_order_join(struct inspect_share *s, const struct inspect_share *least);
/* Whether the tenant may have an inspector now. */
bool inspect_order_may_start(const struct inspect_pool *p, const struct inspect_share *s);
/* Whether a is served before b. */
bool inspect_order_before(const struct inspect_share *a, const struct inspect_share *b);
/* Whether a tenant whose inspector is warm goes on, though `first` is before it: a little, since warming one up costs time. */
bool inspect_order_goes_on(const struct inspect_share *s, const struct inspect_share *first);
/* Whether an inspection of this age stands aside for a tenant that waits and holds nothing. */
bool inspect_order_stands_aside(const struct inspect_pool *p, int64_t age_ms);
/* Whether it steps back (a lower priority) for the youngest inspection of another tenant; youngest_other_ms -1: there is none,
 * 0: one waits. */
bool inspect_order_steps_back(int64_t age_ms, int64_t youngest_other_ms);

#endif
