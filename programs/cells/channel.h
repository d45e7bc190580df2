/* A connection, with TLS or without, that does not block; what was read and not used yet is kept with it. */
#ifndef SIMBDP_CELLS_CHANNEL_H
#define SIMBDP_CELLS_CHANNEL_H

#include <gnutls/gnutls.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CHANNEL_ROOM = 32768 };

struct channel {
    int fd;               /* -1: none */
    gnutls_session_t tls; /* NULL: none */
    size_t n;             /* of `in` */
    bool ended;           /* the other side sends no more */
    char in[CHANNEL_ROOM];
};

#define CHANNEL_PRIORITIES "SECURE128:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:%SERVER_PRECEDENCE"

/* Reads what is there, as far as there is room. 1: something came; 0: nothing now; -errno or -EPROTO: it is broken. */
int channel_fill(struct channel *c);
/* Whether bytes wait that poll does not know of. */
bool channel_has_more(const struct channel *c);
void channel_use(struct channel *c, size_t n); /* the first n bytes were used */
/* How many bytes of p were sent; 0: none now; -errno or -EPROTO. */
int64_t channel_send(struct channel *c, const char *p, size_t n);
/* All of it, until the deadline (clk_now_ms). 0, -ETIMEDOUT, or as above. */
int channel_send_all(struct channel *c, const char *p, size_t n, int64_t deadline_ms);
int channel_handshake(struct channel *c, int64_t deadline_ms); /* likewise; the session is set up */
/* Waits for events. 0, or -ETIMEDOUT. */
int channel_wait(const struct channel *c, short events, int64_t deadline_ms);
/* abort: the other side sees an error, and does not take what it has for all. */
void channel_close(struct channel *c, bool abort);
/* Ends what we send, and drops what still comes for a while, so that what was sent last is read. */
void channel_linger(struct channel *c, int64_t deadline_ms);

#endif
