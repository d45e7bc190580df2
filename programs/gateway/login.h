/* Who a request comes from: the Authorization field is shown to a keeper, which knows the accounts. Nothing is remembered: a token
 * that was revoked is refused with the next request. */
#ifndef SIMBDP_GATEWAY_LOGIN_H
#define SIMBDP_GATEWAY_LOGIN_H

#include "accounts/accounts.h"
#include "base/json.h"

struct request;

/* Sets rq->who and rq->ticket; waits for that, or answers (401, 429). */
void login_begin(struct request *rq);
/* Who a keeper's answer to LOGIN is about. Freed with account_fini. */
void login_read(const bson_t *doc, struct account *ret);

/* A ticket lasts a minute: for a request that took longer. The header's credentials are shown once more; then `then` is called with
 * a new ticket, or the request is refused and goes on. It waits already. */
void login_again(struct request *rq, void (*then)(struct request *rq));

#endif
