/* state/accounts.db, SQLite in WAL mode, each commit synced:
 *   users      name, role, tenant, Argon2id string
 *   tokens     BLAKE2b-256 of the secret, scope, end, last use; they go with their user
 *   failures   failed logins (failures.c)
 * Several programs write: the command line, and the gateway's keepers (failures, last use). What is read is what was committed
 * last, since nothing of it is kept in memory. A database that is gone is made anew, empty: then nobody can log in. */
#include "parts.h"

#include "base/clk.h"
#include "base/log.h"
#include "db/db.h"
#include "db/versions.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>

enum { BUSY_MS = 5000, USED_EVERY_MS = 60000 };

static const char schema[] =
    "CREATE TABLE IF NOT EXISTS users(id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, role TEXT NOT NULL, "
    "tenant TEXT, password TEXT NOT NULL, created_at INTEGER NOT NULL, password_at INTEGER NOT NULL, "
    "disabled_at INTEGER) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS tokens(id TEXT PRIMARY KEY, user TEXT NOT NULL REFERENCES users(id) ON DELETE "
    "CASCADE, secret BLOB NOT NULL, verbs TEXT, datasets TEXT, created_at INTEGER NOT NULL, expires_at INTEGER, "
    "used_at INTEGER, used_from TEXT, revoked_at INTEGER, note TEXT) WITHOUT ROWID;"
    "CREATE INDEX IF NOT EXISTS tokens_user ON tokens(user);"
    "CREATE TABLE IF NOT EXISTS failures(key BLOB PRIMARY KEY, n REAL NOT NULL, at INTEGER NOT NULL) WITHOUT "
    "ROWID;"
    "CREATE INDEX IF NOT EXISTS failures_at ON failures(at);"
    "PRAGMA user_version=1;";

/* ---- names ---- */

static const char *const role_texts[] = {
#define ROLE(name, text) text,
    ACCOUNT_ROLES(ROLE)
#undef ROLE
};

static const char *const verb_texts[] = {
#define VERB(name) #name,
    ACCOUNT_VERBS(VERB)
#undef VERB
};

static int find(const char *const *texts, int n, const char *text)
{
    for (int i = 0; i < n; i++)
        if (text && !strcmp(texts[i], text))
            return i;
    return -1;
}

const char *account_role_text(enum role role)
{
    return role_texts[role];
}

bool account_role_of(const char *text, enum role *ret)
{
    int i = find(role_texts, N_ROLES, text);
    if (i >= 0)
        *ret = (enum role)i;
    return i >= 0;
}

const char *account_verb_text(enum verb verb)
{
    return verb_texts[verb];
}

bool account_verb_of(const char *text, enum verb *ret)
{
    int i = find(verb_texts, N_VERBS, text);
    if (i >= 0)
        *ret = (enum verb)i;
    return i >= 0;
}

#define BIT(verb) (1u << VERB_##verb)

uint32_t account_role_verbs(enum role role)
{
    static const uint32_t more[] = {
        [ROLE_tenant_reader] = BIT(read),
        [ROLE_tenant_writer] = BIT(upload) | BIT(retry) | BIT(delete) | BIT(publish) | BIT(run),
        [ROLE_tenant_deployer] = BIT(deploy),
        [ROLE_operator] = BIT(admin),
    };
    uint32_t all = 0;
    for (int i = 0; i <= (int)role; i++)
        all |= more[i];
    return all;
}

bool account_valid_name(const char *name)
{
    static const char first[] = "abcdefghijklmnopqrstuvwxyz0123456789", rest[] = "abcdefghijklmnopqrstuvwxyz0123456789._@-";
    size_t n = strlen(name);
    return n > 0 && n <= ACCOUNT_NAME_MAX && strspn(name, first) > 0 && strspn(name, rest) == n;
}

void account_fini(struct account *a)
{
    for (char **d = a->datasets; d && *d; d++)
        free(*d);
    free(a->datasets);
    free(a->name);
    free(a->tenant);
    free(a->token_id);
    free(a->user_id);
    *a = (struct account){0};
}

bool account_may(const struct account *a, enum verb verb, const char *tenant, const char *dataset)
{
    if (!a->name || !(a->verbs & account_role_verbs(a->role) & (1u << verb)))
        return false;
    if (a->role != ROLE_operator && (!tenant || !a->tenant || strcmp(tenant, a->tenant) != 0))
        return false;
    if (!a->datasets || (!dataset && verb == VERB_read))
        return true;
    for (char **d = a->datasets; dataset && *d; d++)
        if (!strcmp(*d, dataset))
            return true;
    return false;
}

