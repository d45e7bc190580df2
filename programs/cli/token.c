/* mysimbdp token: what programs log in with over HTTP. */
#include "account_change.h"
#include "listing.h"

#include "base/clk.h"
#include "base/near.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The first three are what the list is sorted by. */
static const struct col token_cols[] = {
    {"user", COL_TEXT, 1},    {"created_at", COL_TEXT, 5}, {"token_id", COL_TEXT, 1},   {"tenant_id", COL_TEXT, 3},
    {"state", COL_TEXT, 1},   {"verbs", COL_JSON, 2},      {"datasets", COL_JSON, 2},   {"expires_at", COL_TEXT, 2},
    {"used_at", COL_TEXT, 2}, {"used_from", COL_TEXT, 4},  {"revoked_at", COL_TEXT, 5}, {"note", COL_LONG, 3},
};

static int list(struct cli *c, struct account_change *ch, const char *user)
{
    struct err e = {0};
    AUTO_ACCOUNT struct account who = {0};
    AUTO_BUF struct buf b = {0};
    if ((user && accounts_user(ch->a, user, &who, &e) < 0) || accounts_tokens(ch->a, user, &b, &e) < 0)
        return cli_fail(c, &e);
    return cli_list_array(c, "tokens", b.p, b.n, token_cols, sizeof token_cols / sizeof *token_cols);
}

/* ---- what was given ---- */

struct given {
    const char *verbs, *datasets, *expires, *note;
};

/* The words between commas: a list that ends with NULL, whose strings are in *ret_room. NULL: none were given. The caller frees
 * both. */
static const char **words_of(const char *text, char **ret_room)
{
    if (!text)
        return NULL;
    size_t n = 0;
    char *at = NULL;
    *ret_room = xstrdup(text);
    const char **v = xcalloc(strlen(text) + 2, sizeof *v);
    for (char *word = strtok_r(*ret_room, ",", &at); word; word = strtok_r(NULL, ",", &at))
        v[n++] = word;
    return v;
}

/* 0, or CLI_USAGE after a complaint. */
static int parse_verbs(struct cli *c, const char *const *words, uint32_t *ret)
{
    *ret = 0;
    for (; words && *words; words++) {
        AUTO_BUF struct buf known = {0};
        struct near near = {.word = *words};
        char meant[NEAR_TEXT_SIZE];
        enum verb verb;
        for (int i = 0; i < N_VERBS; i++) {
            near_try(&near, account_verb_text((enum verb)i));
            buf_addf(&known, " %s", account_verb_text((enum verb)i));
        }
        if (!account_verb_of(*words, &verb))
            return cli_usage(c, "--verbs: %s is none%s; there are:%s", *words, near_text(&near, meant), known.p);
        *ret |= 1u << verb;
    }
    return 0;
}

/* A name that the configuration does not have would be a typing error that nobody notices. An operator's may be of any tenant. */
static int check_datasets(struct cli *c, const struct account_change *ch, const struct account *who, const char *const *datasets,
                          struct err *e)
{
    struct conf *conf = NULL;
    int r = 0;
    if (!datasets || !who->tenant)
        return 0;
    if (cli_conf(c, &ch->h, &conf))
        return err_set(e, ERR_CONFIG, "which datasets there are cannot be read");
    const struct conf_tenant *t = conf_tenant(conf, who->tenant);
    const struct conf_dataset *known = t ? t->datasets.v : NULL;
    for (; r == 0 && *datasets; datasets++) {
        bool found = false;
        struct near near = {.word = *datasets};
        char meant[NEAR_TEXT_SIZE];
        for (size_t i = 0; t && i < t->datasets.n; i++) {
            found |= !strcmp(known[i].name, *datasets);
            near_try(&near, known[i].name);
        }
        if (!found)
            r = err_set(e, ERR_USAGE, "tenant %s has no dataset %s%s", who->tenant, *datasets, near_text(&near, meant));
    }
    conf_free(conf);
    return r;
}

/* ---- changes ---- */

static void print_token(const struct cli *c, const char *token, const char *id, const char *user, int64_t until_ms)
{
    char stamp[CLK_RFC3339_SIZE];
    AUTO_BUF struct buf b = {0};
    if (!c->json) {
        puts(token);
        fflush(stdout);
        fprintf(stderr, "token %s of %s%s%s; it is not shown again\n", id, user, until_ms ? ", until " : "",
                until_ms ? clk_rfc3339(until_ms, stamp) : "");
        return;
    }
    json_begin(&b, NULL, '{');
    json_str(&b, "token_id", id);
    json_str(&b, "token", token);
    json_time(&b, "expires_at", until_ms);
    json_end(&b, '}');
    puts(b.p);
}

