/* The runner's side of an isolated run's network: the namespace that the run is born in, and the relay that is started when the
 * run first connects somewhere. */
#ifndef SIMBDP_RUNNER_WAY_OUT_H
#define SIMBDP_RUNNER_WAY_OUT_H

#include "netns.h"

#include <poll.h>
#include <stdbool.h>
#include <sys/types.h>

struct way_out {
    struct netns ns;
    int host;         /* our own network namespace, while we are in the run's; else -1 */
    int space;        /* the run's, which its first process has to go into by itself; -1: it is born there */
    pid_t relay;      /* 0: none */
    int leash;        /* its stdin */
    int64_t again_ms; /* not before then: the last one could not be started, or died */
};

/* Goes into the network of the run: `prepared` (-1: none) is a namespace that was made ahead. Opens its listeners; a file of
 * /etc/hosts is written to dir/hosts where names need it. Where there would be no way back (the host's network is of another user
 * namespace than ours), all that is done by a child, and we stay. 0, or -errno with what failed in `what`. way_out_return comes
 * after it in any case. */
int way_out_enter(struct way_out *w, const struct run_spec *s, int prepared, int dirfd, char *what, size_t what_size);
/* Back to our own network: what was forked meanwhile stays in the run's. Ends the process if there is no way back. */
void way_out_return(struct way_out *w);

/* Adds what is to be polled (at most NETNS_MAX_LISTENERS); nothing while a relay has the listeners. Returns how many. */
int way_out_poll(const struct way_out *w, struct pollfd *p, int64_t now_ms);
/* Somebody connects: starts the relay. */
void way_out_start_relay(struct way_out *w, const struct run_spec *s, int64_t now_ms);
/* Some child of ours ended: if it was the relay, the next connection starts another. Before anybody else reaps. */
void way_out_reap(struct way_out *w, int64_t now_ms);
/* Kills and reaps the relay. */
void way_out_stop_relay(struct way_out *w);
void way_out_close(struct way_out *w);

#endif
