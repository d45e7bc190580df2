#include "gateway.h"
#include "audit_page.h"
#include "figures.h"
#include "machine.h"

#include "accounts/accounts.h"
#include "accounts/audit.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "query/query.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

enum { MAX_FIELD = 512, MACHINE_MS = 300 /* what is new is waited for so long */ };

struct gateway_keeper {
    const struct home *home;
    struct accounts *accounts;
    struct queries *queries;
    const struct conf *conf;
    struct figures *figures; /* NULL: nobody asked for them */
    struct machine *machine; /* likewise */
};

int gateway_keeper_new(const struct home *h, struct gateway_keeper **ret, struct err *e)
{
    struct accounts *a;
    int r = accounts_open(h, &a, e);
    if (r < 0)
        return r;
    struct gateway_keeper *g = *ret = xcalloc(1, sizeof *g);
    *g = (struct gateway_keeper){.home = h, .accounts = a, .queries = queries_new(h)};
    return 0;
}

void gateway_keeper_free(struct gateway_keeper *g)
{
    if (!g)
        return;
    figures_free(g->figures);
    machine_free(g->machine);
    queries_free(g->queries);
    accounts_close(g->accounts);
    free(g);
}

void gateway_keeper_set_conf(struct gateway_keeper *g, const struct conf *c)
{
    g->conf = c;
    queries_set_conf(g->queries, c);
}

static const char *field(const bson_t *rq, const char *name)
{
    const char *text = json_get_str(rq, name, NULL);
    return text && strlen(text) <= MAX_FIELD ? text : NULL;
}

/* ---- login ---- */

static void tell_account(const struct gateway_keeper *g, const struct account *who, const char *session, struct buf *out)
{
    char ticket[ACCOUNT_TICKET_MAX];
    struct err e = {0};
    json_begin(out, NULL, '{');
    if (accounts_ticket(g->accounts, who, ticket, &e) < 0) {
        log_error("accounts", NULL, NULL, "%s", e.msg);
        json_str(out, "error", "unavailable");
        json_end(out, '}');
        return;
    }
    json_str(out, "ticket", ticket);
    json_str(out, "session", session);
    json_str(out, "account", who->name);
    json_str(out, "role", account_role_text(who->role));
    json_str(out, "tenant_id", who->tenant);
    json_str(out, "token_id", who->token_id);
    json_str(out, "user_id", who->user_id);
    json_i64(out, "password_ms", who->token_id ? 0 : who->password_ms);
    json_begin(out, "verbs", '[');
    for (int i = 0; i < N_VERBS; i++)
        if (who->verbs & 1U << i)
            json_str(out, NULL, account_verb_text((enum verb)i));
    json_end(out, ']');
    if (who->datasets) {
        json_begin(out, "datasets", '[');
        for (char **d = who->datasets; *d; d++)
            json_str(out, NULL, *d);
        json_end(out, ']');
    } else {
        json_null(out, "datasets");
    }
    json_end(out, '}');
}

/* A browser that logged in by password stays so by a token, and is logged out by its end. */
static int begin_or_end_session(struct gateway_keeper *g, const bson_t *rq, struct account *who, char token[ACCOUNT_TOKEN_SIZE],
                                struct err *e)
{
    const char *session = json_get_str(rq, "session", "");
    bool begins = !strcmp(session, "begin") && !who->token_id, ends = !strcmp(session, "end") && who->token_id;
    char id[ACCOUNT_TOKEN_ID_SIZE];
    int r = begins ? accounts_session_add(g->accounts, who->name, token, id, e)
            : ends ? accounts_token_revoke(g->accounts, who->token_id, e)
                   : 0;
    if (r == 0 && begins)
        who->token_id = xstrdup(id);
    if (begins || ends) {
        const char *from = field(rq, "address");
        struct audit_record record = {.who = who->name,
                                      .from = from ? from : "?",
                                      .what = begins ? "session_begin" : "session_end",
                                      .tenant = who->tenant,
                                      .subject = who->token_id,
                                      .outcome = r == 0 ? "ok" : "unavailable"};
        struct err why = {0};
        if (audit_add(g->home->dirfd, &record, &why) < 0)
            log_error("audit", NULL, NULL, "%s did %s: this cannot be added to the audit log: %s", record.who, record.what,
                      why.msg);
    }
    return r;
}

