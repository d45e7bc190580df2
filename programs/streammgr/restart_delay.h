#ifndef SIMBDP_STREAMMGR_RESTART_DELAY_H
#define SIMBDP_STREAMMGR_RESTART_DELAY_H

#include <stdint.h>

/* How long to wait before the next start after so many ends in a row: 0 after the first, then 100 ms, doubling up to a minute. The
 * upper half is taken at random (uniform in 32 bits), so that what failed together does not come back together. */
int64_t restart_delay_ms(int64_t failures, uint32_t random);

#endif
