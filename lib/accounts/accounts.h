/* Who may use the platform over HTTP: users with passwords, and tokens that users have. They are in state/accounts.db, which the
 * command line changes and the gateway's keepers read; each call sees what is committed, so a revoked token is refused at once.
 *
 * Passwords are kept as Argon2id strings (RFC 9106, libsodium's crypto_pwhash_str), tokens as BLAKE2b-256 of their 32 random bytes.
 * Neither how long a login takes nor its answer says whether a user exists. A token is sbt_<id, 12 characters>_<43 of base64url>.
 *
 * Failed logins slow down whoever fails: per account and address from the sixth on, per address as a whole from the 51st on (an
 * IPv6 address counts as its /64). Each further one has to wait 1, 2, 4, … up to 300 s; meanwhile one is forgotten every 300 s.
 * What comes too early is not looked at, and does not count. An account as a whole is never slowed, so that no stranger locks its
 * owner out; nor is a token that is right, so that nobody's failures behind one proxy lock the others out who have tokens.
 *
 * Strings that are passed in are borrowed. A call blocks for other programs' commits, at most some seconds, and for a sync when it
 * writes. What is not said to give another code gives -EIO when the database cannot be read or written. */
#ifndef SIMBDP_ACCOUNTS_ACCOUNTS_H
#define SIMBDP_ACCOUNTS_ACCOUNTS_H

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "host/home.h"

#include <stdbool.h>
#include <stdint.h>

/* Each may do what those before it may; an operator, for every tenant. */
#define ACCOUNT_ROLES(X)                                                                                                           \
    X(tenant_reader, "tenant-reader")                                                                                              \
    X(tenant_writer, "tenant-writer") X(tenant_deployer, "tenant-deployer") X(operator, "operator")
enum role {
#define ROLE(name, text) ROLE_##name,
    ACCOUNT_ROLES(ROLE)
#undef ROLE
        N_ROLES
};

/* What is done: what a token's scope lists, and what a role allows. */
#define ACCOUNT_VERBS(X) X(read) X(upload) X(retry) X(delete) X(publish) X(run) X(deploy) X(admin)
enum verb {
#define VERB(name) VERB_##name,
    ACCOUNT_VERBS(VERB)
#undef VERB
        N_VERBS
};

enum {
    ACCOUNT_NAME_MAX = 64,
    ACCOUNT_TICKET_MAX = 2048,
    ACCOUNT_TICKET_S = 60,
    ACCOUNT_PASSWORD_MIN = 12,   /* characters */
    ACCOUNT_PASSWORD_MAX = 1024, /* bytes */
    ACCOUNT_MADE_SIZE = 27,      /* a password that was drawn: 26 characters, 130 bits */
    ACCOUNT_HASH_SIZE = 128,     /* crypto_pwhash_STRBYTES */
    ACCOUNT_TOKEN_ID_SIZE = 13,  /* 12 characters */
    ACCOUNT_TOKEN_SIZE = 4 + 12 + 1 + 43 + 1,
    ACCOUNT_DATASETS_MAX = 64, /* in a token's scope */
    ACCOUNT_NOTE_MAX = 200,    /* bytes */
};

/* Who somebody proved to be. Freed with account_fini. */
struct account {
    char *name;
    enum role role;
    char *tenant;        /* NULL: an operator's */
    char *token_id;      /* NULL: by password */
    uint32_t verbs;      /* bits 1 << enum verb: what role and scope allow */
    char **datasets;     /* NULL: all; ends with NULL */
    int64_t until_ms;    /* wall clock: when the token expires; 0: never */
    char *user_id;       /* another one when a user is removed and one of the same name added: for tickets */
    int64_t password_ms; /* wall clock: when the password was set: likewise */
};
void account_fini(struct account *a);
#define AUTO_ACCOUNT __attribute__((cleanup(account_fini)))
/* tenant NULL: of the platform as a whole. dataset NULL: the act is not about one; an account that is limited to some may not then,
 * except VERB_read. */
bool account_may(const struct account *a, enum verb verb, const char *tenant, const char *dataset);

const char *account_role_text(enum role role);
bool account_role_of(const char *text, enum role *ret);
const char *account_verb_text(enum verb verb);
bool account_verb_of(const char *text, enum verb *ret);
/* What a role allows, as bits. */
uint32_t account_role_verbs(enum role role);
/* [a-z0-9][a-z0-9._@-]*, at most ACCOUNT_NAME_MAX: no upper case, so that no two names look alike. */
bool account_valid_name(const char *name);

struct accounts;

/* Opens the database, which is made when there is none, and the key of tickets (keys/gateway.ticket, 0600, made likewise). */
/* Of `h` only path and dirfd are used, and not kept. ERR_VERSION: a newer version made it. sodium_init has to have been called
 * (home_open does). */
int accounts_open(const struct home *h, struct accounts **ret, struct err *e);
void accounts_close(struct accounts *a); /* NULL is fine */
AUTO_DEFINE(accounts, accounts_close)
#define AUTO_ACCOUNTS __attribute__((cleanup(accounts_close_auto)))

/* 0; ERR_REFUSED: who or what it is, is wrong, expired, revoked, disabled: the text does not say which; -EAGAIN: too many failures,
 * *ret_wait_s says how long to wait; else the database cannot be read. `address`: the peer's, as text. A password takes about 0.1 s
 * of computing and 64 MiB (-ENOMEM: they are not there). When a token was used last is noted at most once a minute. */
