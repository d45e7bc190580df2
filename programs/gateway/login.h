/* Who a request comes from: the Authorization field is shown to a keeper, which knows the accounts. Nothing is remembered: a token
 * that was revoked is refused with the next request. */
#ifndef SIMBDP_GATEWAY_LOGIN_H
#define SIMBDP_GATEWAY_LOGIN_H

struct request;

/* Sets rq->who and rq->ticket; waits for that, or answers (401, 429). */
void login_begin(struct request *rq);

/* A ticket lasts a minute: for a request that took longer. The header's credentials are shown once more; then `then` is called with
 * a new ticket, or the request is refused and goes on. It waits already. */
void login_again(struct request *rq, void (*then)(struct request *rq));

#endif
