/* What stream apps did in the last hours, for curves: a few figures of each, PAST_STEP_MS apart, and the last decisions how many
 * instances they should have. Bounded: PAST_APPS apps, each with PAST_BYTES; the app that is new takes the place of the one that
 * was active longest ago. It lies in a file that is mapped into memory, so it outlives this program and the gateway, but not the
 * host's next boot. No loop, no clock. */
#ifndef SIMBDP_MONITOR_PAST_H
#define SIMBDP_MONITOR_PAST_H

#include "base/buf.h"
#include "base/err.h"
#include "base/map.h"

#include <stdbool.h>
#include <stdint.h>

enum { PAST_STEP_MS = 10000, PAST_POINTS = 2160 /* six hours */, PAST_APPS = 256, PAST_DECISIONS = 64, PAST_REASON = 120 };

/* in_per_s, out_per_s: on average in a step; the others: the most that it was. NaN: unknown. */
struct past_figures {
    double in_per_s, out_per_s, waiting, oldest_age_s, instances, desired;
};

struct past_decision {
    int64_t at_wall_ms;
    int32_t before, desired;
    char reason[PAST_REASON];
};

struct past; /* of all apps */

/* Opens the file at path, or makes it; what lies there and is none of ours, or of another layout, is made anew. path NULL, or *e
 * filled: it is in memory alone. Never fails. Blocks for the disk. */
struct past *past_open(const char *path, struct err *e);
void past_close(struct past *p); /* NULL is fine */

/* wall_ms: calendar time. An app that is idle and has no place yet gets none. */
void past_add(struct past *p, const char *tenant, const char *app, int64_t wall_ms, const struct past_figures *f);
void past_decide(struct past *p, const char *tenant, const char *app, const struct past_decision *d);
/* What is no longer configured: its place is free. */
void past_forget(struct past *p, const char *tenant, const char *app);
/* Forgets all but those that are keys ("TENANT/APP") of the map. */
void past_keep(struct past *p, const struct map *apps);

/* Adds members of an open JSON object: "step_s", "points":[[seconds since the epoch, in_per_s, out_per_s, waiting, oldest_age_s,
 * instances, desired]], oldest first, and "decisions":[{"at","before","desired","reason"}], oldest first; those of since_ms and
 * later. */
void past_json(const struct past *p, const char *tenant, const char *app, int64_t since_ms, int64_t wall_ms, struct buf *out);

#endif
