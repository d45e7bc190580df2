/* What the parts of the gateway share. All of it belongs to the loop. */
#ifndef SIMBDP_GATEWAY_GATEWAY_H
#define SIMBDP_GATEWAY_GATEWAY_H

#include "base/map.h"
#include "conf/conf.h"
#include "front/keeper.h"
#include "host/home.h"

#include <event2/event.h>

struct server;
struct spool;
struct resumables;
struct pool;
struct rates;
struct certificate;
struct ctl;
struct broker_link;
struct events;
struct platform_asked;

/* Keepers of the gateway. Tokens are looked at while a password is being tried, and both while somebody lists files. */
enum gateway_keeper {
    KEEPER_OF_TOKENS,
    KEEPER_OF_PASSWORDS,
    KEEPER_OF_AUDIT,
    KEEPER_OF_STORE,
    KEEPER_OF_FIGURES,
    KEEPER_OF_QUERIES,
    N_GATEWAY_KEEPERS = KEEPER_OF_QUERIES + 2
};
enum gateway_peer { PEER_batchmgr, PEER_streammgr, PEER_broker, PEER_monitor, N_PEERS };

struct gateway {
    struct home home;
    struct event_base *base;
    struct conf *conf;
    struct keeper *keepers[N_GATEWAY_KEEPERS];
    struct pool *peers[N_PEERS];
    struct broker_link *broker;
    struct server *server;
    struct spool *spool;
    struct resumables *resumables;
    struct rates *rates;
    struct certificate *certificates[2]; /* the one that is shown, and the one before it, which connections may still use */
    struct events *events;
    struct platform_asked *platform_asked;
    struct map uploads; /* account -> struct place (places.h) */
    struct ctl *ctl;
    char *url;
    size_t next_query;
};

/* Reads the configuration again; the limits of http are what they say from then on. */
int gateway_reload(struct gateway *g, struct err *e);

#endif
