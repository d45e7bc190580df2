/* The MongoDB of a home that is down: started without the rest of the platform, and stopped again. */
#ifndef SIMBDP_CLI_MONGO_ALONE_H
#define SIMBDP_CLI_MONGO_ALONE_H

#include "up_parts.h"

struct mongo_alone {
    struct up u; /* with one program, or none where the MongoDB is not ours to start; u.mongo is which one it is */
    int lock;    /* that of `up` */
};

/* Takes the lock of `up`, so that nobody starts the home meanwhile, chooses the MongoDB as `up` would, and starts it if it is the
 * home's own. own: the home's own one, although the configuration or MONGO_URL names another. Copies h, which stays the caller's
 * and open. It may not answer yet when this returns. 0, or negative; mongo_alone_stop in any case. */
int mongo_alone_start(struct mongo_alone *a, const struct home *h, struct conf *conf, bool own, struct err *e);
/* Whether it was started, and has ended by itself: logs/mongo.log says why. */
bool mongo_alone_has_died(struct mongo_alone *a);
/* Ends it and waits for that; gives the lock back. */
void mongo_alone_stop(struct mongo_alone *a);

#endif
