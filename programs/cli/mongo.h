/* Which MongoDB a home uses, and how to start the ones that are ours. */
#ifndef SIMBDP_CLI_MONGO_H
#define SIMBDP_CLI_MONGO_H

#include "conf/conf.h"
#include "host/home.h"

struct mongo_plan {
    const char *kind; /* url | mongod | embedded */
    char *url;        /* the platform's URL, which opens every database */
    char **argv;      /* the program to start; NULL for kind url. NULL-terminated, all owned */
    int listener;     /* kind embedded: the listening socket, which is kept here and given to the program as stdin; else -1 */
};

/* Chooses mongo_url of the configuration, else MONGO_URL, else mongod on PATH, else the embedded one. Chooses and keeps the port,
 * and writes keys/mongo/users and state/mongo.json. Errors say what is missing. */
int mongo_plan(const struct home *h, const struct conf *c, struct mongo_plan *ret, struct err *e);
bool mongo_port_is_free(int port);
void mongo_plan_free(struct mongo_plan *p);

#endif
