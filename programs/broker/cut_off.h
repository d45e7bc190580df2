/* Cutting a stream off: publishing is refused until the operator resumes it. For either of
 *   breaches of its limits   `breaches` within breach_window_s, where on_breach is "suspend"
 *   too many rejects         an app refused more than max_reject_pct of a minute's messages
 * What is cut off is kept in state/broker/cut_off.json, which is written before anybody is told: a restart changes nothing. */
#ifndef SIMBDP_BROKER_CUT_OFF_H
#define SIMBDP_BROKER_CUT_OFF_H

#include "broker.h"

/* A request broke a limit: written to the tenant's journal, and counted. */
void cut_off_count_breach(struct broker_stream *st, enum wire_code code, const char *detail);
/* Once a second: whether the subscription's app refuses too many of the stream's messages. */
void cut_off_look_at_rejects(struct broker_sub *bs);
/* The tenant's streams are open again. 0 or negative: this is not kept, and a restart cuts them off again. */
int cut_off_resume(struct broker *b, const char *tenant);
/* Reads what is kept. */
void cut_off_load(struct broker *b);

/* A stream that came from another home, where it was cut off: why, as a number of enum cut_off. */
void cut_off_as_before(struct broker_stream *st, uint32_t why);

#endif
