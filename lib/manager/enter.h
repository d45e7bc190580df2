/* Enters a manager's sandbox (lib/sandbox/manager_sandbox.h): collects the host paths that the configuration names (executables,
 * checkers, images, MongoDB's sockets), and notices when a reload names others. */
#ifndef SIMBDP_MANAGER_ENTER_H
#define SIMBDP_MANAGER_ENTER_H

#include "conf/conf.h"
#include "host/home.h"
#include "host/uid_block.h"

struct event_base;
struct outside;

/* Enters it, where root runs the home; else does nothing. Before there are threads and open directories. 0 or negative. */
int enter_room(struct home *h, const struct conf *c, enum uid_role role, struct outside **ret, struct err *e);
/* Where the configuration names a place that the room was made without, the loop is left, once what was answered is out: for a
 * program that is started again then. NULL: it has no room. */
void outside_leave(const struct outside *o, const struct home *h, const struct conf *c, struct event_base *base);
void outside_free(struct outside *o); /* NULL is fine */

#endif
