/* The server's side of CurveZMQ (rfc.zeromq.org/spec/26), with libsodium: a handshake of four commands, in which each side proves
 * that it has its secret key, and encryption of what follows. */
#ifndef SIMBDP_ZMTP_CURVE_H
#define SIMBDP_ZMTP_CURVE_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CURVE_KEY = 32,
    CURVE_BOX_OVERHEAD = 33, /* of a frame: "\7MESSAGE", nonce, flags, and what authenticates it */
};

struct curve_server {
    unsigned char public_key[CURVE_KEY], secret_key[CURVE_KEY];
};

enum curve_state { CURVE_HELLO, CURVE_INITIATE, CURVE_OPEN };

struct curve {
    unsigned char client_short[CURVE_KEY], server_short[CURVE_KEY], server_short_secret[CURVE_KEY];
    unsigned char client_key[CURVE_KEY]; /* its long-term one, once the handshake is over */
    unsigned char shared[CURVE_KEY];
    uint64_t sent, received; /* nonces: each larger than the last */
    enum curve_state state;
};

/* Takes a handshake command, name included. HELLO: appends WELCOME's body to `out`. INITIATE: *ret_metadata and *ret_n point into
 * p, which is decrypted in place; who calls decides about client_key, then asks for curve_ready. False: it is malformed, out of
 * order, or proves nothing. */
bool curve_handshake(struct curve *c, const struct curve_server *s, unsigned char *p, size_t n, struct buf *out,
                     const unsigned char **ret_metadata, size_t *ret_n);
void curve_ready(struct curve *c, const void *metadata, size_t n, struct buf *out);

/* A frame's body as a MESSAGE. flags: 1 more, 2 command. */
void curve_seal(struct curve *c, unsigned char flags, const void *p, size_t n, struct buf *out);
/* Opens one in place; *ret_flags and the body within p. False: it is not genuine, or is shown again. */
bool curve_unseal(struct curve *c, unsigned char *p, size_t n, unsigned char *ret_flags, unsigned char **ret_p, size_t *ret_n);

#endif
