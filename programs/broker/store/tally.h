/* What a stream or a subscription counts for the bill, and how much of it its tenant's journal has been told.
 *
 * A tally is a record of the log (REC_TALLY), written with what it counts: after a kill both are there or neither is. The journal
 * is another file. So each of its lines has the tally's number of the line, which changes once the line is written; who is killed
 * in between writes a line with the same number again, with all that the first one had and more, and who adds up takes the last. */
#ifndef SIMBDP_STORE_TALLY_H
#define SIMBDP_STORE_TALLY_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

/* Messages: of a stream those published, of a subscription those acknowledged; bytes and rows are theirs. */
enum tally_count { TALLY_MESSAGES, TALLY_BYTES, TALLY_ROWS, TALLY_ERRORS, TALLY_DEAD, TALLY_REFUSED, N_TALLY };

struct tally {
    uint64_t v[N_TALLY], told[N_TALLY], line;
    bool changed; /* since it was recorded */
};

/* The next line has a number that no other had. */
void tally_next_line(struct tally *t);
/* All that is counted is told. */
void tally_told(struct tally *t);
uint64_t tally_untold(const struct tally *t, enum tally_count c);
bool tally_is_told(const struct tally *t);

/* The record's body, and what it says. */
void tally_record(const struct tally *t, uint32_t id, struct buf *out);
bool tally_load(struct tally *t, const unsigned char *p, size_t n); /* behind the id */

#endif
