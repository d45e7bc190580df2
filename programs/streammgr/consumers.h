/* What the broker sees of instances: who consumes, what they hold, who hangs; and that a message waits for an app without one. */
#ifndef SIMBDP_STREAMMGR_CONSUMERS_H
#define SIMBDP_STREAMMGR_CONSUMERS_H

#include "model.h"

#include "base/json.h"

/* An array of the broker's: one element for each session that consumes. Who is not in it has none. */
void consumers_see(struct streammgr *m, const bson_iter_t *consumers);
/* The broker is gone, and with it all sessions. */
void consumers_gone(struct streammgr *m);
/* A message waits for the app, and it has no instance. */
void consumers_activate(struct streammgr *m, const char *tenant, const char *app);

#endif
