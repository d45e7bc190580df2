/* How a browser stays logged in: by a token in a cookie that no script sees, for ACCOUNT_SESSION_S. It is listed and revoked as any
 * token is. The page keeps no password. */
#include "gateway.h"
#include "handlers.h"
#include "login.h"
#include "request.h"

#include "base/mem.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

static void set_cookie(struct request *rq, const char *token, int max_age_s)
{
    char text[256];
    bool secure = rq->g->conf->platform.http.tls;
    snprintf(text, sizeof text, LOGIN_COOKIE "=%s; Path=/; HttpOnly; SameSite=Strict; Max-Age=%d%s", token, max_age_s,
             secure ? "; Secure" : "");
    request_add_header(rq, MHD_HTTP_HEADER_SET_COOKIE, text);
    sodium_memzero(text, sizeof text);
}

/* The credentials in `b` with what becomes of the session; wiped. */
static void ask(struct request *rq, enum gateway_keeper which, struct buf *b, const char *session, keeper_answer_fn *fn)
{
    json_str(b, "address", rq->address);
    json_str(b, "session", session);
    json_end(b, '}');
    if (keeper_ask(rq->g->keepers[which], KEEPER_LOGIN, b->p, b->n, fn, rq) < 0)
        request_refuse_for(rq, "unavailable", 1, "too many logins wait");
    else
        request_wait(rq);
    sodium_memzero(b->p, b->n);
}

static void on_begun(void *arg, int code, const bson_t *doc, const char *body, size_t n)
{
    struct request *rq = arg;
    (void)body;
    (void)n;
    if (login_take(rq, code, doc)) {
        get_whoami(rq);
        set_cookie(rq, json_get_str(doc, "session", ""), ACCOUNT_SESSION_S);
    }
    request_go_on(rq);
}

void session_begin(struct request *rq)
{
    AUTO_BSON bson_t *doc = json_parse(rq->body.p ? rq->body.p : "", rq->body.n, NULL);
    AUTO_BUF struct buf b = {0};
    if (rq->body.p)
        sodium_memzero(rq->body.p, rq->body.n);
    if (!doc || !json_get_str(doc, "user", NULL) || !json_get_str(doc, "password", NULL)) {
        request_refuse(rq, "bad_request", "the body is {\"user\": …, \"password\": …}");
        return;
    }
    json_begin(&b, NULL, '{');
    json_str(&b, "scheme", "basic");
    json_str(&b, "user", json_get_str(doc, "user", ""));
    json_str(&b, "password", json_get_str(doc, "password", ""));
    ask(rq, KEEPER_OF_PASSWORDS, &b, "begin", on_begun);
    sodium_memzero((void *)bson_get_data(doc), doc->len);
}

static void on_ended(void *arg, int code, const bson_t *doc, const char *body, size_t n)
{
    struct request *rq = arg;
    (void)body;
    (void)n;
    if (code < 0 || json_get_str(doc, "error", NULL)) {
        request_refuse_for(rq, "unavailable", 1, "accounts cannot be changed now; the session goes on");
    } else {
        request_answer(rq, MHD_HTTP_NO_CONTENT, NULL, &(struct buf){0});
        set_cookie(rq, "", 0);
    }
    request_go_on(rq);
}

void session_end(struct request *rq)
{
    AUTO_BUF struct buf b = {0};
    const char *session = login_session(rq);
    if (!session) {
        request_refuse(rq, "state", "this is no session: tokens are revoked by `mysimbdp token revoke`");
        return;
    }
    json_begin(&b, NULL, '{');
    json_str(&b, "scheme", "bearer");
    json_str(&b, "token", session);
    ask(rq, KEEPER_OF_TOKENS, &b, "end", on_ended);
}
