/* Failed logins, by account and address and by address as a whole: how many, and when the last was. A row's key is a hash, since
 * what is typed as a name may be a password. Failures are forgotten steadily, one each FORGET_MS; so the number is no whole one.
 * When none are left the row goes.
 *
 * Who floods from many addresses makes at most MAX_ROWS of them: then the oldest go. An IPv6 address counts as its /64, which is
 * what one customer has at the least. */
#include "parts.h"

#include "base/clk.h"

#include <arpa/inet.h>
#include <math.h>
#include <string.h>

enum { PAIR_FREE = 5, ADDRESS_FREE = 50, MAX_WAIT_S = 300, MAX_SHIFT = 9, FORGET_MS = 300000, MAX_ROWS = 20000, KEY_BYTES = 16 };

struct keys {
    unsigned char pair[KEY_BYTES], address[KEY_BYTES];
};

static size_t network_of(const char *address, unsigned char out[16])
{
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
    unsigned char v6[16];
    if (inet_pton(AF_INET, address, out) == 1)
        return 4;
    if (inet_pton(AF_INET6, address, v6) != 1)
        return 0;
    bool is_v4 = !memcmp(v6, mapped, sizeof mapped);
    memcpy(out, v6 + (is_v4 ? 12 : 0), is_v4 ? 4 : 8);
    return is_v4 ? 4 : 8;
}

static void hash_of(const char *account, const char *address, unsigned char out[KEY_BYTES])
{
    crypto_generichash_state s;
    unsigned char network[16];
    size_t n = network_of(address, network);
    crypto_generichash_init(&s, NULL, 0, KEY_BYTES);
    if (account) /* with its final NUL */
        crypto_generichash_update(&s, (const unsigned char *)account, strlen(account) + 1);
    crypto_generichash_update(&s, (const unsigned char *)(account ? "\1" : "\2"), 1);
    crypto_generichash_update(&s, n ? network : (const unsigned char *)address, n ? n : strlen(address));
    crypto_generichash_final(&s, out, KEY_BYTES);
}

static struct keys keys_of(const char *account, const char *address)
{
    struct keys k = {0};
    hash_of(account, address, k.pair);
    hash_of(NULL, address, k.address);
    return k;
}

/* How many failures of a key counted when the last one was, and how long ago that is. */
static int read_row(struct accounts *a, const unsigned char key[KEY_BYTES], int64_t now_ms, double *ret_n, int64_t *ret_ago_ms,
                    struct err *e)
{
    AUTO_STATEMENT sqlite3_stmt *s =
        accounts_query(a, "SELECT n, at FROM failures WHERE key=?1", "b", (struct blob){key, KEY_BYTES});
    int r = accounts_step(a, s, e);
    *ret_n = 0;
    *ret_ago_ms = 0;
    if (r <= 0)
        return r;
    int64_t ago_ms = now_ms - sqlite3_column_int64(s, 1);
    *ret_n = sqlite3_column_double(s, 0);
    *ret_ago_ms = ago_ms > 0 ? ago_ms : 0; /* the clock may have been set back */
    return 0;
}

/* 0: it need not wait. */
static int wait_s(double n, int n_free, int64_t ago_ms)
{
    int beyond = (int)lround(n) - n_free;
    if (beyond < 0)
        return 0;
    int64_t whole_s = beyond < MAX_SHIFT ? INT64_C(1) << beyond : MAX_WAIT_S;
    int64_t left_ms = (whole_s < MAX_WAIT_S ? whole_s : MAX_WAIT_S) * 1000 - ago_ms;
    return left_ms > 0 ? (int)((left_ms + 999) / 1000) : 0;
}

int failures_wait_s(struct accounts *a, const char *account, const char *address, struct err *e)
{
    const struct keys k = keys_of(account, address);
    const int64_t now_ms = clk_wall_ms();
    int64_t ago_ms;
    double n;
    int r = read_row(a, k.pair, now_ms, &n, &ago_ms, e);
    int pair_s = wait_s(n, PAIR_FREE, ago_ms);
    if (r == 0)
        r = read_row(a, k.address, now_ms, &n, &ago_ms, e);
    int address_s = wait_s(n, ADDRESS_FREE, ago_ms);
    return r < 0 ? r : pair_s > address_s ? pair_s : address_s;
}

static int add_one(struct accounts *a, const unsigned char key[KEY_BYTES], int n_free, int64_t now_ms, struct err *e)
{
    int64_t ago_ms;
    double n;
    int r = read_row(a, key, now_ms, &n, &ago_ms, e);
    if (r < 0)
        return r;
    n = fmax(0, n - (double)ago_ms / FORGET_MS);
    n = fmin(n + 1, n_free + MAX_SHIFT); /* more would wait no longer */
    return accounts_run(a, e, "INSERT OR REPLACE INTO failures(key, n, at) VALUES(?1,?2,?3)", "bdi", (struct blob){key, KEY_BYTES},
                        n, now_ms);
}

static int prune(struct accounts *a, int64_t now_ms, struct err *e)
{
    const int64_t longest_ms = (int64_t)FORGET_MS * (ADDRESS_FREE + MAX_SHIFT);
    int r = accounts_run(a, e, "DELETE FROM failures WHERE at<?1", "i", now_ms - longest_ms);
    if (r == 0)
        r = accounts_run(
            a, e,
            "DELETE FROM failures WHERE key IN (SELECT key FROM failures ORDER BY at LIMIT max(0, (SELECT count(*) FROM "
            "failures)-?1))",
            "i", (int64_t)MAX_ROWS);
    return r;
}

int failures_add(struct accounts *a, const char *account, const char *address, struct err *e)
{
    const struct keys k = keys_of(account, address);
    const int64_t now_ms = clk_wall_ms();
    int r = accounts_begin(a, e);
    if (r < 0)
        return r;
    r = add_one(a, k.pair, PAIR_FREE, now_ms, e);
    if (r == 0)
        r = add_one(a, k.address, ADDRESS_FREE, now_ms, e);
    if (r == 0)
        r = prune(a, now_ms, e);
    if (r == 0)
        r = accounts_commit(a, e);
    if (r < 0)
        accounts_rollback(a);
    return r;
}

void failures_forget(struct accounts *a, const char *account, const char *address)
{
    const struct keys k = keys_of(account, address);
    int64_t ago_ms;
    double n;
    if (read_row(a, k.pair, clk_wall_ms(), &n, &ago_ms, NULL) == 0 && n > 0)
        accounts_run(a, NULL, "DELETE FROM failures WHERE key=?1", "b", (struct blob){k.pair, KEY_BYTES});
}
