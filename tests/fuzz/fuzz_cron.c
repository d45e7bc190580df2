/* Schedules of triggers: any text is refused with a reason, or has a next time, which lies ahead. The first byte chooses the zone.
 */
#include "conf/cron.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const zones[] = {"UTC", "Europe/Vienna", "Australia/Lord_Howe", ""};
    const int64_t now_ms = 1774746000000; /* the day before clocks change in Vienna */
    struct cron *c = NULL;
    struct err e = {0};
    if (!size)
        return 0;
    char *text = malloc(size);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = 0;
    if (cron_new(text, data[0] % 4 == 3 ? text : zones[data[0] % 4], &c, &e) == 0) {
        int64_t at_ms = now_ms;
        for (int i = 0; i < 3 && at_ms >= 0; i++) {
            int64_t next_ms = cron_next(c, at_ms);
            assert(next_ms == -1 || next_ms > at_ms);
            at_ms = next_ms;
        }
        cron_free(c);
    } else {
        assert(e.code == ERR_CONFIG && *e.msg && !c);
    }
    free(text);
    return 0;
}
