/* host:port as configurations and URLs have it. */
#ifndef SIMBDP_BASE_ADDRESS_H
#define SIMBDP_BASE_ADDRESS_H

#include <stddef.h>

enum { ADDRESS_HOST_SIZE = 256 };

struct address {
    char host[ADDRESS_HOST_SIZE]; /* a name or an address, without brackets */
    int port;
};

/* "host:port", "[address]:port" (IPv6), or without the port where default_port is not 0. n: length of the text. 0, or -EINVAL. */
int address_parse(const char *text, size_t n, int default_port, struct address *ret);

/* The hosts of a MongoDB URL, one call each: `path` is a Unix socket's, else `a` is where it listens. Returns how many there are,
 * or -EINVAL: it is no URL of that kind, or names a service record (mongodb+srv), whose hosts only DNS knows. */
int address_of_mongo(const char *url, void (*found)(void *arg, const struct address *a, const char *path), void *arg);

/* The same MongoDB URL for another user, whose account is in his own database. Hosts and options stay, except those that say how
 * somebody else logs in. user and secret must need no escaping in a URL. NULL: it is no such URL. The caller frees. */
char *address_mongo_as(const char *url, const char *user, const char *secret, const char *database);

#endif
