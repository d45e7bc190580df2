/* The launcher's side of the wire to its pilots: ZMTP over TCP with CURVE, a message of one frame of text each way. A pilot is
 * known by the key that was made for it.
 *
 *   pilot     hello LEFT_S, then a line with each step that it has     every second; answered by ok
 *             began CLAIM, ended CLAIM, refused CLAIM                  it is on disk what that means
 *             bye                                                      it takes no more
 *   launcher  ok, run CLAIM, stop CLAIM, end                           end: once it has none */
#ifndef SIMBDP_SLURM_PILOT_LINK_H
#define SIMBDP_SLURM_PILOT_LINK_H

#include "base/err.h"

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pilot_link;
struct zmtp_conn;

struct pilot_link_ops {
    const char *(*pilot_of_key)(void *arg, const unsigned char key[32]);         /* its id; NULL: nobody's */
    void (*said)(void *arg, const char *pilot, struct zmtp_conn *c, char *text); /* may change the text */
    void (*closed)(void *arg, const char *pilot, struct zmtp_conn *c);
    void *arg;
};

/* Listens, and writes to `path` where. Keys are new ones each time. */
int pilot_link_new(struct event_base *base, const char *address, int port, const char *path, const struct pilot_link_ops *ops,
                   struct pilot_link **ret, struct err *e);
void pilot_link_free(struct pilot_link *k); /* NULL is fine */
/* False: it is not heard any more. */
bool pilot_link_say(struct zmtp_conn *c, const char *word, const char *claim);

#endif
