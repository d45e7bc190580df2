#include "names.h"

#include "base/buf.h"
#include "base/mem.h"

#include <gnutls/crypto.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

enum { MAX_NAME = 238, HEAD = 208, SHA1_BYTES = 20, MAX_DATABASE = 63 };

static bool is_plain(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr("-_.~", c));
}

char *names_escape(const char *collection)
{
    AUTO_BUF struct buf b = {0};
    unsigned char hash[SHA1_BYTES];
    char text[sodium_base64_ENCODED_LEN(SHA1_BYTES, sodium_base64_VARIANT_URLSAFE_NO_PADDING)];
    for (const unsigned char *p = (const unsigned char *)collection; *p; p++) {
        if (*p == ' ')
            buf_adds(&b, "+");
        else if (is_plain(*p))
            buf_add(&b, p, 1);
        else
            buf_addf(&b, "%%%02X", *p);
    }
    if (b.n <= MAX_NAME)
        return xstrndup(b.n ? b.p : "", b.n);
    gnutls_hash_fast(GNUTLS_DIG_SHA1, collection, strlen(collection), hash);
    sodium_bin2base64(text, sizeof text, hash, sizeof hash, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    return xasprintf("%.*s%%24%s", HEAD, b.p, text);
}

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

char *names_unescape(const char *file)
{
    AUTO_BUF struct buf b = {0};
    for (const char *p = file; *p; p++) {
        if (*p != '%') {
            buf_add(&b, *p == '+' ? " " : p, 1);
            continue;
        }
        const int high = digit(p[1]), low = high < 0 ? -1 : digit(p[2]);
        const char byte = (char)(high * 16 + low);
        if (low < 0 || !byte)
            return NULL;
        buf_add(&b, &byte, 1);
        p += 2;
    }
    return b.n && utf8_valid(b.p, b.n) ? xstrndup(b.p, b.n) : NULL;
}

bool names_is_cut(const char *file)
{
    return strlen(file) == MAX_NAME && strstr(file, "%24");
}

bool names_is_database(const char *name)
{
    const size_t n = strlen(name);
    return n && n <= MAX_DATABASE && !name[strcspn(name, "/\\. \"$")] && utf8_valid(name, n);
}

bool names_is_nobodys(const char *database)
{
    static const char *const theirs[] = {"admin", "config", "local", "simbdp_platform"};
    for (size_t i = 0; i < sizeof theirs / sizeof *theirs; i++)
        if (!strcmp(database, theirs[i]))
            return true;
    return false;
}

bool names_is_systems(const char *collection)
{
    return !strncmp(collection, "system.", strlen("system."));
}
