/* A token's text is sbt_<id>_<secret>: 12 characters of Crockford's alphabet, and 32 random bytes as base64url without padding. The
 * id is no secret: listings and the audit log have it. Of the secret only BLAKE2b-256 is kept; a slow hash is for what can be
 * guessed. */
#include "parts.h"

#include "base/clk.h"

#include <errno.h>
#include <string.h>

enum { ID_CHARACTERS = ACCOUNT_TOKEN_ID_SIZE - 1, SECRET_CHARACTERS = 43, DATASET_MAX = 64 };
#define KEPT_MS (90 * INT64_C(86400000)) /* a token that ended is listed for so long */
#define PREFIX  "sbt_"
_Static_assert(ACCOUNT_TOKEN_SIZE == sizeof PREFIX - 1 + ID_CHARACTERS + 1 + SECRET_CHARACTERS + 1, "the size of a token");

static const char *text_at(sqlite3_stmt *s, int i)
{
    return (const char *)sqlite3_column_text(s, i);
}

static bool is_id(const char *p)
{
    return strspn(p, "0123456789abcdefghjkmnpqrstvwxyz") == ID_CHARACTERS;
}

bool token_parse(const char *token, char id[ACCOUNT_TOKEN_ID_SIZE], unsigned char secret[SECRET_BYTES])
{
    size_t n = 0, prefix = sizeof PREFIX - 1;
    const char *end;
    unsigned char got[SECRET_BYTES];
    if (strlen(token) != ACCOUNT_TOKEN_SIZE - 1 || strncmp(token, PREFIX, prefix) != 0 || !is_id(token + prefix) ||
        token[prefix + ID_CHARACTERS] != '_')
        return false;
    const char *text = token + prefix + ID_CHARACTERS + 1;
    if (sodium_base642bin(got, sizeof got, text, SECRET_CHARACTERS, NULL, &n, &end, sodium_base64_VARIANT_URLSAFE_NO_PADDING) !=
            0 ||
        n != SECRET_BYTES || *end)
        return false;
    memcpy(id, token + prefix, ID_CHARACTERS);
    id[ID_CHARACTERS] = 0;
    memcpy(secret, got, sizeof got);
    return true;
}

bool account_token_id(const char *token, char ret[ACCOUNT_TOKEN_ID_SIZE])
{
    unsigned char secret[SECRET_BYTES];
    return token_parse(token, ret, secret);
}

/* ---- scopes: lists with commas, as the database has them; NULL is all ---- */

static char *verbs_text(uint32_t verbs)
{
    AUTO_BUF struct buf b = {0};
    for (int i = 0; i < N_VERBS; i++)
        if (verbs & (1u << i))
            buf_addf(&b, "%s%s", b.n ? "," : "", account_verb_text((enum verb)i));
    return b.n ? xstrdup(b.p) : NULL;
}

/* A verb that this version does not know is left out: it allows nothing. */
static uint32_t verbs_of(const char *text)
{
    uint32_t verbs = 0;
    AUTO_FREE char *copy = xstrdup(text);
    char *at = NULL;
    enum verb v;
    for (char *word = strtok_r(copy, ",", &at); word; word = strtok_r(NULL, ",", &at))
        if (account_verb_of(word, &v))
            verbs |= 1u << v;
    return verbs;
}

static char *datasets_text(const char *const *datasets)
{
    AUTO_BUF struct buf b = {0};
    for (; datasets && *datasets; datasets++)
        buf_addf(&b, "%s%s", b.n ? "," : "", *datasets);
    return b.n ? xstrdup(b.p) : NULL;
}

static char **datasets_of(const char *text)
{
    AUTO_FREE char *copy = xstrdup(text);
    char **v = xcalloc(ACCOUNT_DATASETS_MAX + 1, sizeof *v), *at = NULL;
    size_t n = 0;
    for (char *word = strtok_r(copy, ",", &at); word && n < ACCOUNT_DATASETS_MAX; word = strtok_r(NULL, ",", &at))
        v[n++] = xstrdup(word);
    return v;
}

static int check_scope(const struct account *who, const struct account_scope *scope, struct err *e)
{
    size_t n = 0;
    AUTO_FREE char *beyond = verbs_text(scope->verbs & ~who->verbs);
    if (beyond)
        return err_set(e, ERR_USAGE, "the role of %s, %s, does not allow: %s", who->name, account_role_text(who->role), beyond);
    for (const char *const *d = scope->datasets; d && *d; d++, n++)
        if (!**d || strlen(*d) > DATASET_MAX || (*d)[strspn(*d, "abcdefghijklmnopqrstuvwxyz0123456789_-")])
            return err_set(e, ERR_USAGE, "\"%s\" is no dataset's name", *d);
    if (scope->datasets && (n == 0 || n > ACCOUNT_DATASETS_MAX))
        return err_set(e, ERR_USAGE, "a token is limited to 1 to %d datasets, or to none", ACCOUNT_DATASETS_MAX);
    if (scope->until_ms && scope->until_ms <= clk_wall_ms())
        return err_set(e, ERR_USAGE, "the token would have expired already");
    if (scope->note && (strlen(scope->note) > ACCOUNT_NOTE_MAX || !utf8_valid(scope->note, strlen(scope->note))))
        return err_set(e, ERR_USAGE, "a note is UTF-8 of at most %d bytes", ACCOUNT_NOTE_MAX);
    return 0;
}

