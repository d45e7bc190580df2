/* Streams and subscriptions, as the configuration wants them. */
#ifndef SIMBDP_BROKER_CONFIG_H
#define SIMBDP_BROKER_CONFIG_H

#include "broker.h"

/* Makes what is configured and not there. What is in the store but not in the configuration stays, and waits. TAKE c. Blocks. */
int config_apply(struct broker *b, struct conf *c, struct err *e);
/* Reads it again, and applies it. */
int config_reload(struct broker *b, struct err *e);
/* Peers may send frames up to what the largest message needs; larger ones end their connection. */
void config_limit_messages(struct broker *b);
/* Frees the record of a stream, and those of its subscriptions, none of which has a consumer any more. */
void config_forget(struct broker_stream *st);

#endif
