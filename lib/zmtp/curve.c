#include "curve.h"

#include <assert.h>
#include <sodium.h>
#include <string.h>

enum { SHORT_NONCE = 8, LONG_NONCE = 16, MAC = crypto_box_MACBYTES, COOKIE = LONG_NONCE + MAC + 64 };

/* The handshake goes forward alone. */
static void set_state(struct curve *c, enum curve_state state)
{
    assert(state == c->state + 1);
    c->state = state;
}

static void put_u64(unsigned char *p, uint64_t v)
{
    for (int i = 7; i >= 0; i--, v >>= 8)
        p[i] = (unsigned char)v;
}

static uint64_t get_u64(const unsigned char *p)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++)
        v = v << 8 | p[i];
    return v;
}

/* prefix and what follows it: 24 bytes together. */
static void nonce_of(unsigned char out[crypto_box_NONCEBYTES], const char *prefix, const unsigned char *rest)
{
    size_t n = strlen(prefix);
    memcpy(out, prefix, n);
    memcpy(out + n, rest, crypto_box_NONCEBYTES - n);
}

/* version 1.0, 72 zeros, C', short nonce, Box[64 zeros](C'->S) */
static bool on_hello(struct curve *c, const struct curve_server *s, const unsigned char *p, size_t n, struct buf *out)
{
    unsigned char nonce[crypto_box_NONCEBYTES], zeros[64], rest[LONG_NONCE];
    if (n != 200 || p[6] != 1 || p[7] != 0)
        return false;
    memcpy(c->client_short, p + 80, CURVE_KEY);
    c->received = get_u64(p + 112);
    nonce_of(nonce, "CurveZMQHELLO---", p + 112);
    if (crypto_box_open_easy(zeros, p + 120, 64 + MAC, nonce, c->client_short, s->secret_key) != 0)
        return false;
    /* The cookie is for servers that keep nothing between the two commands. This one does, for a bounded number of connections: the
     * cookie is random. */
    unsigned char welcome[CURVE_KEY + COOKIE], box[sizeof welcome + MAC];
    crypto_box_keypair(c->server_short, c->server_short_secret);
    memcpy(welcome, c->server_short, CURVE_KEY);
    randombytes_buf(welcome + CURVE_KEY, COOKIE);
    randombytes_buf(rest, sizeof rest);
    nonce_of(nonce, "WELCOME-", rest);
    if (crypto_box_easy(box, welcome, sizeof welcome, nonce, c->client_short, s->secret_key) != 0)
        return false;
    buf_add(out, "\7WELCOME", 8);
    buf_add(out, rest, sizeof rest);
    buf_add(out, box, sizeof box);
    memcpy(c->shared, welcome + CURVE_KEY, CURVE_KEY); /* until there is a shared key: the cookie's beginning */
    set_state(c, CURVE_INITIATE);
    return true;
}

/* cookie, short nonce, Box[C, long nonce, Box[C', S](C->S'), metadata](C'->S') */
static bool on_initiate(struct curve *c, const struct curve_server *s, unsigned char *p, size_t n, const unsigned char **ret,
                        size_t *ret_n)
{
    enum { FIXED = 9 + COOKIE + SHORT_NONCE + MAC, VOUCH = CURVE_KEY + LONG_NONCE + MAC + 2 * CURVE_KEY };
    unsigned char nonce[crypto_box_NONCEBYTES], vouch[2 * CURVE_KEY];
    if (n < FIXED + VOUCH || sodium_memcmp(p + 9, c->shared, CURVE_KEY) != 0)
        return false;
    const uint64_t number = get_u64(p + 9 + COOKIE);
    nonce_of(nonce, "CurveZMQINITIATE", p + 9 + COOKIE);
    unsigned char *box = p + 9 + COOKIE + SHORT_NONCE;
    size_t n_plain = n - FIXED;
    if (number <= c->received || crypto_box_beforenm(c->shared, c->client_short, c->server_short_secret) != 0 ||
        crypto_box_open_detached_afternm(box + MAC, box + MAC, box, n_plain, nonce, c->shared) != 0)
        return false;
    const unsigned char *plain = box + MAC;
    memcpy(c->client_key, plain, CURVE_KEY);
    nonce_of(nonce, "VOUCH---", plain + CURVE_KEY);
    if (crypto_box_open_easy(vouch, plain + CURVE_KEY + LONG_NONCE, sizeof vouch + MAC, nonce, c->client_key,
                             c->server_short_secret) != 0 ||
        memcmp(vouch, c->client_short, CURVE_KEY) != 0 || memcmp(vouch + CURVE_KEY, s->public_key, CURVE_KEY) != 0)
        return false;
    c->received = number;
    *ret = plain + VOUCH;
    *ret_n = n_plain - VOUCH;
    set_state(c, CURVE_OPEN);
    return true;
}

bool curve_handshake(struct curve *c, const struct curve_server *s, unsigned char *p, size_t n, struct buf *out,
                     const unsigned char **ret_metadata, size_t *ret_n)
{
    *ret_metadata = NULL;
    if (c->state == CURVE_HELLO && n > 6 && !memcmp(p, "\5HELLO", 6))
        return on_hello(c, s, p, n, out);
    if (c->state == CURVE_INITIATE && n > 9 && !memcmp(p, "\10INITIATE", 9))
        return on_initiate(c, s, p, n, ret_metadata, ret_n);
    return false;
}

void curve_ready(struct curve *c, const void *metadata, size_t n, struct buf *out)
{
    unsigned char nonce[crypto_box_NONCEBYTES], number[SHORT_NONCE];
    put_u64(number, ++c->sent);
    nonce_of(nonce, "CurveZMQREADY---", number);
    buf_add(out, "\5READY", 6);
    buf_add(out, number, sizeof number);
    buf_reserve(out, n + MAC);
    unsigned char *box = (unsigned char *)out->p + out->n;
    crypto_box_easy_afternm(box, metadata, n, nonce, c->shared);
    out->n += n + MAC;
}

void curve_seal(struct curve *c, unsigned char flags, const void *p, size_t n, struct buf *out)
{
    unsigned char nonce[crypto_box_NONCEBYTES], number[SHORT_NONCE];
    put_u64(number, ++c->sent);
    nonce_of(nonce, "CurveZMQMESSAGES", number);
    buf_add(out, "\7MESSAGE", 8);
    buf_add(out, number, sizeof number);
    buf_reserve(out, n + 1 + MAC);
    unsigned char *box = (unsigned char *)out->p + out->n;
    box[MAC] = flags;
    if (n)
        memcpy(box + MAC + 1, p, n);
    crypto_box_detached_afternm(box + MAC, box, box + MAC, n + 1, nonce, c->shared);
    out->n += n + 1 + MAC;
}

bool curve_unseal(struct curve *c, unsigned char *p, size_t n, unsigned char *ret_flags, unsigned char **ret_p, size_t *ret_n)
{
    unsigned char nonce[crypto_box_NONCEBYTES];
    if (n < CURVE_BOX_OVERHEAD || memcmp(p, "\7MESSAGE", 8) != 0)
        return false;
    const uint64_t number = get_u64(p + 8);
    nonce_of(nonce, "CurveZMQMESSAGEC", p + 8);
    unsigned char *box = p + 16;
    if (number <= c->received || crypto_box_open_detached_afternm(box + MAC, box + MAC, box, n - 16 - MAC, nonce, c->shared) != 0)
        return false;
    c->received = number;
    *ret_flags = box[MAC];
    *ret_p = box + MAC + 1;
    *ret_n = n - CURVE_BOX_OVERHEAD;
    return true;
}
