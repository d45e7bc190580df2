/* The broker's control socket. control.c says what may be asked. */
#ifndef SIMBDP_BROKER_CONTROL_H
#define SIMBDP_BROKER_CONTROL_H

#include "broker.h"

int control_start(struct broker *b, struct err *e);
void control_stop(struct broker *b); /* not started is fine */

#endif
