/* Who is told of an alert: its command (alert_commands.h), and its webhook through simbdp-webhook, a program of its own beside the
 * keeper. Silences (host/silences.h) come before both: what begins while it is silenced is told when the silence ends, if it still
 * fires then; the end of what was told is always told. */
#ifndef SIMBDP_KEEPER_ALERT_CALLS_H
#define SIMBDP_KEEPER_ALERT_CALLS_H

#include "conf/conf.h"
#include "host/home.h"

struct alert_calls;

struct alert_calls *alert_calls_new(const struct home *h);
void alert_calls_free(struct alert_calls *a); /* commands that run are killed, simbdp-webhook is waited for; NULL is fine */

/* The webhooks of another configuration, which stays the caller's. Reads their secrets. */
void alert_calls_set_conf(struct alert_calls *a, const struct conf *c);
/* An alert that begins or ends: an object with alert, state, tenant_id and app, else nothing is done. Never blocks for long. */
void alert_calls_tell(struct alert_calls *a, const struct conf_alert *al, const char *json);
void alert_calls_alive(struct alert_calls *a);
/* Where the log goes now. */
void alert_calls_set_log(struct alert_calls *a, int fd);

/* Commands that ended, silences that did, and simbdp-webhook when it did. */
void alert_calls_tick(struct alert_calls *a);
/* Whether the tick has to come although nothing else happens. */
bool alert_calls_need_tick(const struct alert_calls *a);

#endif
