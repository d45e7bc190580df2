/* How many requests an account may make: a token bucket each, which holds a second's worth. */
#ifndef SIMBDP_GATEWAY_RATES_H
#define SIMBDP_GATEWAY_RATES_H

#include <stdbool.h>
#include <stdint.h>

struct rates;

/* per_s: requests a second; negative: as many as it likes. */
struct rates *rates_new(int64_t per_s);
void rates_free(struct rates *r); /* NULL is fine */
void rates_set(struct rates *r, int64_t per_s);
/* False: not now; *ret_wait_s: whole seconds, at least 1. */
bool rates_take(struct rates *r, const char *account, int64_t now_ms, int64_t *ret_wait_s);
/* Forgets accounts that are full again. */
void rates_sweep(struct rates *r, int64_t now_ms);

#endif
