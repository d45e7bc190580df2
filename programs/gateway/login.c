#include "login.h"
#include "framing.h"
#include "gateway.h"
#include "request.h"

#include "base/mem.h"

#include <sodium.h>
#include <string.h>
#include <strings.h>

enum { MAX_CREDENTIALS = 512 };

static uint32_t verbs_of(const bson_t *doc)
{
    uint32_t verbs = 0;
    enum verb verb;
    bson_iter_t it;
    if (json_get_iter(doc, "verbs", &it))
        while (bson_iter_next(&it))
            if (BSON_ITER_HOLDS_UTF8(&it) && account_verb_of(bson_iter_utf8(&it, NULL), &verb))
                verbs |= 1U << verb;
    return verbs;
}

static char **datasets_of(const bson_t *doc)
{
    bson_iter_t it;
    char **v = NULL;
    size_t n = 0;
    if (!json_get_iter(doc, "datasets", &it))
        return NULL;
    v = xcalloc(1, sizeof *v);
    while (bson_iter_next(&it))
        if (BSON_ITER_HOLDS_UTF8(&it)) {
            v = xrealloc(v, (n + 2) * sizeof *v);
            v[n++] = xstrdup(bson_iter_utf8(&it, NULL));
            v[n] = NULL;
        }
    return v;
}

void login_read(const bson_t *doc, struct account *ret)
{
    enum role role = ROLE_tenant_reader;
    account_role_of(json_get_str(doc, "role", ""), &role);
    *ret = (struct account){.name = xstrdup(json_get_str(doc, "account", "")),
                            .role = role,
                            .tenant = xstrdup(json_get_str(doc, "tenant_id", NULL)),
                            .token_id = xstrdup(json_get_str(doc, "token_id", NULL)),
                            .verbs = verbs_of(doc),
                            .datasets = datasets_of(doc),
                            .user_id = xstrdup(json_get_str(doc, "user_id", "")),
                            .password_ms = json_get_i64(doc, "password_ms", 0)};
}

/* False: it was refused. */
static bool let_in(struct request *rq, int code, const bson_t *doc)
{
    const char *error = code < 0 ? "unavailable" : json_get_str(doc, "error", NULL);
    if (!error)
        return true;
    if (!strcmp(error, "slow_down"))
        request_refuse_for(rq, error, json_get_i64(doc, "retry_after_s", 1), "too many failed attempts from %s", rq->address);
    else if (!strcmp(error, "unauthorized"))
        request_refuse(rq, error, "the user, password or token is wrong, expired or revoked");
    else
        request_refuse_for(rq, "unavailable", 1, "accounts cannot be read now");
    return false;
}

bool login_take(struct request *rq, int code, const bson_t *doc)
{
    if (!let_in(rq, code, doc))
        return false;
    login_read(doc, &rq->who);
    rq->ticket = xstrdup(json_get_str(doc, "ticket", ""));
    return true;
}

static void on_answer(void *arg, int code, const bson_t *doc, const char *body, size_t n)
{
    struct request *rq = arg;
    (void)body;
    (void)n;
    login_take(rq, code, doc);
    request_go_on(rq);
}

static bool add_basic(struct buf *b, const char *text)
{
    char plain[MAX_CREDENTIALS + 1];
    size_t n;
    if (sodium_base642bin((unsigned char *)plain, MAX_CREDENTIALS, text, strlen(text), " ", &n, NULL,
                          sodium_base64_VARIANT_ORIGINAL) ||
        memchr(plain, 0, n))
        return false;
    plain[n] = 0;
    char *password = strchr(plain, ':');
    if (!password)
        return false;
    *password++ = 0;
    json_str(b, "scheme", "basic");
    json_str(b, "user", plain);
    json_str(b, "password", password);
    sodium_memzero(plain, sizeof plain);
    return true;
}

const char *login_session(const struct request *rq)
{
    return request_header(rq, MHD_HTTP_HEADER_AUTHORIZATION)
               ? NULL
               : MHD_lookup_connection_value(rq->connection, MHD_COOKIE_KIND, LOGIN_COOKIE);
}

/* The request for the keeper; -1: there is nothing that it could know. */
static int credentials(const struct request *rq, struct buf *b)
{
    const char *field = request_header(rq, MHD_HTTP_HEADER_AUTHORIZATION);
    const char *session = login_session(rq);
    int which = -1;
    json_begin(b, NULL, '{');
    if (session && strlen(session) <= MAX_CREDENTIALS) {
        json_str(b, "scheme", "bearer");
        json_str(b, "token", session);
        which = KEEPER_OF_TOKENS;
    }
    if (field && strlen(field) > MAX_CREDENTIALS)
        return -1;
    if (field && !strncasecmp(field, "Bearer ", 7)) {
        json_str(b, "scheme", "bearer");
        json_str(b, "token", field + 7 + strspn(field + 7, " "));
        which = KEEPER_OF_TOKENS;
    } else if (field && !strncasecmp(field, "Basic ", 6) && add_basic(b, field + 6 + strspn(field + 6, " "))) {
        which = KEEPER_OF_PASSWORDS;
    }
    json_str(b, "address", rq->address);
    json_end(b, '}');
    return which;
}

static void begin(struct request *rq, keeper_answer_fn *fn, void *arg)
{
    AUTO_BUF struct buf b = {0};
    int which = credentials(rq, &b);
    if (login_session(rq) && framing_changes(rq) && !request_header(rq, MHD_HTTP_HEADER_ORIGIN))
        request_refuse(rq, "forbidden", "a session changes something by a page of this site only (there is no Origin)");
    else if (which < 0)
        request_refuse(rq, "unauthorized", "log in with a token (Authorization: Bearer ...) or with user and password (Basic)");
    else if (keeper_ask(rq->g->keepers[which], KEEPER_LOGIN, b.p, b.n, fn, arg) < 0)
        request_refuse_for(rq, "unavailable", 1, "too many logins wait");
    if (b.p)
        sodium_memzero(b.p, b.n);
}

void login_begin(struct request *rq)
{
    begin(rq, on_answer, rq);
    if (!rq->answered)
        request_wait(rq);
}

/* ---- once more ---- */

struct again {
    struct request *rq;
    void (*then)(struct request *rq);
};

static void on_again(void *arg, int code, const bson_t *doc, const char *body, size_t n)
{
    struct again a = *(struct again *)arg;
    free(arg);
    (void)body;
    (void)n;
    if (let_in(a.rq, code, doc)) {
        xstr_set(&a.rq->ticket, json_get_str(doc, "ticket", ""));
        a.then(a.rq);
    } else {
        request_go_on(a.rq);
    }
}

void login_again(struct request *rq, void (*then)(struct request *rq))
{
    struct again *a = xmalloc(sizeof *a);
    *a = (struct again){rq, then};
    begin(rq, on_again, a);
    if (!rq->answered)
        return;
    free(a);
    request_go_on(rq);
}
