/* Without root: a user namespace of the home's, in which the user is root and his subordinate ids (subuid(5), newuidmap(1)) are 1,
 * 2, 3 and so on. So tenants get uids of their own, as with root.
 *
 * state/userns.json keeps the ids that a home was first started with, since its files belong to them. */
#ifndef SIMBDP_HOST_USERNS_H
#define SIMBDP_HOST_USERNS_H

#include "home.h"

#include <stdint.h>

/* What is mapped: 0 to the user and his group, 1 and up to his subordinate ids. */
struct userns_map {
    int64_t uid, subuid, n_subuids, gid, subgid, n_subgids;
};

enum userns_kind {
    USERNS_ROOT,  /* this is root: no namespace is needed */
    USERNS_THERE, /* it was tried, and works */
    USERNS_NO_IDS,
    USERNS_NONE,
};

struct userns_host {
    enum userns_kind kind;
    struct userns_map map; /* with USERNS_THERE */
    char why[256];         /* with the last two: why not, and what to do; else "" */
    char remedy[256];
};

/* What this user can have on this host. Blocks for some milliseconds. */
void userns_look(struct userns_host *ret);

/* Whether this process is in the user namespace that the home at `path` was first started with. If so, *ret is what is mapped. */
bool userns_is_inside(const char *path, struct userns_map *ret);

/* Of a home that was started without root: the uid of its user on the host. Else -1. */
int64_t userns_owner(const char *path);

/* Refuses real root (and root of another user namespace) where a home's files belong to a user and his subordinate ids. */
int userns_admit(const char *path, struct err *e);

/* Without root, and with subordinate ids: puts this process into the home's user namespace, and into a mount namespace of its own.
 * If processes of the home live in such a namespace, that one is joined. 0 also when nothing had to or could be done: geteuid()
 * tells. Fails where the home cannot be used without its ids. To be called before the process has threads. Blocks. */
int userns_enter(const char *path, struct err *e);

#endif
