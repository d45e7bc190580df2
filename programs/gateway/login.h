/* Who a request comes from: the Authorization field is shown to a keeper, which knows the accounts. Nothing is remembered: a token
 * that was revoked is refused with the next request. */
#ifndef SIMBDP_GATEWAY_LOGIN_H
#define SIMBDP_GATEWAY_LOGIN_H

#include "accounts/accounts.h"
#include "base/json.h"

struct request;

/* Sets rq->who and rq->ticket; waits for that, or answers (401, 429). */
void login_begin(struct request *rq);
/* What a browser's session is kept in: HttpOnly, SameSite=Strict. Looked at where there is no Authorization; what it asks to change
 * has to come from a page of this origin. */
#define LOGIN_COOKIE "simbdp_session"
/* NULL: there is none. */
const char *login_session(const struct request *rq);
/* A keeper's answer to LOGIN: sets rq->who and rq->ticket. False: the request was refused. */
bool login_take(struct request *rq, int code, const bson_t *doc);

/* Who a keeper's answer to LOGIN is about. Freed with account_fini. */
void login_read(const bson_t *doc, struct account *ret);

/* A ticket lasts a minute: for a request that took longer. The header's credentials are shown once more; then `then` is called with
 * a new ticket, or the request is refused and goes on. It waits already. */
void login_again(struct request *rq, void (*then)(struct request *rq));

#endif
