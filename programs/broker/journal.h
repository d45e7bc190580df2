/* The tenants' journals: logs/tenants/<tenant>/stream.jsonl, a line of JSON each, which the keeper writes. */
#ifndef SIMBDP_BROKER_JOURNAL_H
#define SIMBDP_BROKER_JOURNAL_H

#include "broker.h"

/* What was counted since the last interval, of each stream and subscription of which something was. */
void journal_interval(struct broker *b);
/* At most one a second of a stream: a publisher that runs wild must not fill the disk. The intervals count them all. */
void journal_breach(struct broker_stream *st, enum wire_code code, const char *detail);
/* A dead letter. Likewise bounded. */
void journal_dead(struct broker_sub *bs, const struct dead_letter *d);
/* The stream was cut off, or resumed, as st->cut_off says. app: whose rejects were too many, else NULL. */
void journal_cut_off(struct broker_stream *st, const char *app);
/* What the store had lost when it was opened. */
void journal_lost(struct broker_stream *st);

#endif
