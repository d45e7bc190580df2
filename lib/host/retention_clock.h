/* The clock that retention goes by: calendar time, but for sudden jumps forward. A clock that is set a year ahead for some seconds
 * must not let a year's messages, files and rows expire. A leap is seen by comparing how far the calendar moved with how far the
 * time since boot did; from one start to the next a small file has the last values.
 *
 * A calendar that is ahead by more than RETENTION_CLOCK_LEAP_MS is not followed. The age goes on as time passes, until the calendar
 * has stayed ahead for RETENTION_CLOCK_SETTLED_MS, or somebody trusts it. A home that was down looks the same: its age is behind by
 * the time it was down, until then. A clock that is set back is followed: nothing expires early by that. */
#ifndef SIMBDP_HOST_RETENTION_CLOCK_H
#define SIMBDP_HOST_RETENTION_CLOCK_H

#include <stdint.h>

enum { RETENTION_CLOCK_LEAP_MS = 10 * 60 * 1000, RETENTION_CLOCK_SETTLED_MS = 24 * 60 * 60 * 1000 };

struct retention_clock {
    int dirfd;
    const char *file;     /* a smaller difference is no leap */
    int64_t at_ms;        /* since the epoch; 0: nothing was seen yet */
    int64_t boot_ms;      /* the time since boot then, sleep included */
    int64_t ahead_ms;     /* how far the calendar is ahead while it is not followed; else 0 */
    int64_t held_boot_ms; /* since when it is not followed */
    int64_t kept_ms;      /* as the file has it */
};

/* The decision alone, without clock or file. Returns the time to go by. */
int64_t retention_clock_step(struct retention_clock *a, int64_t boot_ms, int64_t wall_ms);

/* Reads the file. Borrows its arguments; blocks for small files. */
void retention_clock_init(struct retention_clock *a, int dirfd, const char *file);
/* The time to go by now. Logs when the calendar leaps and when it is followed again. */
int64_t retention_clock_now(struct retention_clock *a);
/* The calendar is right: it is followed from now on (`mysimbdp clock trust`). */
void retention_clock_trust(struct retention_clock *a);

#endif
