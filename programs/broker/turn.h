/* The loop's turn, and what is done at times. */
#ifndef SIMBDP_BROKER_TURN_H
#define SIMBDP_BROKER_TURN_H

#include "broker.h"

void turn_init(struct broker *b);  /* broker_turn_soon works from here on */
void turn_start(struct broker *b); /* and the clock ticks */
void turn_fini(struct broker *b);

#endif