static void login(struct gateway_keeper *g, const bson_t *rq, struct buf *out)
{
    char session[ACCOUNT_TOKEN_SIZE] = "";
    const char *scheme = json_get_str(rq, "scheme", ""), *address = json_get_str(rq, "address", "");
    AUTO_ACCOUNT struct account who = {0};
    struct err e = {0};
    int wait_s = 0, r = ERR_REFUSED;
    if (!strcmp(scheme, "bearer"))
        r = accounts_login_token(g->accounts, json_get_str(rq, "token", ""), address, &who, &wait_s, &e);
    else if (!strcmp(scheme, "basic"))
        r = accounts_login_password(g->accounts, json_get_str(rq, "user", ""), json_get_str(rq, "password", ""), address, &who,
                                    &wait_s, &e);
    else if (!strcmp(scheme, "ticket"))
        r = accounts_ticket_open(g->accounts, json_get_str(rq, "ticket", ""), &who, &e);
    if (r == 0)
        r = begin_or_end_session(g, rq, &who, session, &e);
    if (r == 0) {
        tell_account(g, &who, *session ? session : NULL, out);
        sodium_memzero(session, sizeof session);
        return;
    }
    if (r != ERR_REFUSED && r != -EAGAIN)
        log_error("accounts", NULL, NULL, "a login cannot be looked at: %s", e.msg);
    json_begin(out, NULL, '{');
    json_str(out, "error", r == ERR_REFUSED ? "unauthorized" : r == -EAGAIN ? "slow_down" : "unavailable");
    json_i64(out, "retry_after_s", wait_s);
    json_end(out, '}');
}

/* ---- questions ---- */

static void tell_answer(const struct query_answer *a, struct buf *out)
{
    buf_adds(out, "{");
    if (a->head.n)
        buf_add(out, a->head.p, a->head.n);
    json_i64(out, "status", a->status);
    json_str(out, "code", a->code);
    json_str(out, "detail", *a->detail ? a->detail : NULL);
    json_str(out, "type", a->type);
    json_end(out, '}');
    buf_adds(out, "\n");
    if (a->body.n)
        buf_add(out, a->body.p, a->body.n);
}

static void ask(struct gateway_keeper *g, const bson_t *rq, struct buf *out)
{
    const char *tenant = json_get_str(rq, "tenant_id", ""), *name = json_get_str(rq, "query", "");
    const bool of_platform = !strcmp(name, "audit");
    AUTO_ACCOUNT struct account who = {0};
    struct query_answer a = {0};
    bson_t params, none = BSON_INITIALIZER;
    bson_iter_t it;
    struct err e = {0};
    int r = accounts_ticket_open(g->accounts, json_get_str(rq, "ticket", ""), &who, &e);
    bool has = bson_iter_init_find(&it, rq, "params") && BSON_ITER_HOLDS_DOCUMENT(&it) && json_iter_doc(&it, &params);
    if (r < 0 && r != ERR_REFUSED)
        log_error("accounts", NULL, NULL, "a ticket cannot be looked at: %s", e.msg);
    if (r < 0)
        a = (struct query_answer){.status = r == ERR_REFUSED ? 401 : 503,
                                  .code = r == ERR_REFUSED ? "unauthorized" : "unavailable"};
    else if (!account_may(&who, of_platform ? VERB_admin : VERB_read, of_platform ? NULL : tenant, NULL))
        a = (struct query_answer){.status = 404, .code = "not_found"};
    else if (of_platform)
        audit_page(g->home->dirfd, has ? &params : &none, &a);
    else
        query(g->queries, name, &(struct query_scope){tenant, who.datasets}, has ? &params : &none, &a);
    if (*a.why)
        log_error("query", tenant, NULL, "%s: %s", name, a.why);
    tell_answer(&a, out);
    query_answer_fini(&a);
    bson_destroy(&none);
}

