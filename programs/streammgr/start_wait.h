/* Orders to start an app that came before MongoDB was looked at for the first time, soon after `up`: they wait for that, so that
 * nobody has to ask again. Each waits START_WAIT_MS at most; then it is answered as things are. */
#ifndef SIMBDP_STREAMMGR_START_WAIT_H
#define SIMBDP_STREAMMGR_START_WAIT_H

#include "base/json.h"

#include <stdbool.h>

struct streammgr;
struct ctl_conn;

enum { START_WAIT_MS = 8000, START_WAIT_MAX = 64 };

/* Serves such an order, which is not to wait again, and answers it. */
typedef void start_wait_fn(struct streammgr *m, struct ctl_conn *c, const bson_t *rq);

/* True: it waits, and `fn` is called on the loop; rq is copied. False: its tenant's database was looked at, or START_WAIT_MAX
 * orders wait already. */
bool start_wait(struct streammgr *m, struct ctl_conn *c, const bson_t *rq, start_wait_fn *fn);
/* Nobody is answered any more. */
void start_wait_stop(void);

#endif
