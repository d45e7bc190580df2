/* The certificate that the gateway shows: the provider's, or one that it makes itself (EC P-256, ten years, for this host's name,
 * localhost and the address where it listens), which clients know by its fingerprint or take as their CA. */
#ifndef SIMBDP_GATEWAY_CERTIFICATE_H
#define SIMBDP_GATEWAY_CERTIFICATE_H

#include "base/err.h"

#include <gnutls/abstract.h>

enum { FINGERPRINT_SIZE = 96 }; /* "AB:CD:…", SHA-256 */

#define CERTIFICATE_FILE "keys/gateway.crt"
#define CERTIFICATE_KEY  "keys/gateway.key"

struct certificate;

/* Makes both files below the home where one of them is not there; 0600. host: where it listens. Blocks (0.01 s). 1: made; 0: they
 * were there. */
int certificate_make(int dirfd, const char *host, struct err *e);
/* From PEM: the chain, its first being the server's own, and the key. ERR_CONFIG: they are none, do not belong together, or the
 * certificate is out of date. Freed with certificate_free, once no connection uses it. */
int certificate_parse(const char *chain, size_t n_chain, const char *key, size_t n_key, struct certificate **ret, struct err *e);
void certificate_free(struct certificate *c); /* NULL is fine */
void certificate_fingerprint(const struct certificate *c, char ret[FINGERPRINT_SIZE]);
/* As gnutls_certificate_retrieve_function2 wants it; what is pointed to stays the certificate's. */
void certificate_show(const struct certificate *c, gnutls_pcert_st **chain, unsigned *n, gnutls_privkey_t *key);

#endif
