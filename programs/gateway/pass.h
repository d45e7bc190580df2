/* What gives somebody the right to go on reading for longer than a ticket lasts: it is shown to a keeper again and again, which
 * gives another one as long as account and token stand. Whoever logged in by the same token, or the same password of the same
 * account, shares one. */
#ifndef SIMBDP_GATEWAY_PASS_H
#define SIMBDP_GATEWAY_PASS_H

#include "base/map.h"

#include <stdbool.h>
#include <stdint.h>

struct gateway;
struct request;

/* How long after it ended, or what it allows was changed, a right is known to be over. */
enum { PASS_RENEW_MS = 5000 };

struct pass {
    struct passes *owner;
    char *key;    /* who it is: user, token, password */
    char *allows; /* role, tenant, verbs, datasets */
    char *ticket;
    int64_t renew_ms, until_ms; /* monotonic: when it is renewed, and over at the latest */
    int n_users;
    bool asked;
};

struct passes {
    struct gateway *g;
    struct map all;                                           /* key -> struct pass */
    void (*over)(void *arg, struct pass *p, const char *why); /* its users are to give it back; each once */
    void *arg;
};

/* Of who is logged in. Given back with pass_leave. */
struct pass *pass_take(struct passes *all, const struct request *rq);
void pass_leave(struct pass *p); /* NULL is fine */
/* The ticket was refused: it is looked at now. */
void pass_doubt(struct pass *p);
/* Renews those that are due. */
void passes_sweep(struct passes *all, int64_t now_ms);
void passes_fini(struct passes *all); /* no keeper is asked any more */

#endif
