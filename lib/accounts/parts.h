/* What the parts of lib/accounts share: the database and its statements. */
#ifndef SIMBDP_ACCOUNTS_PARTS_H
#define SIMBDP_ACCOUNTS_PARTS_H

#include "accounts.h"
#include "base/fd.h"

#include <sodium.h>
#include <sqlite3.h>

enum { SECRET_BYTES = 32, SECRET_HASH_BYTES = 32 };

struct accounts {
    sqlite3 *db;
    unsigned char ticket_key[crypto_auth_KEYBYTES];
};

/* keys/gateway.ticket, with a lock on it. A descriptor, or negative. tickets.c. */
int ticket_key_read(const struct home *h, unsigned char key[crypto_auth_KEYBYTES], struct err *e);

/* ---- statements; accounts.c ---- */

struct blob {
    const void *p;
    size_t n;
};
/* A statement with its values, of which `types` has a letter each: s text (NULL gives null), i int64_t (I: 0 gives null),
 * d double, b struct blob. All are borrowed until it is finalised. NULL: accounts_fail says why. */
sqlite3_stmt *accounts_query(struct accounts *a, const char *sql, const char *types, ...);
/* Runs one to its end. 0 or -EIO; sqlite3_changes tells what it did. */
int accounts_run(struct accounts *a, struct err *e, const char *sql, const char *types, ...);
/* Steps: 1 a row, 0 the end, -EIO. s NULL: it could not be made. */
int accounts_step(struct accounts *a, sqlite3_stmt *s, struct err *e);
int accounts_fail(struct accounts *a, struct err *e); /* -EIO */

static inline void statement_cleanup(sqlite3_stmt **s)
{
    sqlite3_finalize(*s);
}
#define AUTO_STATEMENT __attribute__((cleanup(statement_cleanup)))

/* ---- users.c ---- */

/* The columns that account_of_row reads, of `users u`. */
#define ACCOUNT_COLUMNS "u.id, u.name, u.role, u.tenant, u.password_at, u.disabled_at IS NULL, u.password"
enum { COL_ENABLED = 5, COL_PASSWORD, N_ACCOUNT_COLUMNS };
/* -EIO: the row cannot be what this version wrote. */
int account_of_row(sqlite3_stmt *s, struct account *ret, struct err *e);
/* Finds the user of the row's name or id. 1 found, 0 not, -EIO. *ret_enabled, ret_hash may be NULL. */
int user_find(struct accounts *a, bool by_id, const char *key, struct account *ret, bool *ret_enabled,
              char ret_hash[ACCOUNT_HASH_SIZE], struct err *e);

/* ---- tokens.c ---- */

/* The token of that id, its user with it. 1 found, 0 not, -EIO. *ret_live: neither revoked nor expired, and its user is enabled. */
struct token_found {
    struct account who;
    unsigned char hash[SECRET_HASH_BYTES];
    bool live;
    int64_t used_ms;
};
/* False: it is no token's text. */
bool token_parse(const char *token, char id[ACCOUNT_TOKEN_ID_SIZE], unsigned char secret[SECRET_BYTES]);
int token_find(struct accounts *a, const char *id, struct token_found *ret, struct err *e);

/* ---- passwords.c ---- */

/* Whether it is the password of which `hash` was kept. hash NULL: nobody's; takes as long. 1, 0, or -ENOMEM. */
int password_is(const char *password, const char *hash);

/* Characters of Crockford's alphabet, n - 1 of them, each drawn by itself. */
void draw_text(char *out, size_t n);

/* ---- failures.c ---- */

/* How long the next try has to wait; 0: it need not. account: as it was named, whether there is one or not. Negative: -EIO. */
int failures_wait_s(struct accounts *a, const char *account, const char *address, struct err *e);
/* Counts one. 0 or -EIO. */
int failures_add(struct accounts *a, const char *account, const char *address, struct err *e);
/* The account logged in from there. Failures of the address as a whole stay: else an account of one's own would clear them. */
void failures_forget(struct accounts *a, const char *account, const char *address);

#endif
