#include "restart_delay.h"

enum { FIRST_DELAY_MS = 100, MAX_DELAY_MS = 60000 };

int64_t restart_delay_ms(int64_t failures, uint32_t random)
{
    int64_t delay = 0;
    for (int64_t k = 1; k < failures && delay < MAX_DELAY_MS; k++)
        delay = delay ? delay * 2 : FIRST_DELAY_MS;
    if (delay > MAX_DELAY_MS)
        delay = MAX_DELAY_MS;
    return delay / 2 + (int64_t)((uint64_t)(delay - delay / 2) * random >> 32);
}
