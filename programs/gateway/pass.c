#include "pass.h"
#include "gateway.h"
#include "login.h"
#include "request.h"

#include "base/clk.h"
#include "base/mem.h"

#include <sodium.h>
#include <string.h>

static char *key_of(const struct account *who)
{
    return xasprintf("%s.%s.%lld", who->user_id ? who->user_id : "", who->token_id ? who->token_id : "-",
                     (long long)who->password_ms);
}

static char *allows_of(const struct account *who)
{
    AUTO_BUF struct buf b = {0};
    buf_addf(&b, "%s %s %x", account_role_text(who->role), who->tenant ? who->tenant : "-", who->verbs);
    for (char **d = who->datasets; d && *d; d++)
        buf_addf(&b, " %s", *d);
    buf_adds(&b, who->datasets ? " alone" : "");
    return xstrdup(b.p);
}

static void pass_free(struct pass *p)
{
    map_remove(&p->owner->all, p->key);
    sodium_memzero(p->ticket, strlen(p->ticket));
    free(p->ticket);
    free(p->allows);
    free(p->key);
    free(p);
}

static void set_ticket(struct pass *p, const char *ticket)
{
    int64_t now_ms = clk_now_ms();
    xstr_set(&p->ticket, ticket);
    p->renew_ms = now_ms + PASS_RENEW_MS;
    p->until_ms = now_ms + ACCOUNT_TICKET_S * 1000;
}

/* What it allows is part of the key: who may something else now has another one. */
struct pass *pass_take(struct passes *all, const struct request *rq)
{
    AUTO_FREE char *allows = allows_of(&rq->who);
    AUTO_FREE char *who = key_of(&rq->who);
    AUTO_FREE char *key = xasprintf("%s %s", who, allows);
    struct pass *p = map_get(&all->all, key);
    if (!p) {
        p = xcalloc(1, sizeof *p);
        *p = (struct pass){.owner = all, .key = xstrdup(key), .allows = xstrdup(allows)};
        set_ticket(p, rq->ticket);
        map_put(&all->all, key, p);
    }
    p->n_users++;
    return p;
}

void pass_leave(struct pass *p)
{
    if (p && !--p->n_users && !p->asked)
        pass_free(p);
}

/* 0; else why it is over. A keeper that cannot look leaves it until the ticket is. */
static const char *renewed(struct pass *p, int code, const bson_t *doc)
{
    const char *error = code < 0 ? "unavailable" : json_get_str(doc, "error", NULL);
    if (error)
        return strcmp(error, "unauthorized") != 0 && clk_now_ms() < p->until_ms ? NULL : "unauthorized";
    AUTO_ACCOUNT struct account who = {0};
    login_read(doc, &who);
    AUTO_FREE char *allows = allows_of(&who);
    set_ticket(p, json_get_str(doc, "ticket", ""));
    return strcmp(allows, p->allows) != 0 ? "changed" : NULL;
}

static void on_renewed(void *arg, int code, const bson_t *doc, const char *body, size_t n)
{
    struct pass *p = arg;
    (void)body;
    (void)n;
    const char *why = renewed(p, code, doc);
    p->n_users++; /* until they were told */
    p->asked = false;
    if (why)
        p->owner->over(p->owner->arg, p, why);
    pass_leave(p);
}

static void renew(struct pass *p)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_str(&b, "scheme", "ticket");
    json_str(&b, "ticket", p->ticket);
    json_end(&b, '}');
    p->renew_ms = clk_now_ms() + PASS_RENEW_MS;
    p->asked = keeper_ask(p->owner->g->keepers[KEEPER_OF_TOKENS], KEEPER_LOGIN, b.p, b.n, on_renewed, p) == 0;
    sodium_memzero(b.p, b.n);
}

void pass_doubt(struct pass *p)
{
    if (!p->asked)
        renew(p);
}

void passes_sweep(struct passes *all, int64_t now_ms)
{
    size_t i = 0;
    for (struct pass *p; (p = map_next(&all->all, &i));)
        if (now_ms >= p->renew_ms && !p->asked)
            renew(p);
}

void passes_fini(struct passes *all)
{
    size_t i = 0;
    for (struct pass *p; (p = map_next(&all->all, &i));)
        pass_free(p);
    map_fini(&all->all);
}
