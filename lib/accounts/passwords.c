/* Passwords as Argon2id strings (RFC 9106). What is guessed costs 64 MiB and 0.1 s; a password that we drew is kept with the least
 * cost there is, since its 130 bits are guessed by nobody, whatever a guess costs. */
#include "parts.h"

#include <errno.h>
#include <string.h>

_Static_assert(ACCOUNT_HASH_SIZE == crypto_pwhash_STRBYTES, "the size of an Argon2id string");

static const unsigned long long ops = crypto_pwhash_OPSLIMIT_INTERACTIVE;
static const size_t memory_bytes = crypto_pwhash_MEMLIMIT_INTERACTIVE;

/* Nobody's: drawn, not computed. Of the cost above. */
static const char nobodys[ACCOUNT_HASH_SIZE] =
    "$argon2id$v=19$m=65536,t=2,p=1$Se1K9GiXlwePlZL5wo1yBQ$6+o1krW6F676u42hs/nX0johsmoI5cl9Hq5wW0qz/lw";

static int verify(const char *hash, const char *password)
{
    errno = 0;
    if (crypto_pwhash_str_verify(hash, password, strlen(password)) == 0)
        return 1;
    return errno == EINVAL ? 0 : -ENOMEM; /* the library's way to say that it does not match */
}

int password_is(const char *password, const char *hash)
{
    bool too_long = strlen(password) > ACCOUNT_PASSWORD_MAX;
    const char *tried = too_long ? "" : password;
    if (!hash || too_long) {
        int r = verify(nobodys, tried);
        return r < 0 ? r : 0;
    }
    int r = verify(hash, tried);
    if (r >= 0 && crypto_pwhash_str_needs_rehash(hash, ops, memory_bytes) != 0 && verify(nobodys, tried) < 0) /* a drawn one */
        r = -ENOMEM;
    return r;
}

static size_t characters(const char *text)
{
    size_t n = 0, length = strlen(text);
    for (size_t at = 0; at < length; n++)
        at += utf8_len((const unsigned char *)text + at, length - at);
    return n;
}

int account_hash(const char *password, char ret[ACCOUNT_HASH_SIZE], struct err *e)
{
    size_t n = strlen(password);
    if (n > ACCOUNT_PASSWORD_MAX)
        return err_set(e, ERR_REFUSED, "a password has at most %d bytes", ACCOUNT_PASSWORD_MAX);
    if (!utf8_valid(password, n) || password[strcspn(password, "\r\n")])
        return err_set(e, ERR_REFUSED, "a password is one line of UTF-8");
    if (characters(password) < ACCOUNT_PASSWORD_MIN)
        return err_set(e, ERR_REFUSED, "a password has at least %d characters", ACCOUNT_PASSWORD_MIN);
    if (crypto_pwhash_str(ret, password, n, ops, memory_bytes) != 0)
        return err_sys(e, -ENOMEM, "cannot compute what is kept of a password");
    return 0;
}

void draw_text(char *out, size_t n)
{
    static const char alphabet[] = "0123456789abcdefghjkmnpqrstvwxyz";
    for (size_t i = 0; i + 1 < n; i++)
        out[i] = alphabet[randombytes_uniform(sizeof alphabet - 1)];
    out[n - 1] = 0;
}

int account_make_password(char ret[ACCOUNT_MADE_SIZE], char ret_hash[ACCOUNT_HASH_SIZE], struct err *e)
{
    draw_text(ret, ACCOUNT_MADE_SIZE);
    if (crypto_pwhash_str(ret_hash, ret, strlen(ret), crypto_pwhash_OPSLIMIT_MIN, crypto_pwhash_MEMLIMIT_MIN) != 0)
        return err_sys(e, -ENOMEM, "cannot compute what is kept of a password");
    return 0;
}
