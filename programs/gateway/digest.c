#include "digest.h"

#include "base/mem.h"

#include <sodium.h>
#include <string.h>

struct digest {
    bool has_256, has_512;
    unsigned char said_256[crypto_hash_sha256_BYTES], said_512[crypto_hash_sha512_BYTES];
    crypto_hash_sha256_state state_256;
    crypto_hash_sha512_state state_512;
};

/* A byte sequence of structured fields (RFC 8941, 3.3.5): `:base64:`. Behind it: its end, or a parameter or the next member. */
static const char *read_bytes(const char *p, unsigned char *out, size_t n)
{
    const char *end = *p == ':' ? strchr(p + 1, ':') : NULL;
    size_t got = 0;
    if (!end || sodium_base642bin(out, n, p + 1, (size_t)(end - p - 1), NULL, &got, NULL, sodium_base64_VARIANT_ORIGINAL) ||
        got != n)
        return NULL;
    return end + 1;
}

static const char *skip(const char *p, const char *chars)
{
    return p + strspn(p, chars);
}

/* A member of the dictionary. NULL: it is malformed. */
static const char *read_member(struct digest *d, const char *p)
{
    size_t n = strcspn(p, "= \t,");
    if (!n || p[n] != '=')
        return NULL;
    const char *value = p + n + 1;
    if (n == 7 && !strncmp(p, "sha-256", n)) {
        d->has_256 = true;
        return read_bytes(value, d->said_256, sizeof d->said_256);
    }
    if (n == 7 && !strncmp(p, "sha-512", n)) {
        d->has_512 = true;
        return read_bytes(value, d->said_512, sizeof d->said_512);
    }
    const char *end = *value == ':' ? strchr(value + 1, ':') : NULL;
    return end ? end + 1 : NULL;
}

static bool read_field(struct digest *d, const char *p)
{
    for (p = skip(p, " \t"); *p;) {
        p = read_member(d, p);
        if (!p)
            return false;
        p = skip(p, " \t");
        if (!*p)
            break;
        if (*p != ',')
            return false;
        p = skip(p + 1, " \t");
        if (!*p)
            return false;
    }
    return d->has_256 || d->has_512;
}

bool digest_parse(const char *field, struct digest **ret)
{
    *ret = NULL;
    if (!field)
        return true;
    struct digest *d = xcalloc(1, sizeof *d);
    crypto_hash_sha256_init(&d->state_256);
    crypto_hash_sha512_init(&d->state_512);
    if (!read_field(d, field)) {
        free(d);
        return false;
    }
    *ret = d;
    return true;
}

void digest_free(struct digest *d)
{
    free(d);
}

void digest_add(struct digest *d, const void *p, size_t n)
{
    if (d && d->has_256)
        crypto_hash_sha256_update(&d->state_256, p, n);
    if (d && d->has_512)
        crypto_hash_sha512_update(&d->state_512, p, n);
}

bool digest_fits(struct digest *d)
{
    unsigned char is_256[crypto_hash_sha256_BYTES], is_512[crypto_hash_sha512_BYTES];
    if (!d)
        return true;
    crypto_hash_sha256_final(&d->state_256, is_256);
    crypto_hash_sha512_final(&d->state_512, is_512);
    return (!d->has_256 || !memcmp(is_256, d->said_256, sizeof is_256)) &&
           (!d->has_512 || !memcmp(is_512, d->said_512, sizeof is_512));
}
