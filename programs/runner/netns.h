/* The network of an isolated run: a namespace with nothing but its own loopback, in which listeners stand for what the run may
 * reach. Whoever connects to one of them is relayed to the real one from outside (programs/relay/); everything else has no route.
 *
 * A target keeps the address that it has outside, so that no URL has to be rewritten: one of 127.0.0.0/8 is there anyway, any other
 * address is given to the loopback interface, and a host name gets an address of 127.64.0.0/16 and a line of /etc/hosts. */
#ifndef SIMBDP_RUNNER_NETNS_H
#define SIMBDP_RUNNER_NETNS_H

#include "base/buf.h"
#include "run/spec.h"

#include <stdint.h>

enum { NETNS_MAX_LISTENERS = 32, NETNS_FIRST_FD = 64 /* listeners' descriptors are above that */ };

struct netns {
    int n;
    struct {
        int fd, target; /* index in the spec's targets */
    } listeners[NETNS_MAX_LISTENERS];
    int counters[2]; /* /proc/net/snmp and snmp6 of the namespace, held open; -1: none */
};

/* This process leaves its network namespace for a new one, whose loopback is up. 0 or -errno. CAP_SYS_ADMIN. Takes the kernel 0.7
 * ms. */
int netns_new(void);

/* In that namespace: opens a listener for each of the spec's targets, and adds what /etc/hosts has to say of them to `hosts`. 0, or
 * -errno with what failed in `what`. netns_close after it, also when it failed. */
int netns_open(struct netns *ret, const struct run_spec *s, struct buf *hosts, char *what, size_t what_size);

/* How many connections and datagrams had no route since the namespace was made. Works after its processes are gone, too. */
int64_t netns_refused(const struct netns *n);

void netns_close(struct netns *n);

#endif
