/* Whose image is unpacked next: decisions only, without a loop and without a clock.
 *
 * A tenant unpacks one image at a time, and is charged for the seconds that it takes; half of them are forgotten after
 * TURN_HALF_LIFE_S. Who was charged least is next. There are so many places (the host's cores), and TURN_SPARE more for tenants
 * that were charged little, so that those who take long hold up nobody else until there are more of them than all places. Whoever
 * was charged more than TURN_FREE_S waits between two images, the longer the more it was. */
#ifndef SIMBDP_MANAGER_IMAGE_ORDER_H
#define SIMBDP_MANAGER_IMAGE_ORDER_H

#include <stdbool.h>
#include <stdint.h>

enum { TURN_SPARE = 4, TURN_LITTLE_S = 10, TURN_FREE_S = 60, TURN_MAX_WAIT_S = 600, TURN_HALF_LIFE_S = 600 };

struct turn {                  /* of a tenant; all 0 at first */
    double used_s;             /* as of seen_ms */
    int64_t seen_ms, began_ms; /* began_ms: only while it is going */
    int64_t not_before_ms;
    bool is_going;
};

/* Seconds it is charged with now, what is going included. */
double turn_used_s(const struct turn *t, int64_t now_ms);
void turn_begin(struct turn *t, int64_t now_ms);
void turn_end(struct turn *t, int64_t now_ms);
/* Until the tenant may begin when n_going of n_places are taken: 0 now, -1 not before one of them ends. */
int64_t turn_wait_ms(const struct turn *t, int n_places, int n_going, int64_t now_ms);
/* Whether a is served before b. */
bool turn_before(const struct turn *a, const struct turn *b, int64_t now_ms);

#endif
