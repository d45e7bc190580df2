#include "address.h"
#include "buf.h"
#include "mem.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MONGO_PORT = 27017 };

static int parse_port(const char *text, size_t n)
{
    int port = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isdigit((unsigned char)text[i]) || port > 65535)
            return -1;
        port = port * 10 + (text[i] - '0');
    }
    return n && port > 0 && port < 65536 ? port : -1;
}

int address_parse(const char *text, size_t n, int default_port, struct address *ret)
{
    const char *end = text + n, *host = text, *host_end, *colon;
    if (n && *text == '[') {
        host = text + 1;
        host_end = memchr(host, ']', (size_t)(end - host));
        if (!host_end)
            return -EINVAL;
        colon = host_end + 1;
        if (colon < end && *colon != ':')
            return -EINVAL;
    } else {
        colon = memchr(text, ':', n);
        if (!colon)
            colon = end;
        host_end = colon;
        if (colon < end && memchr(colon + 1, ':', (size_t)(end - colon - 1)))
            return -EINVAL; /* IPv6 wants brackets */
    }
    size_t length = (size_t)(host_end - host);
    int port = colon < end ? parse_port(colon + 1, (size_t)(end - colon - 1)) : default_port;
    if (!length || length >= ADDRESS_HOST_SIZE || port <= 0)
        return -EINVAL;
    for (size_t i = 0; i < length; i++)
        if (!isalnum((unsigned char)host[i]) && !strchr(".-_:", host[i]))
            return -EINVAL;
    memcpy(ret->host, host, length);
    ret->host[length] = 0;
    ret->port = port;
    return 0;
}

/* In a URL the path of a Unix socket is percent-encoded, and ends with .sock. */
static int decode_path(const char *text, size_t n, char *ret, size_t size)
{
    size_t out = 0;
    for (size_t i = 0; i < n; i++) {
        char hex[3] = {0}, *end;
        if (out + 1 >= size)
            return -EINVAL;
        if (text[i] != '%') {
            ret[out++] = text[i];
            continue;
        }
        if (i + 2 >= n)
            return -EINVAL;
        memcpy(hex, text + i + 1, 2);
        ret[out++] = (char)strtol(hex, &end, 16);
        if (*end)
            return -EINVAL;
        i += 2;
    }
    ret[out] = 0;
    return 0;
}

int address_of_mongo(const char *url, void (*found)(void *arg, const struct address *a, const char *path), void *arg)
{
    static const char scheme[] = "mongodb://";
    if (strncmp(url, scheme, sizeof scheme - 1) != 0)
        return -EINVAL;
    const char *at = url + sizeof scheme - 1, *end = at + strcspn(at, "/?");
    for (const char *p = at; p < end; p++)
        if (*p == '@') /* a password has none of / ? @ unescaped */
            at = p + 1;
    int n = 0;
    for (const char *next; at < end; at = next + 1, n++) {
        struct address a;
        char path[ADDRESS_HOST_SIZE];
        next = memchr(at, ',', (size_t)(end - at));
        if (!next)
            next = end;
        size_t length = (size_t)(next - at);
        if (length > 3 && !strncasecmp(at, "%2f", 3)) {
            if (decode_path(at, length, path, sizeof path) < 0)
                return -EINVAL;
            found(arg, NULL, path);
        } else {
            if (address_parse(at, length, MONGO_PORT, &a) < 0)
                return -EINVAL;
            found(arg, &a, NULL);
        }
        if (next == end)
            return n + 1;
    }
    return n ? n : -EINVAL;
}

static bool is_of_login(const char *option, size_t n)
{
    static const char *const names[] = {"authSource=", "authMechanism=", "authMechanismProperties="};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (n >= strlen(names[i]) && !strncasecmp(option, names[i], strlen(names[i])))
            return true;
    return false;
}

static void add_escaped(struct buf *b, const char *text)
{
    for (const unsigned char *p = (const unsigned char *)text; *p; p++)
        if (isalnum(*p) || strchr("-._~", *p))
            buf_add(b, p, 1);
        else
            buf_addf(b, "%%%02X", *p);
}

char *address_mongo_as(const char *url, const char *user, const char *secret, const char *database)
{
    AUTO_BUF struct buf b = {0};
    const char *scheme_end = strstr(url, "://"), *hosts = scheme_end ? scheme_end + 3 : NULL;
    if (!hosts || (strncmp(url, "mongodb://", 10) && strncmp(url, "mongodb+srv://", 14)))
        return NULL;
    const char *end = hosts + strcspn(hosts, "/?"), *query = strchr(end, '?');
    buf_add(&b, url, (size_t)(hosts - url));
    for (const char *p = hosts; p < end; p++)
        if (*p == '@')
            hosts = p + 1;
    buf_addf(&b, "%s:%s@%.*s/", user, secret, (int)(end - hosts), hosts);
    add_escaped(&b, database);
    buf_adds(&b, "?authSource=");
    add_escaped(&b, database);
    for (const char *p = query ? query + 1 : ""; *p;) {
        size_t n = strcspn(p, "&;");
        if (n && !is_of_login(p, n))
            buf_addf(&b, "&%.*s", (int)n, p);
        p += n + (p[n] != 0);
    }
    return xstrdup(b.p);
}
