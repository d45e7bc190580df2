/* simbdp-webhook (programs/webhook/), which this keeper starts and talks to: packets of JSON that are never waited for. */
#ifndef SIMBDP_KEEPER_SENDER_H
#define SIMBDP_KEEPER_SENDER_H

#include "base/buf.h"
#include "base/err.h"
#include "host/home.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* One that does not run: {-1}. */
struct sender {
    int fd;
    pid_t pid;
};

/* uid: whose it becomes; -1: it stays ours. 0, or negative, and it does not run. */
int sender_start(struct sender *s, const struct home *h, int64_t uid, struct err *e);
bool sender_send(const struct sender *s, const char *text); /* false: it did not take it */
void sender_set_log(const struct sender *s, int fd);
bool sender_has_ended(struct sender *s); /* and is no more then */
void sender_stop(struct sender *s);      /* waits for its end */

/* A field `secret` (hex digits) of a file's content without the line's end, "" for path "". 0, or negative: it cannot be read, or
 * is empty. */
int sender_add_secret(const struct home *h, const char *path, struct buf *out, struct err *e);
/* A field `ca_pem` of a file's content, "" for path "". */
int sender_add_ca(const struct home *h, const char *path, struct buf *out, struct err *e);

#endif
