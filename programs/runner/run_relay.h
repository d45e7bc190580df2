/* The outbound network of an isolated run, as its runner sees it: the namespace that the run is born in, and the relay that is
 * started when the run first connects somewhere. */
#ifndef SIMBDP_RUNNER_RUN_RELAY_H
#define SIMBDP_RUNNER_RUN_RELAY_H

#include "netns.h"

#include <poll.h>
#include <stdbool.h>
#include <sys/types.h>

struct run_relay {
    struct netns ns;
    int host;         /* our own network namespace, while we are in the run's; else -1 */
    int space;        /* the run's, which its first process has to go into by itself; -1: it is born there */
    pid_t relay;      /* 0: none */
    int leash;        /* its stdin */
    int64_t again_ms; /* not before then: the last one could not be started, or died */
};

/* Enters the network namespace of the run (`prepared`: one made ahead; -1: none) and opens its listeners. Writes dir/hosts, which
 * becomes /etc/hosts, where targets are given by name. Where there is no way back, since the host's network belongs to another user
 * namespace, a child does all that and this process stays where it is. 0, or -errno with what failed in `what`. run_relay_return
 * comes after it in any case. */
int run_relay_enter_network(struct run_relay *w, const struct run_spec *s, int prepared, int dirfd, char *what, size_t what_size);
/* Back to our own network: what was forked meanwhile stays in the run's. Ends the process if there is no way back. */
void run_relay_return(struct run_relay *w);

/* Adds what is to be polled (at most NETNS_MAX_LISTENERS); nothing while a relay has the listeners. Returns how many. */
int run_relay_poll(const struct run_relay *w, struct pollfd *p, int64_t now_ms);
/* Somebody connects: starts the relay. */
void run_relay_start(struct run_relay *w, const struct run_spec *s, int64_t now_ms);
/* Call it when some child ended, before anybody else reaps: if it was the relay, the next connection starts another. */
void run_relay_reap(struct run_relay *w, int64_t now_ms);
/* Kills and reaps the relay. */
void run_relay_stop(struct run_relay *w);
void run_relay_close(struct run_relay *w);

#endif