/* ---- the database ---- */

int accounts_fail(struct accounts *a, struct err *e)
{
    return err_set(e, -EIO, "state/accounts.db: %s", db_why(a->db));
}

static sqlite3_stmt *prepare(struct accounts *a, const char *sql, const char *types, va_list ap)
{
    sqlite3_stmt *s = NULL;
    int r = sqlite3_prepare_v2(a->db, sql, -1, &s, NULL);
    for (int i = 1; r == SQLITE_OK && types[i - 1]; i++) {
        int64_t v;
        struct blob b;
        switch (types[i - 1]) {
        case 's':
            r = sqlite3_bind_text(s, i, va_arg(ap, const char *), -1, SQLITE_STATIC);
            break;
        case 'd':
            r = sqlite3_bind_double(s, i, va_arg(ap, double));
            break;
        case 'b':
            b = va_arg(ap, struct blob);
            r = sqlite3_bind_blob(s, i, b.p, (int)b.n, SQLITE_STATIC);
            break;
        default:
            v = va_arg(ap, int64_t);
            r = types[i - 1] == 'I' && !v ? sqlite3_bind_null(s, i) : sqlite3_bind_int64(s, i, v);
        }
    }
    if (r == SQLITE_OK)
        return s;
    sqlite3_finalize(s);
    return NULL;
}

sqlite3_stmt *accounts_query(struct accounts *a, const char *sql, const char *types, ...)
{
    va_list ap;
    va_start(ap, types);
    sqlite3_stmt *s = prepare(a, sql, types, ap);
    va_end(ap);
    return s;
}

int accounts_step(struct accounts *a, sqlite3_stmt *s, struct err *e)
{
    int r = s ? sqlite3_step(s) : SQLITE_ERROR;
    return r == SQLITE_ROW ? 1 : r == SQLITE_DONE ? 0 : accounts_fail(a, e);
}

int accounts_run(struct accounts *a, struct err *e, const char *sql, const char *types, ...)
{
    va_list ap;
    int r;
    va_start(ap, types);
    AUTO_STATEMENT sqlite3_stmt *s = prepare(a, sql, types, ap);
    va_end(ap);
    while ((r = accounts_step(a, s, e)) > 0) {
    }
    return r;
}

static int version_of(struct accounts *a, struct err *e)
{
    AUTO_STATEMENT sqlite3_stmt *s = accounts_query(a, "PRAGMA user_version", "");
    int r = accounts_step(a, s, e);
    return r > 0 ? sqlite3_column_int(s, 0) : r;
}

static int open_tables(struct accounts *a, const char *path, struct err *e)
{
    static const char settings[] = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;";
    int r = db_open(path, SQLITE_OPEN_READWRITE, &a->db);
    if (r == SQLITE_OK)
        r = sqlite3_busy_timeout(a->db, BUSY_MS);
    if (r == SQLITE_OK)
        r = sqlite3_exec(a->db, settings, NULL, NULL, NULL);
    if (r != SQLITE_OK)
        return accounts_fail(a, e);
    int version = version_of(a, e);
    if (version > VERSION_ACCOUNTS)
        return version_refused(path, version, VERSION_ACCOUNTS, e);
    if (version == 0 && sqlite3_exec(a->db, schema, NULL, NULL, NULL) != SQLITE_OK)
        return accounts_fail(a, e);
    return version < 0 ? version : 0;
}

/* SQLite would make it readable for others of our group. One that is there is not opened here: closing it would drop the locks that
 * this process may have on it by SQLite (POSIX locks). */
