/* The time that retention goes by. It is the calendar's, but for leaps: a clock that is set a year ahead for some seconds must not
 * make a year's messages, files and rows go. What is seen is how the calendar moves against the time since boot; from one start to
 * the next, what a small file says.
 *
 * Who is ahead by more than AGE_LEAP_MS is not followed: the age goes on as time passes, until the calendar has stayed ahead for
 * AGE_SETTLED_MS, or somebody trusts it. A home that was down is behind by as long, until then. A clock that is set back is
 * followed: nothing expires early by it. */
#ifndef SIMBDP_HOST_AGE_H
#define SIMBDP_HOST_AGE_H

#include <stdint.h>

enum { AGE_LEAP_MS = 10 * 60 * 1000, AGE_SETTLED_MS = 24 * 60 * 60 * 1000 };

struct age {
    int dirfd;
    const char *file;     /* below it */
    int64_t at_ms;        /* since the epoch; 0: nothing was seen yet */
    int64_t boot_ms;      /* when that was, since boot, sleep included */
    int64_t ahead_ms;     /* how far the calendar is ahead while it is not followed; else 0 */
    int64_t held_boot_ms; /* since when it is not */
    int64_t kept_ms;      /* what the file says */
};

/* The decision alone. Gives the time to go by. */
int64_t age_step(struct age *a, int64_t boot_ms, int64_t wall_ms);

/* Reads the file. Borrows both; blocks for small files. */
void age_init(struct age *a, int dirfd, const char *file);
/* The time to go by now. Logs when the calendar leaps and when it is followed again. */
int64_t age_now(struct age *a);
/* The calendar is right. */
void age_trust(struct age *a);

#endif
