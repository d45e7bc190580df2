#include "link.h"

#include "base/fd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static int connect_to(struct channel *c, const struct addrinfo *a, int64_t deadline_ms)
{
    int error = 0, one = 1;
    socklen_t n = sizeof error;
    c->fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->fd < 0)
        return -errno;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(c->fd, a->ai_addr, a->ai_addrlen) == 0)
        return 0;
    int r = errno == EINPROGRESS ? channel_wait(c, POLLOUT, deadline_ms) : -errno;
    if (r == 0 && (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0 || error))
        r = error ? -error : -errno;
    if (r < 0)
        channel_close(c, false);
    return r;
}

static int reach(struct channel *c, const struct cells_cell *cell, int64_t deadline_ms, struct err *e)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG}, *found = NULL;
    char service[16];
    snprintf(service, sizeof service, "%d", cell->at.at.port);
    int r = getaddrinfo(cell->at.at.host, service, &hints, &found);
    if (r)
        return err_set(e, -ENOENT, "the name %s is not known: %s", cell->at.at.host, gai_strerror(r));
    r = -EADDRNOTAVAIL;
    for (const struct addrinfo *a = found; a && r < 0; a = a->ai_next)
        r = connect_to(c, a, deadline_ms);
    freeaddrinfo(found);
    return r < 0 ? err_sys(e, r, "cannot connect to %s", cell->url) : 0;
}

static bool has_pin(gnutls_session_t tls, const char *pin)
{
    unsigned n = 0;
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(tls, &n);
    unsigned char hash[32];
    char hex[CELLS_PIN_SIZE];
    if (!chain || !n || gnutls_hash_fast(GNUTLS_DIG_SHA256, chain[0].data, chain[0].size, hash) < 0)
        return false;
    sodium_bin2hex(hex, sizeof hex, hash, sizeof hash);
    return !strcmp(hex, pin);
}

static bool is_address(const char *host)
{
    unsigned char room[16];
    return inet_pton(AF_INET, host, room) == 1 || inet_pton(AF_INET6, host, room) == 1;
}

static int secure(struct channel *c, const struct cells_cell *cell, gnutls_certificate_credentials_t authorities,
                  int64_t deadline_ms, struct err *e)
{
    const char *host = cell->at.at.host;
    if (gnutls_init(&c->tls, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) < 0)
        return err_set(e, -ENOMEM, "no memory for TLS");
    gnutls_priority_set_direct(c->tls, CHANNEL_PRIORITIES, NULL);
    gnutls_credentials_set(c->tls, GNUTLS_CRD_CERTIFICATE, authorities);
    gnutls_transport_set_int(c->tls, c->fd);
    if (!is_address(host))
        gnutls_server_name_set(c->tls, GNUTLS_NAME_DNS, host, strlen(host));
    if (!*cell->pin)
        gnutls_session_set_verify_cert(c->tls, host, 0);
    int r = channel_handshake(c, deadline_ms);
    if (r < 0)
        return err_set(e, r == -EPROTO ? ERR_REFUSED : r, "no TLS with %s (another certificate, or another protocol)", cell->url);
    if (*cell->pin && !has_pin(c->tls, cell->pin))
        return err_set(e, ERR_REFUSED, "the certificate of %s is not the one that the map pins", cell->url);
    return 0;
}

int link_open(struct channel *c, const struct cells_cell *cell, gnutls_certificate_credentials_t authorities, int64_t deadline_ms,
              struct err *e)
{
    c->fd = -1;
    c->tls = NULL;
    c->n = 0;
    c->ended = false;
    int r = reach(c, cell, deadline_ms, e);
    if (r == 0 && cell->at.tls)
        r = secure(c, cell, authorities, deadline_ms, e);
    if (r < 0)
        channel_close(c, false);
    return r;
}
