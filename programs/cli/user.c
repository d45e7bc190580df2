/* mysimbdp user: who may log in over HTTP. */
#include "account_change.h"
#include "ledger.h"
#include "listing.h"

#include "base/fd.h"
#include "base/mem.h"
#include "base/near.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct col user_cols[] = {
    {"name", COL_TEXT, 1},    {"role", COL_TEXT, 1},       {"tenant_id", COL_TEXT, 1},   {"state", COL_TEXT, 1},
    {"tokens", COL_COUNT, 2}, {"created_at", COL_TEXT, 3}, {"password_at", COL_TEXT, 4}, {"disabled_at", COL_TEXT, 4},
};

static int list(struct cli *c, struct account_change *ch)
{
    struct err e = {0};
    AUTO_BUF struct buf b = {0};
    if (accounts_users(ch->a, &b, &e) < 0)
        return cli_fail(c, &e);
    return cli_list_array(c, "users", b.p, b.n, user_cols, sizeof user_cols / sizeof *user_cols);
}

static int no_role(struct cli *c, const char *role)
{
    AUTO_BUF struct buf known = {0};
    struct near near = {.word = role};
    char meant[NEAR_TEXT_SIZE];
    for (int i = 0; i < N_ROLES; i++) {
        near_try(&near, account_role_text((enum role)i));
        buf_addf(&known, " %s", account_role_text((enum role)i));
    }
    return cli_usage(c, "--role %s is none%s; there are:%s", role, near_text(&near, meant), known.p);
}

/* What is kept of a password that is asked for. */
static int ask(const char *name, const char *file, char ret_hash[ACCOUNT_HASH_SIZE], struct err *e)
{
    char *password = account_password_ask(name, file, e);
    int r = password ? account_hash(password, ret_hash, e) : e->code == ERR_REFUSED ? ERR_REFUSED : -EIO;
    account_password_free(password);
    return r;
}

struct given {
    const char *role, *tenant, *file;
};

/* One that is configured: the ledger goes on to know those that were purged. */
static bool has_tenant(struct cli *c, const struct home *h, const char *tenant)
{
    AUTO_FREE char *conf = tenant ? xasprintf("conf/tenants/%s.conf", tenant) : NULL;
    if (!tenant || (!strchr(tenant, '/') && fd_exists(h->dirfd, conf)))
        return true;
    if (cli_knows_tenant(c, h, tenant))
        fprintf(stderr, "mysimbdp %s: tenant %s was removed\n", c->verb, tenant);
    return false;
}

static int add(struct cli *c, struct account_change *ch, const char *name, const struct given *given)
{
    struct err e = {0};
    char hash[ACCOUNT_HASH_SIZE];
    enum role role = ROLE_tenant_reader;
    AUTO_ACCOUNT struct account there = {0};
    const struct audit_record record = {.what = "user_add", .tenant = given->tenant, .subject = name};
    account_role_of(given->role, &role);
    if (!has_tenant(c, &ch->h, given->tenant))
        return CLI_FAILED;
    /* What is refused anyway asks for no password. */
    if (accounts_user(ch->a, name, &there, NULL) == 0)
        return account_change_refuse(c, ch, &record, err_set(&e, -EEXIST, "the user %s exists", name), &e);
    int r = accounts_user_check(name, role, given->tenant, &e);
    if (r == 0)
        r = ask(name, given->file, hash, &e);
    if (r < 0)
        return account_change_refuse(c, ch, &record, r, &e);
    r = accounts_begin(ch->a, &e);
    if (r == 0)
        r = accounts_user_add(ch->a, name, role, given->tenant, hash, &e);
    r = account_change_end(c, ch, &record, r, &e);
    if (r == CLI_DONE)
        printf("user %s: %s%s%s\n", name, account_role_text(role), given->tenant ? " of " : "", given->tenant ? given->tenant : "");
    return r;
}

/* passwd, disable, enable, remove, role */
static int change(struct cli *c, struct account_change *ch, const char *what, const char *name, const struct given *given)
{
    enum role role = ROLE_tenant_reader;
    struct err e = {0};
    char hash[ACCOUNT_HASH_SIZE];
    AUTO_ACCOUNT struct account who = {0};
    AUTO_FREE char *act = xasprintf("user_%s", what);
    int r = accounts_user(ch->a, name, &who, &e);
    const struct audit_record record = {.what = act, .tenant = who.tenant, .subject = name};
    const bool sets = !strcmp(what, "passwd");
    if (r == 0 && sets)
        r = ask(name, given->file, hash, &e);
    if (r < 0)
        return account_change_refuse(c, ch, &record, r, &e);
    account_role_of(given->role ? given->role : "", &role);
    r = accounts_begin(ch->a, &e);
    if (r == 0)
        r = sets                      ? accounts_user_password(ch->a, name, hash, &e)
            : !strcmp(what, "remove") ? accounts_user_remove(ch->a, name, &e)
            : given->role             ? accounts_user_role(ch->a, name, role, &e)
                                      : accounts_user_disable(ch->a, name, !strcmp(what, "disable"), &e);
    return account_change_end(c, ch, &record, r, &e);
}

/* 0, or CLI_USAGE after a complaint. */
static int check(struct cli *c, const struct given *given)
{
    static const char *const known[] = {"add", "list", "passwd", "disable", "enable", "remove", "role"};
    enum role role;
    const char *what = c->argv[0];
    bool is_known = false, adds = !strcmp(what, "add"), takes_role = adds || !strcmp(what, "role");
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        is_known |= !strcmp(what, known[i]);
    if (!is_known || !strcmp(what, "list") != (c->argc == 1))
        return cli_usage(c, is_known ? "%s: wrong number of arguments" : "unknown: %s", what);
    if (takes_role != (given->role != NULL))
        return cli_usage(c, takes_role ? "%s takes --role" : "--role is not for %s", what);
    if ((given->tenant && !adds) || (given->file && !adds && strcmp(what, "passwd") != 0))
        return cli_usage(c, "%s is not for %s", given->tenant && !adds ? "--tenant" : "--password-file", what);
    return takes_role && !account_role_of(given->role, &role) ? no_role(c, given->role) : 0;
}

int verb_user(struct cli *c)
{
    struct account_change ch;
    const struct given given = {cli_opt(c, "--role"), cli_opt(c, "--tenant"), cli_opt(c, "--password-file")};
    int r = cli_args(c, 1, 2);
    if (r == 0)
        r = check(c, &given);
    if (r)
        return r;
    if (account_change_open(c, &ch))
        return CLI_FAILED;
    const char *what = c->argv[0], *name = c->argv[1];
    r = !name ? list(c, &ch) : !strcmp(what, "add") ? add(c, &ch, name, &given) : change(c, &ch, what, name, &given);
    account_change_close(&ch);
    return r;
}
