/* A peer's connection: for zmtp_ops. See session.c for what may go wrong with one. */
#ifndef SIMBDP_BROKER_SESSION_H
#define SIMBDP_BROKER_SESSION_H

#include "broker.h"

void session_on_open(void *broker, struct zmtp_conn *c);
void session_on_message(void *broker, struct zmtp_conn *c, struct zmtp_message *m);
void session_on_drain(void *broker, struct zmtp_conn *c);
void session_on_close(void *broker, struct zmtp_conn *c);
/* The broker ends. What consumers hold is not held against it. */
void session_end_all(struct broker *b);

#endif