static int make_file(const struct home *h, struct err *e)
{
    AUTO_FD int fd = openat(h->dirfd, "state/accounts.db", O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return fd < 0 && errno != EEXIST ? err_sys(e, -errno, "cannot make %s/state/accounts.db", h->path) : 0;
}

int accounts_open(const struct home *h, struct accounts **ret, struct err *e)
{
    struct accounts *a = xcalloc(1, sizeof *a);
    AUTO_FREE char *path = home_path(h, "state/accounts.db");
    /* Below its lock only one program at a time makes the tables. */
    AUTO_FD int key = ticket_key_read(h, a->ticket_key, e);
    int r = key < 0 ? key : make_file(h, e);
    if (r == 0)
        r = open_tables(a, path, e);
    if (r < 0) {
        accounts_close(a);
        return r;
    }
    *ret = a;
    return 0;
}

void accounts_close(struct accounts *a)
{
    if (!a)
        return;
    sqlite3_close(a->db);
    sodium_memzero(a->ticket_key, sizeof a->ticket_key);
    free(a);
}

int accounts_begin(struct accounts *a, struct err *e)
{
    return accounts_run(a, e, "BEGIN IMMEDIATE", "");
}

int accounts_commit(struct accounts *a, struct err *e)
{
    return accounts_run(a, e, "COMMIT", "");
}

void accounts_rollback(struct accounts *a)
{
    accounts_run(a, NULL, "ROLLBACK", "");
}

/* ---- logins ---- */

static int refuse(struct err *e)
{
    return err_set(e, ERR_REFUSED, "unauthorized");
}

static int slow_down(int wait_s, int *ret_wait_s, struct err *e)
{
    *ret_wait_s = wait_s;
    return err_set(e, -EAGAIN, "too many failures; wait for %d s", wait_s);
}

/* A login that failed: it counts, unless it came too early. */
static int fail_login(struct accounts *a, const char *account, const char *address, int *ret_wait_s, struct err *e)
{
    int wait_s = failures_wait_s(a, account, address, e);
    if (wait_s > 0)
        return slow_down(wait_s, ret_wait_s, e);
    int r = wait_s < 0 ? wait_s : failures_add(a, account, address, e);
    return r < 0 ? r : refuse(e);
}

/* That it is not written keeps nobody out, nor does waiting for others' commits. */
static void note_use(struct accounts *a, const struct token_found *t, const char *address)
{
    int64_t now_ms = clk_wall_ms();
    if (t->used_ms <= now_ms && t->used_ms > now_ms - USED_EVERY_MS)
        return;
    sqlite3_busy_timeout(a->db, 0);
    if (accounts_run(a, NULL, "UPDATE tokens SET used_at=?1, used_from=?2 WHERE id=?3", "iss", now_ms, address, t->who.token_id) <
        0)
        log_debug("accounts", NULL, NULL, "the use of token %s was not noted: %s", t->who.token_id, db_why(a->db));
    sqlite3_busy_timeout(a->db, BUSY_MS);
}

int accounts_login_token(struct accounts *a, const char *token, const char *address, struct account *ret, int *ret_wait_s,
                         struct err *e)
{
    struct token_found t = {0};
    char id[ACCOUNT_TOKEN_ID_SIZE] = "";
    unsigned char secret[SECRET_BYTES] = {0}, hash[SECRET_HASH_BYTES];
    bool is_one = token_parse(token, id, secret);
    int found = is_one ? token_find(a, id, &t, e) : 0;
    if (found < 0)
        return found;
    crypto_generichash(hash, sizeof hash, secret, sizeof secret, NULL, 0);
    bool same = sodium_memcmp(hash, t.hash, sizeof hash) == 0;
    sodium_memzero(secret, sizeof secret);
    if (!found || !same || !t.live) {
        account_fini(&t.who);
        return fail_login(a, id, address, ret_wait_s, e);
    }
    note_use(a, &t, address);
    *ret = t.who;
    return 0;
}

int accounts_login_password(struct accounts *a, const char *user, const char *password, const char *address, struct account *ret,
                            int *ret_wait_s, struct err *e)
{
    AUTO_ACCOUNT struct account who = {0};
    char hash[ACCOUNT_HASH_SIZE];
    bool enabled = false;
    int wait_s = failures_wait_s(a, user, address, e);
    if (wait_s)
        return wait_s < 0 ? wait_s : slow_down(wait_s, ret_wait_s, e);
    int found = account_valid_name(user) ? user_find(a, false, user, &who, &enabled, hash, e) : 0;
    if (found < 0)
        return found;
    int same = password_is(password, found ? hash : NULL);
    sodium_memzero(hash, sizeof hash);
    if (same < 0)
        return err_sys(e, same, "cannot check a password");
    if (!found || !same || !enabled)
        return fail_login(a, user, address, ret_wait_s, e);
    failures_forget(a, user, address);
    *ret = who;
    who = (struct account){0};
    return 0;
}
