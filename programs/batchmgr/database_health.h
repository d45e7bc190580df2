/* Whether a MongoDB answers. One thread a URL pings it and reports to the loop; dispatch waits while it is down. */
#ifndef SIMBDP_BATCHMGR_DATABASE_HEALTH_H
#define SIMBDP_BATCHMGR_DATABASE_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

struct event_base;
struct health;
struct health_user;
struct identities;

/* on_change runs on the loop whenever the state changed or a check that was asked for was answered. */
struct health *health_new(struct event_base *base, const char *url, void (*on_change)(void *arg, struct health *h), void *arg);
void health_free(struct health *h); /* waits for the thread: at most about two seconds */

const char *health_url(const struct health *h);
/* Up: answers, and the users (if any) exist. Down before the first answer. *ret_why: for people. */
bool health_is_up(struct health *h, char *ret_why, int why_size);
/* Whether it was pinged at all, with whatever outcome. */
bool health_is_known(struct health *h);
/* Monotonic ms of the last failed ping, -1: none yet. */
int64_t health_last_down_ms(struct health *h);

/* Asks for a ping now; the number it gets. Answered when health_checked() reaches it. */
uint64_t health_check(struct health *h);
uint64_t health_checked(struct health *h);

/* The users that must exist (TAKE). They are made after the next successful ping. With `shared_ok`, a server that does
 * not let us is accepted: tenants then use the platform's URL. */
void health_set_users(struct health *h, struct health_user *users, int n, bool shared_ok);
/* A server of ours is up only when it also takes a write, tried every few seconds: one document of the database HEALTH_DATABASE
 * (database_mark.h), which tells whether it is the one that the home had, too. dirfd: the home's; borrowed. */
#define HEALTH_DATABASE "simbdp_platform"
void health_probe_writes(struct health *h, int dirfd);
/* A server that is not ours: while it is up, the databases on it that are wanted are looked at (database_identity.h; borrowed,
 * outlives h). on_change tells of those, too. */
void health_look_at_identities(struct health *h, struct identities *x);
/* A mongod that we started with --auth and that has no user yet lets a local client make the first one: this one. */
void health_set_admin(struct health *h, const char *user, const char *password);
/* True when tenants have users of their own there. */
bool health_users_made(struct health *h);

#endif