/* Whether an operator asks; the head of the answer is written. */
static bool is_operators(struct gateway_keeper *g, const bson_t *rq, struct buf *out)
{
    AUTO_ACCOUNT struct account who = {0};
    struct query_answer a = {.status = 200};
    struct err e = {0};
    int r = accounts_ticket_open(g->accounts, json_get_str(rq, "ticket", ""), &who, &e);
    if (r < 0)
        a = (struct query_answer){.status = r == ERR_REFUSED ? 401 : 503,
                                  .code = r == ERR_REFUSED ? "unauthorized" : "unavailable"};
    else if (!account_may(&who, VERB_admin, NULL, NULL))
        a = (struct query_answer){.status = 403, .code = "forbidden"};
    tell_answer(&a, out);
    return a.status == 200;
}

int gateway_keeper_figures(struct gateway_keeper *g, const char *text, size_t n, int fd)
{
    AUTO_BSON bson_t *rq = json_parse(text, n, NULL);
    AUTO_BUF struct buf head = {0};
    if (!rq)
        return ERR_FORMAT;
    bool may = is_operators(g, rq, &head);
    int r = fd_write_all(fd, head.p, head.n);
    if (!may || r < 0)
        return r;
    if (!g->figures)
        g->figures = figures_new(g->home);
    return figures_write(g->figures, g->conf, !strcmp(json_get_str(rq, "format", ""), "openmetrics"), figures_to_fd, &fd);
}

static void machine(struct gateway_keeper *g, const bson_t *rq, struct buf *out)
{
    if (!is_operators(g, rq, out))
        return;
    if (!g->machine)
        g->machine = machine_new(g->home);
    machine_write(g->machine, g->conf, MACHINE_MS, out);
}

/* ---- the audit log ---- */

static void audit(struct gateway_keeper *g, const bson_t *rq, struct buf *out)
{
    AUTO_ACCOUNT struct account who = {0};
    struct err e = {0};
    bool holds = accounts_ticket_open(g->accounts, json_get_str(rq, "ticket", ""), &who, NULL) == 0;
    const char *claimed = field(rq, "account"), *what = field(rq, "what"), *outcome = field(rq, "outcome"),
               *from = field(rq, "address");
    AUTO_FREE char *name = holds ? xstrdup(who.name) : xasprintf("%s (as the gateway says)", claimed ? claimed : "?");
    struct audit_record r = {.who = name,
                             .from = from ? from : "?",
                             .what = what ? what : "?",
                             .tenant = field(rq, "tenant_id"),
                             .subject = field(rq, "subject"),
                             .outcome = outcome ? outcome : "?"};
    bool added = audit_add(g->home->dirfd, &r, &e) == 0;
    if (!added)
        log_error("audit", NULL, NULL, "%s did %s: this cannot be added to the audit log: %s", r.who, r.what, e.msg);
    json_begin(out, NULL, '{');
    json_bool(out, "added", added);
    json_end(out, '}');
}

bool gateway_keeper_answer(struct gateway_keeper *g, enum keeper_op op, const char *text, size_t n, struct buf *out)
{
    AUTO_BSON bson_t *rq = json_parse(text, n, NULL);
    if (!rq || (op != KEEPER_LOGIN && op != KEEPER_QUERY && op != KEEPER_AUDIT && op != KEEPER_MACHINE))
        return false;
    if (op == KEEPER_LOGIN)
        login(g, rq, out);
    else if (op == KEEPER_QUERY)
        ask(g, rq, out);
    else if (op == KEEPER_MACHINE)
        machine(g, rq, out);
    else
        audit(g, rq, out);
    if (op == KEEPER_LOGIN) /* may hold a password */
        explicit_bzero((void *)bson_get_data(rq), rq->len);
    return true;
}
