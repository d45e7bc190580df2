/* The quality figures of a stream app's messages in one UTC day: what files have in `quality`. An instance gathers them
 * (lib/load/quality_log.h) and keeps them as text; instances of an app and what is left of those that ended are added up. */
#ifndef SIMBDP_READ_QUALITY_H
#define SIMBDP_READ_QUALITY_H

#include "figures.h"

/* A day's text is not longer. */
enum { QUALITY_MAX_BYTES = 28 << 10 };

struct quality {
    int64_t day;                     /* as clk_day has it */
    int64_t messages, rows, rejects; /* read, also again; rows: of those that were good; rejects: those that were refused */
    int64_t until_ms;                /* when the last of them was published */
    struct figures *figures;
};

void quality_init(struct quality *q, int64_t day);
void quality_fini(struct quality *q);

/* Appends it as a JSON object. */
void quality_keep(const struct quality *q, struct buf *out);
/* Adds what was kept, by anybody. False: it is of another day than q->day. */
bool quality_add_kept(struct quality *q, const bson_t *kept);
int64_t quality_day(const bson_t *kept); /* -1: it is none */

/* As people see it: a JSON object like the quality of a file. */
void quality_show(const struct quality *q, const char *key, struct buf *out);

#endif
