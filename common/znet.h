/* What programs share that tenants reach over ZeroMQ: where they listen, and who a peer is. On ipc the kernel says whose process it
 * is (SO_PEERCRED, as ZeroMQ passes it on); on tcp a peer shows a CURVE key, and ZAP (rfc.zeromq.org/spec/27) lets in those that
 * `curve_keys` of a tenant's configuration lists. What a peer writes in its messages never counts. One thread, its loop. */
#ifndef SIMBDP_ZNET_H
#define SIMBDP_ZNET_H

#include "conf/conf.h"
#include "err.h"
#include "home.h"

#include <stdint.h>

struct event_base;
struct zev;

/* Filled by the caller up to `program`, the rest by znet_start; zeroed before. */
struct znet {
    struct event_base *base;
    const struct home *home;
    struct conf *const *conf; /* the one in force: read for each new peer */
    const char *program;      /* names the keys, the socket and the port */
    void *zmq;
    char server_public[41], server_secret[41]; /* keys/<program>.curve, made when it is not there */
    void *zap;
    struct zev *zap_zev;
};

int znet_start(struct znet *z, struct err *e);
void znet_stop(struct znet *z); /* after all sockets were closed: ends the ZeroMQ context. Zeroed is fine */

/* A socket of a ZeroMQ type with what all of them need: heartbeats, no linger, a time limit for handshakes, and CURVE on tcp. */
int znet_socket(struct znet *z, int type, bool is_tcp, void **ret, struct err *e);
/* ipc://RUNTIME/<program>.ipc, open to all local users; a new string in *ret_endpoint. */
int znet_bind_ipc(struct znet *z, void *socket, char **ret_endpoint, struct err *e);
/* tcp at the configured address: the configured port (0: none), else the kept one, else any, which is kept. */
int znet_bind_tcp(struct znet *z, void *socket, int64_t port, char **ret_endpoint, struct err *e);

/* What identifies the sender of a message (a zmq_msg_t), good until it is closed: on tcp a tenant's id, on ipc what the two below
 * read. NULL: nothing. */
const char *znet_peer(void *msg, bool is_tcp);
int64_t znet_peer_uid(const char *peer); /* ipc; -1: not known */
int64_t znet_peer_pid(const char *peer);

#endif
