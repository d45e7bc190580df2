/* Where programs listen that tenants reach over ZeroMQ's protocol (zmtp/server.h), and which keys they have. On ipc the kernel says
 * whose process a peer is; on tcp it shows a CURVE key, and those are let in that `curve_keys` of a tenant's configuration lists,
 * or that were made for a run on a node of the cluster, as long as that goes on (host/run_key.h). What a peer writes in its
 * messages never counts. One thread, its loop. */
#ifndef SIMBDP_FRONT_ZNET_H
#define SIMBDP_FRONT_ZNET_H

#include "base/err.h"
#include "conf/conf.h"
#include "host/home.h"
#include "keeper.h"
#include "zmtp/server.h"

enum { ZNET_OF_TENANT = 512, ZNET_OF_PLATFORM = 8192 }; /* connections */

/* Filled by the caller up to `arg`, the rest by znet_start; zeroed before. */
struct znet {
    struct event_base *base;
    const struct home *home;
    const char *program; /* names the keys, the socket and the port */
    const struct zmtp_ops *ops;
    void *arg;
    struct zmtp_server *ipc, *tcp;     /* tcp: NULL without an address */
    char *ipc_endpoint, *tcp_endpoint; /* ipc://RUNTIME/<program>.ipc; tcp://ADDRESS:PORT */
    char server_public[41];            /* Z85, as in keys/<program>.curve, made when it is not there */
    struct curve_server curve;
    int ipc_fd, tcp_fd;
};

/* address: for tcp, "" for none. port: 0: the kept one, else any, which is kept. */
int znet_start(struct znet *z, const char *address, int64_t port, struct err *e);
void znet_stop(struct znet *z); /* zeroed is fine */
/* Bytes of a message, on both. */
void znet_limit(struct znet *z, size_t max_message);
/* For zmtp_ops.user_of_key: the id of the tenant that lists this key, or of whose run on a node it is. NULL: nobody's. Good until
 * the next call. Asks the keeper of a key that is not listed, and waits for it. */
const char *znet_user_of_key(const struct conf *c, struct keeper *k, const unsigned char key[CURVE_KEY], int *ret_max);
/* Whether a connection's key is a run's, and not listed by a tenant; then *ret says whose. */
bool znet_is_run(const struct conf *c, struct keeper *k, const struct zmtp_conn *conn, struct run_key *ret);
/* The operator, who may act for every tenant: root, or who the platform runs as. */
bool znet_is_platform(int64_t uid);

/* Strangers must not keep a program busy reading the ledger: the number of looks a second is bounded. */
struct znet_looks {
    int64_t second;
    int n;
};
bool znet_may_look(struct znet_looks *l);

#endif