static int add(struct cli *c, struct account_change *ch, const char *user, const struct account_scope *scope)
{
    struct err e = {0};
    AUTO_ACCOUNT struct account who = {0};
    char token[ACCOUNT_TOKEN_SIZE], id[ACCOUNT_TOKEN_ID_SIZE] = "";
    int r = accounts_user(ch->a, user, &who, &e);
    if (r == 0)
        r = check_datasets(c, ch, &who, scope->datasets, &e);
    if (r < 0)
        return account_change_refuse(c, ch, &(struct audit_record){.what = "token_add", .tenant = who.tenant, .subject = user}, r,
                                     &e);
    r = accounts_begin(ch->a, &e);
    if (r == 0)
        r = accounts_token_add(ch->a, user, scope, token, id, &e);
    AUTO_FREE char *subject = r == 0 ? xasprintf("%s of %s", id, user) : xstrdup(user);
    r = account_change_end(c, ch, &(struct audit_record){.what = "token_add", .tenant = who.tenant, .subject = subject}, r, &e);
    if (r == CLI_DONE)
        print_token(c, token, id, user, scope->until_ms);
    return r;
}

static int add_given(struct cli *c, const char *user, const struct given *given)
{
    struct account_change ch;
    struct account_scope scope = {.note = given->note};
    AUTO_FREE char *verbs_room = NULL, *datasets_room = NULL;
    AUTO_FREE const char **verbs = words_of(given->verbs, &verbs_room);
    AUTO_FREE const char **datasets = words_of(given->datasets, &datasets_room);
    scope.datasets = datasets;
    int r = parse_verbs(c, verbs, &scope.verbs);
    if (r)
        return r;
    if (verbs && !scope.verbs)
        return cli_usage(c, "--verbs names none");
    if (given->expires && clk_parse_until(given->expires, &scope.until_ms) < 0)
        return cli_usage(c, "--expires %s is no time: 12h, 30d, or a date", given->expires);
    if (account_change_open(c, &ch))
        return CLI_FAILED;
    r = add(c, &ch, user, &scope);
    account_change_close(&ch);
    return r;
}

static int revoke_token(struct cli *c, struct account_change *ch, const char *token)
{
    struct err e = {0};
    AUTO_ACCOUNT struct account who = {0};
    char id[ACCOUNT_TOKEN_ID_SIZE];
    /* Of a whole token only the id gets into the log. What is neither may have been a secret. */
    const char *named = account_token_id(token, id) ? id : strlen(token) < sizeof id ? token : NULL;
    int r = accounts_token(ch->a, token, &who, &e);
    AUTO_FREE char *subject = r == 0 ? xasprintf("%s of %s", who.token_id, who.name) : xstrdup(named);
    const struct audit_record record = {.what = "token_revoke", .tenant = who.tenant, .subject = subject};
    if (r < 0)
        return account_change_refuse(c, ch, &record, r, &e);
    r = accounts_begin(ch->a, &e);
    if (r == 0)
        r = accounts_token_revoke(ch->a, token, &e);
    return account_change_end(c, ch, &record, r, &e);
}

int verb_token(struct cli *c)
{
    struct account_change ch;
    const struct given given = {cli_opt(c, "--verbs"), cli_opt(c, "--datasets"), cli_opt(c, "--expires"), cli_opt(c, "--note")};
    int r = cli_args(c, 1, 2);
    if (r)
        return r;
    const char *what = c->argv[0], *which = c->argv[1];
    const bool lists = !strcmp(what, "list"), adds = !strcmp(what, "add");
    if (!lists && !adds && strcmp(what, "revoke") != 0)
        return cli_usage(c, "unknown: %s", what);
    if (!lists && !which)
        return cli_usage(c, "%s: wrong number of arguments", what);
    if (!adds && (given.verbs || given.datasets || given.expires || given.note))
        return cli_usage(c, "--verbs, --datasets, --expires and --note are for add");
    if (adds)
        return add_given(c, which, &given);
    if (account_change_open(c, &ch))
        return CLI_FAILED;
    r = lists ? list(c, &ch, which) : revoke_token(c, &ch, which);
    account_change_close(&ch);
    return r;
}