int accounts_login_token(struct accounts *a, const char *token, const char *address, struct account *ret, int *ret_wait_s,
                         struct err *e);
int accounts_login_password(struct accounts *a, const char *user, const char *password, const char *address, struct account *ret,
                            int *ret_wait_s, struct err *e);

/* A ticket says who somebody proved to be, for ACCOUNT_TICKET_S seconds: the gateway shows it to keepers that did not see the
 * login. It is authenticated (libsodium's crypto_auth) by a key that the gateway does not have. */
int accounts_ticket(const struct accounts *a, const struct account *who, char ret[ACCOUNT_TICKET_MAX], struct err *e);
/* ERR_REFUSED: it is none, is too old, or the account or token was disabled or revoked since. */
int accounts_ticket_open(struct accounts *a, const char *ticket, struct account *ret, struct err *e);

/* Changes, for the provider. Each is durable when it returns, unless it lies between accounts_begin and accounts_commit: then that
 * is, or none of them. Others' changes wait meanwhile. */
int accounts_begin(struct accounts *a, struct err *e);
int accounts_commit(struct accounts *a, struct err *e);
void accounts_rollback(struct accounts *a);

/* What is kept of a password; about 0.1 s. ERR_REFUSED: it is too short or too long, or no text. */
int account_hash(const char *password, char ret[ACCOUNT_HASH_SIZE], struct err *e);
/* Draws a password. What is kept of it costs next to nothing to compute, since nobody guesses 130 bits; logins with it take as long
 * as all. -ENOMEM. */
int account_make_password(char ret[ACCOUNT_MADE_SIZE], char ret_hash[ACCOUNT_HASH_SIZE], struct err *e);

/* Whether there may be such a user: ERR_USAGE as below. */
int accounts_user_check(const char *name, enum role role, const char *tenant, struct err *e);
/* tenant: NULL for an operator, and for no other role. -EEXIST; ERR_USAGE: the name is none, or role and tenant do not fit. */
int accounts_user_add(struct accounts *a, const char *name, enum role role, const char *tenant, const char *hash, struct err *e);
/* -ENOENT: no such user; likewise of the following. */
int accounts_user_password(struct accounts *a, const char *name, const char *hash, struct err *e);
int accounts_user_disable(struct accounts *a, const char *name, bool disabled, struct err *e);
/* Holds at once, also for tokens: what their scope has and the role has not is not allowed. ERR_USAGE: an operator's cannot become
 * a tenant's, or the other way round. */
int accounts_user_role(struct accounts *a, const char *name, enum role role, struct err *e);
int accounts_user_remove(struct accounts *a, const char *name, struct err *e); /* and his tokens */
/* As if he had logged in by password. Freed with account_fini. */
int accounts_user(struct accounts *a, const char *name, struct account *ret, struct err *e);
/* Appends a JSON array of all users, by name: name role tenant_id state tokens created_at password_at disabled_at. */
int accounts_users(struct accounts *a, struct buf *out, struct err *e);
/* Removes the tenant's users and their tokens. */
int accounts_tenant_remove(struct accounts *a, const char *tenant, int *ret_n_users, struct err *e);

struct account_scope {
    uint32_t verbs;              /* 0: what the role allows */
    const char *const *datasets; /* NULL: all; ends with NULL */
    int64_t until_ms;            /* wall clock; 0: no end */
    const char *note;            /* may be NULL */
};
/* -ENOENT: no such user. ERR_USAGE: the role does not allow a verb, a dataset's name is none or there are too many, the end has
 * passed, the note is too long. Tokens of the user's that ended more than 90 days ago are removed. */
int accounts_token_add(struct accounts *a, const char *user, const struct account_scope *scope, char ret_token[ACCOUNT_TOKEN_SIZE],
                       char ret_id[ACCOUNT_TOKEN_ID_SIZE], struct err *e);
/* A token for ACCOUNT_SESSION_S, by which a browser stays logged in: all that the role allows. Of a user's ACCOUNT_SESSIONS_MAX are
 * kept; the oldest is revoked. -ENOENT. */
enum { ACCOUNT_SESSION_S = 12 * 3600, ACCOUNT_SESSIONS_MAX = 16 };
int accounts_session_add(struct accounts *a, const char *user, char ret_token[ACCOUNT_TOKEN_SIZE],
                         char ret_id[ACCOUNT_TOKEN_ID_SIZE], struct err *e);
/* token: its id, or all of it. -ENOENT. What has ended already stays as it is. */
int accounts_token_revoke(struct accounts *a, const char *token, struct err *e);
/* Whose it is. Freed with account_fini. -ENOENT. */
int accounts_token(struct accounts *a, const char *token, struct account *ret, struct err *e);
/* Appends a JSON array of the user's tokens (NULL: of all users), oldest first: token_id user tenant_id state (active, expired,
 * revoked, disabled: the user is) verbs datasets created_at expires_at used_at used_from revoked_at note. */
int accounts_tokens(struct accounts *a, const char *user, struct buf *out, struct err *e);
/* The id of a token's text, also of one that is none of ours. False: it is no token's text. */
bool account_token_id(const char *token, char ret[ACCOUNT_TOKEN_ID_SIZE]);

#endif
