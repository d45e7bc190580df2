/* A ticket is one line of ASCII:
 *   1.<user's id>.<token's id, or ->.<when the password was set, or 0>.<until, both ms since the epoch>.<43 characters>
 * The last part is crypto_auth (HMAC-SHA-512-256) of what is before its dot, as base64url. What the account may is not in it: that
 * is read when it is opened, so that what was changed since holds.
 *
 * The key, keys/gateway.ticket, is 32 bytes. A file of another length (a crash while it was made) is made anew: what it vouched for
 * lasts a minute. It is locked while it is read or made, so that all programs have the same. */
#include "parts.h"

#include "base/clk.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

enum { MAC_CHARACTERS = 43 };
#define NO_TOKEN "-"

static int key_of_file(int fd, unsigned char key[crypto_auth_KEYBYTES])
{
    unsigned char got[crypto_auth_KEYBYTES + 1];
    while (flock(fd, LOCK_EX) < 0)
        if (errno != EINTR)
            return -errno;
    ssize_t n = pread(fd, got, sizeof got, 0);
    if (n != crypto_auth_KEYBYTES) {
        if (n < 0)
            return -errno;
        crypto_auth_keygen(got);
        if (ftruncate(fd, 0) < 0 || pwrite(fd, got, crypto_auth_KEYBYTES, 0) != crypto_auth_KEYBYTES || fsync(fd) < 0)
            return errno ? -errno : -EIO;
    }
    memcpy(key, got, crypto_auth_KEYBYTES);
    sodium_memzero(got, sizeof got);
    return 0;
}

int ticket_key_read(const struct home *h, unsigned char key[crypto_auth_KEYBYTES], struct err *e)
{
    AUTO_FD int fd = openat(h->dirfd, "keys/gateway.ticket", O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    int r = fd < 0 ? -errno : key_of_file(fd, key);
    return r < 0 ? err_sys(e, r, "cannot use %s/keys/gateway.ticket", h->path) : fd_take(&fd);
}

/* ---- tickets ---- */

static void mac_of(const struct accounts *a, const char *text, size_t n, char out[MAC_CHARACTERS + 1])
{
    unsigned char mac[crypto_auth_BYTES];
    crypto_auth(mac, (const unsigned char *)text, n, a->ticket_key);
    sodium_bin2base64(out, MAC_CHARACTERS + 1, mac, sizeof mac, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

int accounts_ticket(const struct accounts *a, const struct account *who, char ret[ACCOUNT_TICKET_MAX], struct err *e)
{
    char mac[MAC_CHARACTERS + 1];
    int64_t until_ms = clk_wall_ms() + ACCOUNT_TICKET_S * 1000;
    if (!who->user_id)
        return err_set(e, -EINVAL, "a ticket is for who logged in");
    if (who->until_ms && who->until_ms < until_ms)
        until_ms = who->until_ms;
    int n = snprintf(ret, ACCOUNT_TICKET_MAX, "1.%s.%s.%" PRId64 ".%" PRId64, who->user_id,
                     who->token_id ? who->token_id : NO_TOKEN, who->token_id ? 0 : who->password_ms, until_ms);
    mac_of(a, ret, (size_t)n, mac);
    snprintf(ret + n, ACCOUNT_TICKET_MAX - (size_t)n, ".%s", mac);
    return 0;
}

struct statement {
    char user_id[ID_SIZE], token_id[ACCOUNT_TOKEN_ID_SIZE];
    int64_t password_ms, until_ms;
};

/* What it says, once it is known to be ours. */
static bool read_statement(const char *text, struct statement *ret)
{
    int n = 0;
    return sscanf(text, "1.%26[0-9a-z].%12[0-9a-z-].%" SCNd64 ".%" SCNd64 "%n", ret->user_id, ret->token_id, &ret->password_ms,
                  &ret->until_ms, &n) == 4 &&
           text[n] == '.';
}

static bool is_ours(const struct accounts *a, const char *ticket)
{
    char mac[MAC_CHARACTERS + 1];
    size_t length = strnlen(ticket, ACCOUNT_TICKET_MAX);
    if (length >= ACCOUNT_TICKET_MAX || length <= MAC_CHARACTERS + 1 || ticket[length - MAC_CHARACTERS - 1] != '.')
        return false;
    mac_of(a, ticket, length - MAC_CHARACTERS - 1, mac);
    return sodium_memcmp(mac, ticket + length - MAC_CHARACTERS, MAC_CHARACTERS) == 0;
}

/* The clock may have been set back since: a ticket lasts no longer for that. */
static bool is_of_now(const struct statement *t)
{
    int64_t left_ms = t->until_ms - clk_wall_ms();
    return left_ms > 0 && left_ms <= ACCOUNT_TICKET_S * 1000;
}

/* 1: the account is as it was; 0: it is not; -EIO. */
static int find_holder(struct accounts *a, const struct statement *t, struct account *ret, struct err *e)
{
    struct token_found token = {0};
    bool ok = false;
    int found = strcmp(t->token_id, NO_TOKEN) != 0 ? token_find(a, t->token_id, &token, e)
                                                   : user_find(a, true, t->user_id, &token.who, &token.live, NULL, e);
    if (found > 0)
        ok =
            token.live && !strcmp(token.who.user_id, t->user_id) && (token.who.token_id || token.who.password_ms == t->password_ms);
    if (ok)
        *ret = token.who;
    else
        account_fini(&token.who);
    return found < 0 ? found : ok;
}

int accounts_ticket_open(struct accounts *a, const char *ticket, struct account *ret, struct err *e)
{
    struct statement t;
    int r = is_ours(a, ticket) && read_statement(ticket, &t) && is_of_now(&t) ? find_holder(a, &t, ret, e) : 0;
    return r < 0 ? r : r ? 0 : err_set(e, ERR_REFUSED, "no ticket, or one that holds no more");
}