static void make_token(char token[ACCOUNT_TOKEN_SIZE], char id[ACCOUNT_TOKEN_ID_SIZE], unsigned char hash[SECRET_HASH_BYTES])
{
    unsigned char secret[SECRET_BYTES];
    char text[SECRET_CHARACTERS + 1];
    randombytes_buf(secret, sizeof secret);
    draw_text(id, ACCOUNT_TOKEN_ID_SIZE);
    sodium_bin2base64(text, sizeof text, secret, sizeof secret, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    snprintf(token, ACCOUNT_TOKEN_SIZE, PREFIX "%s_%s", id, text);
    crypto_generichash(hash, SECRET_HASH_BYTES, secret, sizeof secret, NULL, 0);
    sodium_memzero(secret, sizeof secret);
    sodium_memzero(text, sizeof text);
}

int accounts_token_add(struct accounts *a, const char *user, const struct account_scope *scope, char ret_token[ACCOUNT_TOKEN_SIZE],
                       char ret_id[ACCOUNT_TOKEN_ID_SIZE], struct err *e)
{
    AUTO_ACCOUNT struct account who = {0};
    char token[ACCOUNT_TOKEN_SIZE], id[ACCOUNT_TOKEN_ID_SIZE];
    unsigned char hash[SECRET_HASH_BYTES];
    const int64_t now_ms = clk_wall_ms();
    int r = accounts_user(a, user, &who, e);
    if (r == 0)
        r = check_scope(&who, scope, e);
    if (r < 0)
        return r;
    AUTO_FREE char *verbs = verbs_text(scope->verbs), *datasets = datasets_text(scope->datasets);
    make_token(token, id, hash);
    r = accounts_run(a, e, "DELETE FROM tokens WHERE user=?1 AND (revoked_at<?2 OR expires_at<?2)", "si", who.user_id,
                     now_ms - KEPT_MS);
    if (r == 0)
        r = accounts_run(
            a, e,
            "INSERT INTO tokens(id, user, secret, verbs, datasets, created_at, expires_at, note) VALUES(?1,?2,?3,?4,?5,?6,?7,?8)",
            "ssbssiIs", id, who.user_id, (struct blob){hash, sizeof hash}, verbs, datasets, now_ms, scope->until_ms, scope->note);
    if (r == 0) {
        memcpy(ret_token, token, sizeof token);
        memcpy(ret_id, id, sizeof id);
    }
    sodium_memzero(token, sizeof token);
    return r;
}

static const char session_note[] = "a browser's session";

int accounts_session_add(struct accounts *a, const char *user, char ret_token[ACCOUNT_TOKEN_SIZE],
                         char ret_id[ACCOUNT_TOKEN_ID_SIZE], struct err *e)
{
    static const char rest[] =
        "UPDATE tokens SET revoked_at=?1 WHERE revoked_at IS NULL AND note=?2 AND id IN (SELECT t.id FROM tokens t "
        "JOIN users u ON u.id=t.user WHERE u.name=?3 AND t.note=?2 AND t.revoked_at IS NULL ORDER BY t.created_at "
        "DESC, t.id LIMIT -1 OFFSET ?4)";
    const struct account_scope scope = {.until_ms = clk_wall_ms() + ACCOUNT_SESSION_S * INT64_C(1000), .note = session_note};
    int r = accounts_begin(a, e);
    if (r < 0)
        return r;
    r = accounts_token_add(a, user, &scope, ret_token, ret_id, e);
    if (r == 0)
        r = accounts_run(a, e, rest, "issi", clk_wall_ms(), session_note, user, (int64_t)ACCOUNT_SESSIONS_MAX);
    if (r == 0)
        r = accounts_commit(a, e);
    if (r < 0)
        accounts_rollback(a);
    return r;
}

/* ---- finding them ---- */

static bool fill(sqlite3_stmt *s, const char *id, struct token_found *ret)
{
    enum { SECRET = N_ACCOUNT_COLUMNS, VERBS, DATASETS, EXPIRES, REVOKED, USED };
    const void *hash = sqlite3_column_blob(s, SECRET);
    const char *verbs = text_at(s, VERBS), *datasets = text_at(s, DATASETS);
    if (!hash || sqlite3_column_bytes(s, SECRET) != SECRET_HASH_BYTES)
        return false;
    memcpy(ret->hash, hash, SECRET_HASH_BYTES);
    ret->who.token_id = xstrdup(id);
    ret->who.until_ms = sqlite3_column_int64(s, EXPIRES);
    if (verbs)
        ret->who.verbs &= verbs_of(verbs);
    if (datasets)
        ret->who.datasets = datasets_of(datasets);
    ret->used_ms = sqlite3_column_int64(s, USED);
    ret->live = sqlite3_column_int(s, COL_ENABLED) && sqlite3_column_type(s, REVOKED) == SQLITE_NULL &&
                (!ret->who.until_ms || ret->who.until_ms > clk_wall_ms());
    return true;
}

int token_find(struct accounts *a, const char *id, struct token_found *ret, struct err *e)
{
    static const char sql[] =
        "SELECT " ACCOUNT_COLUMNS ", t.secret, t.verbs, t.datasets, t.expires_at, t.revoked_at, t.used_at FROM "
        "tokens t JOIN users u ON u.id=t.user WHERE t.id=?1";
    AUTO_STATEMENT sqlite3_stmt *s = accounts_query(a, sql, "s", id);
    int found = accounts_step(a, s, e);
    if (found <= 0)
        return found;
    *ret = (struct token_found){0};
    int r = account_of_row(s, &ret->who, e);
    if (r < 0)
        return r;
    if (fill(s, id, ret))
        return 1;
    account_fini(&ret->who);
    return err_set(e, -EIO, "state/accounts.db: token %s has no secret", id);
}

/* The id that `token` is or has, if it may be one. */
static const char *id_of(const char *token, char room[ACCOUNT_TOKEN_ID_SIZE])
{
    return account_token_id(token, room) ? room : token;
}

static int no_token(const char *id, struct err *e)
{
    return err_set(e, -ENOENT, "there is no token %.40s", id);
}

int accounts_token(struct accounts *a, const char *token, struct account *ret, struct err *e)
{
    char room[ACCOUNT_TOKEN_ID_SIZE];
    const char *id = id_of(token, room);
    struct token_found t;
    int found = token_find(a, id, &t, e);
    if (found > 0)
        *ret = t.who;
    return found > 0 ? 0 : found < 0 ? found : no_token(id, e);
}

int accounts_token_revoke(struct accounts *a, const char *token, struct err *e)
{
    char room[ACCOUNT_TOKEN_ID_SIZE];
    const char *id = id_of(token, room);
    int r = accounts_run(a, e, "UPDATE tokens SET revoked_at=ifnull(revoked_at, ?1) WHERE id=?2", "is", clk_wall_ms(), id);
    return r < 0 ? r : sqlite3_changes(a->db) ? 0 : no_token(id, e);
}

static void json_list(struct buf *out, const char *key, const char *text)
{
    if (!text) {
        json_null(out, key);
        return;
    }
    AUTO_FREE char *copy = xstrdup(text);
    char *at = NULL;
    json_begin(out, key, '[');
    for (char *word = strtok_r(copy, ",", &at); word; word = strtok_r(NULL, ",", &at))
        json_str(out, NULL, word);
    json_end(out, ']');
}

int accounts_tokens(struct accounts *a, const char *user, struct buf *out, struct err *e)
{
    static const char sql[] = "SELECT t.id, u.name, u.tenant, CASE WHEN revoked_at THEN 'revoked' WHEN expires_at<=?1 THEN "
                              "'expired' WHEN disabled_at THEN "
                              "'disabled' ELSE 'active' END, t.verbs, t.datasets, t.created_at, t.expires_at, t.used_at, "
                              "t.used_from, t.revoked_at, t.note "
                              "FROM tokens t JOIN users u ON u.id=t.user WHERE ?2 IS NULL OR u.name=?2 ORDER BY t.created_at, t.id";
    static const char *const times[] = {"created_at", "expires_at", "used_at"};
    AUTO_STATEMENT sqlite3_stmt *s = accounts_query(a, sql, "is", clk_wall_ms(), user);
    int r;
    json_begin(out, NULL, '[');
    while ((r = accounts_step(a, s, e)) > 0) {
        json_begin(out, NULL, '{');
        json_str(out, "token_id", text_at(s, 0));
        json_str(out, "user", text_at(s, 1));
        json_str(out, "tenant_id", text_at(s, 2));
        json_str(out, "state", text_at(s, 3));
        json_list(out, "verbs", text_at(s, 4));
        json_list(out, "datasets", text_at(s, 5));
        for (int i = 0; i < 3; i++)
            json_time(out, times[i], sqlite3_column_int64(s, 6 + i));
        json_str(out, "used_from", text_at(s, 9));
        json_time(out, "revoked_at", sqlite3_column_int64(s, 10));
        json_str(out, "note", text_at(s, 11));
        json_end(out, '}');
    }
    json_end(out, ']');
    return r;
}
