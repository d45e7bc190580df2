#include "parts.h"

#include "base/clk.h"
#include "db/db.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *text_at(sqlite3_stmt *s, int i)
{
    return (const char *)sqlite3_column_text(s, i);
}

int account_of_row(sqlite3_stmt *s, struct account *ret, struct err *e)
{
    enum role role;
    const char *tenant = text_at(s, 3);
    if (!account_role_of(text_at(s, 2), &role) || !tenant != (role == ROLE_operator))
        return err_set(e, -EIO, "state/accounts.db: the user %s has no role that this version knows", text_at(s, 1));
    *ret = (struct account){.name = xstrdup(text_at(s, 1)),
                            .role = role,
                            .tenant = xstrdup(tenant),
                            .verbs = account_role_verbs(role),
                            .user_id = xstrdup(text_at(s, 0)),
                            .password_ms = sqlite3_column_int64(s, 4)};
    return 0;
}

int user_find(struct accounts *a, bool by_id, const char *key, struct account *ret, bool *ret_enabled,
              char ret_hash[ACCOUNT_HASH_SIZE], struct err *e)
{
    static const char of_id[] = "SELECT " ACCOUNT_COLUMNS " FROM users u WHERE u.id=?1",
                      of_name[] = "SELECT " ACCOUNT_COLUMNS " FROM users u WHERE u.name=?1";
    AUTO_STATEMENT sqlite3_stmt *s = accounts_query(a, by_id ? of_id : of_name, "s", key);
    int found = accounts_step(a, s, e);
    if (found <= 0)
        return found;
    int r = account_of_row(s, ret, e);
    if (r < 0)
        return r;
    if (ret_enabled)
        *ret_enabled = sqlite3_column_int(s, COL_ENABLED) != 0;
    if (ret_hash)
        snprintf(ret_hash, ACCOUNT_HASH_SIZE, "%s", text_at(s, COL_PASSWORD));
    return 1;
}

static int no_user(const char *name, struct err *e)
{
    return err_set(e, -ENOENT, "there is no user %s", name);
}

/* The result of a change of one user's row. */
static int changed(struct accounts *a, int r, const char *name, struct err *e)
{
    return r < 0 ? r : sqlite3_changes(a->db) ? 0 : no_user(name, e);
}

int accounts_user_check(const char *name, enum role role, const char *tenant, struct err *e)
{
    if (!account_valid_name(name))
        return err_set(e, ERR_USAGE, "\"%.100s\" is no user's name: [a-z0-9][a-z0-9._@-]*, at most %d characters", name,
                       ACCOUNT_NAME_MAX);
    if (role == ROLE_operator && tenant)
        return err_set(e, ERR_USAGE, "an operator is of all tenants: leave out the tenant");
    if (role != ROLE_operator && !tenant)
        return err_set(e, ERR_USAGE, "a %s is of a tenant: say which", account_role_text(role));
    return 0;
}

int accounts_user_add(struct accounts *a, const char *name, enum role role, const char *tenant, const char *hash, struct err *e)
{
    char id[ID_SIZE];
    struct account there = {0};
    int r = accounts_user_check(name, role, tenant, e);
    if (r < 0)
        return r;
    int found = user_find(a, false, name, &there, NULL, NULL, e);
    account_fini(&there);
    if (found)
        return found < 0 ? found : err_set(e, -EEXIST, "the user %s exists", name);
    home_new_id(id);
    int64_t now_ms = clk_wall_ms();
    return accounts_run(a, e,
                        "INSERT INTO users(id, name, role, tenant, password, created_at, password_at) VALUES(?1,?2,?3,?4,?5,?6,?6)",
                        "sssssi", id, name, account_role_text(role), tenant, hash, now_ms);
}

int accounts_user_password(struct accounts *a, const char *name, const char *hash, struct err *e)
{
    /* Never the time of the last one: tickets tell passwords apart by it. */
    int r = accounts_run(a, e, "UPDATE users SET password=?1, password_at=max(?2, password_at+1) WHERE name=?3", "sis", hash,
                         clk_wall_ms(), name);
    return changed(a, r, name, e);
}

int accounts_user_disable(struct accounts *a, const char *name, bool disabled, struct err *e)
{
    int r =
        accounts_run(a, e, "UPDATE users SET disabled_at=CASE ?1 WHEN 0 THEN NULL ELSE ifnull(disabled_at, ?1) END WHERE name=?2",
                     "is", disabled ? clk_wall_ms() : (int64_t)0, name);
    return changed(a, r, name, e);
}

int accounts_user_role(struct accounts *a, const char *name, enum role role, struct err *e)
{
    AUTO_ACCOUNT struct account who = {0};
    int r = accounts_user(a, name, &who, e);
    if (r < 0)
        return r;
    if ((role == ROLE_operator) != !who.tenant)
        return err_set(e, ERR_USAGE, "%s is %s; remove the user and add another one", name,
                       who.tenant ? "of a tenant, and operators are not" : "an operator, and of no tenant");
    r = accounts_run(a, e, "UPDATE users SET role=?1 WHERE name=?2", "ss", account_role_text(role), name);
    return changed(a, r, name, e);
}

int accounts_user_remove(struct accounts *a, const char *name, struct err *e)
{
    int r = accounts_run(a, e, "DELETE FROM users WHERE name=?1", "s", name);
    return changed(a, r, name, e);
}

int accounts_tenant_remove(struct accounts *a, const char *tenant, int *ret_n_users, struct err *e)
{
    int r = accounts_run(a, e, "DELETE FROM users WHERE tenant=?1", "s", tenant);
    if (r == 0)
        *ret_n_users = sqlite3_changes(a->db);
    return r;
}

int accounts_user(struct accounts *a, const char *name, struct account *ret, struct err *e)
{
    int found = user_find(a, false, name, ret, NULL, NULL, e);
    return found > 0 ? 0 : found < 0 ? found : no_user(name, e);
}

int accounts_users(struct accounts *a, struct buf *out, struct err *e)
{
    static const char sql[] =
        "SELECT name, role, tenant, disabled_at, created_at, password_at, (SELECT count(*) FROM tokens t WHERE "
        "t.user=u.id AND t.revoked_at IS NULL AND ifnull(t.expires_at>?1, 1)) FROM users u ORDER BY name";
    AUTO_STATEMENT sqlite3_stmt *s = accounts_query(a, sql, "i", clk_wall_ms());
    int r;
    json_begin(out, NULL, '[');
    while ((r = accounts_step(a, s, e)) > 0) {
        bool disabled = sqlite3_column_type(s, 3) != SQLITE_NULL;
        json_begin(out, NULL, '{');
        json_str(out, "name", text_at(s, 0));
        json_str(out, "role", text_at(s, 1));
        json_str(out, "tenant_id", text_at(s, 2));
        json_str(out, "state", disabled ? "disabled" : "active");
        json_i64(out, "tokens", sqlite3_column_int64(s, 6));
        json_time(out, "created_at", sqlite3_column_int64(s, 4));
        json_time(out, "password_at", sqlite3_column_int64(s, 5));
        json_time(out, "disabled_at", sqlite3_column_int64(s, 3));
        json_end(out, '}');
    }
    json_end(out, ']');
    return r;
}
