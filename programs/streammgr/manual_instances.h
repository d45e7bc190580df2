/* Instances with arguments of their own, `app start TENANT/APP -- ARGUMENT...`: each is an ask of a person's, beside the instances
 * that are scaled and not counted with them, within max_instances. An ask is there until the person stops it, or its instance ends
 * by itself, whatever its exit code: it is not restarted, parked, or replaced by another generation. What the platform does
 * (`down`, a suspended tenant, a killed runner, an instance that hung) does not end an ask: it gets another instance as soon as one
 * may be started. */
#ifndef SIMBDP_STREAMMGR_MANUAL_INSTANCES_H
#define SIMBDP_STREAMMGR_MANUAL_INSTANCES_H

#include "model.h"

#include "base/err.h"

struct run_result;

/* Takes up one that the book has. */
void ask_add(struct app *a, const char *id, const char *args);
/* A new one, and its instance. key: that it is asked for by, and none before was (ask_request.h); or NULL. Refusals: max_instances,
 * where there is no room for it; busy, unavailable and conflict, where it cannot be started now. */
int ask_start(struct app *a, const char *args, const char *key, const struct ask **ret, struct err *e);
/* Why one that has no instance has none; NULL: it is about to get one. */
const char *manual_instance_waits_for(struct app *a);
/* It is over; its instance, if there is one, is the caller's to stop. Nothing where there is no such ask. */
void ask_end(struct app *a, const char *id);
void manual_instances_end(struct app *a); /* all of the app's */
void manual_instances_free(struct app *a);
/* An instance of an ask ended: is that the ask's end, or is another to be started? */
void ask_note_end(struct app *a, const struct instance *i, const struct run_result *res);
/* The same of one that could not be started. */
void ask_note_cancelled(struct app *a, const struct instance *i, int64_t delay_ms);
/* Starts those that have no instance, and tells them to go where none is allowed. */
void manual_instances_reconcile(struct app *a);

#endif
