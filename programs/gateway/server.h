/* libmicrohttpd on the loop: connections, TLS, who is too slow. */
#ifndef SIMBDP_GATEWAY_SERVER_H
#define SIMBDP_GATEWAY_SERVER_H

#include "base/err.h"

struct gateway;
struct server;
struct certificate;

/* Bytes that a connection takes: this for its header and what is read of its body, and what TLS takes. */
enum { CONNECTION_MEMORY = 16 << 10 };

/* Listens at http.listen. cert NULL: without TLS. *ret_url (caller frees): as in state/endpoints.json. */
int server_start(struct gateway *g, const struct certificate *cert, char **ret_url, struct err *e);
/* Before it stops: sends what streams of events still have to say, for a second at most. NULL is fine. */
void server_finish(struct server *s);
/* Ends all connections and requests. NULL is fine. */
void server_stop(struct server *s);
/* Connections that are made from now on get it. The old one has to stay. */
void server_set_certificate(struct server *s, const struct certificate *cert);
/* Has the server look at requests that go on. */
void server_kick(struct server *s);

#endif
