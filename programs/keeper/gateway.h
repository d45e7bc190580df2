/* What `simbdp-keeper gateway` does. The gateway talks to strangers and may have been taken over: each answer here is for who is
 * proved to ask, by a ticket (lib/accounts/accounts.h), and is looked at anew. Questions are JSON objects:
 *
 * - LOGIN: {"scheme":"bearer","token","address"} | {"scheme":"basic","user","password","address"} |
 *   {"scheme":"ticket","ticket"} (one that still holds: for another minute)
 *   -> {"ticket","account","role","tenant_id","token_id","user_id","password_ms","verbs":[],"datasets":[]|null}
 *   |  {"error":"unauthorized"} | {"error":"slow_down","retry_after_s"} | {"error":"unavailable"}
 * - QUERY: {"ticket","tenant_id","query","params":{}}: lib/query/query.h says which there are; and `audit`, of no tenant's, for an
 *   operator (audit_page.h) -> {"status","code","detail","type", and what the query adds}, a line feed, the body
 * - FIGURES: {"ticket","format":"text"|"openmetrics"}, an operator's -> {"status":200}, a line feed, all figures (figures.h) but
 *   for the last line; {"status":401|403|503,"code"}
 * - MACHINE: {"ticket"}, an operator's -> {"status":200}, a line feed, what machine.h writes; or as FIGURES
 * - AUDIT: {"ticket","account","what","tenant_id","subject","outcome","address"} -> {}. Where the ticket does not hold any more (an
 *   upload may take long), the record says so of its `account`. */
#ifndef SIMBDP_KEEPER_GATEWAY_H
#define SIMBDP_KEEPER_GATEWAY_H

#include "base/buf.h"
#include "conf/conf.h"
#include "front/keeper.h"
#include "host/home.h"

struct gateway_keeper;

/* Opens the accounts, with the rights of who starts it; h is borrowed. */
int gateway_keeper_new(const struct home *h, struct gateway_keeper **ret, struct err *e);
void gateway_keeper_free(struct gateway_keeper *g); /* NULL is fine */
/* Borrowed, until the next. */
void gateway_keeper_set_conf(struct gateway_keeper *g, const struct conf *c);
/* Adds the answer to `out`, but for FIGURES. False: this is no question for it. Blocks as accounts.h, audit.h and query.h say. */
bool gateway_keeper_answer(struct gateway_keeper *g, enum keeper_op op, const char *text, size_t n, struct buf *out);
/* The answer to FIGURES, which is long, written to a file. 0; ERR_FORMAT: this is no question; -errno. Blocks as figures.h says. */
int gateway_keeper_figures(struct gateway_keeper *g, const char *text, size_t n, int fd);

#endif
