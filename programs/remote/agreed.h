/* What the agreement says against files, before anything of them is sent. The gateway says the same later, and is right. */
#ifndef SIMBDP_REMOTE_AGREED_H
#define SIMBDP_REMOTE_AGREED_H

#include "items.h"
#include "remote.h"

/* Asks for agreement and usage, and marks those files as failed that would be refused: for size, format, or what is left of today.
 * A token that may not read that checks nothing. 0, or the exit code after a complaint. */
int agreed_check(struct remote *r, const char *dataset, struct items *all);

/* The decision alone. agreement, usage: as the gateway answers. ERR_REFUSED: there is no such dataset. */
int agreed_mark(const bson_t *agreement, const bson_t *usage, const char *dataset, struct items *all, struct err *e);

#endif
