/* A peer's connection, from its handshake to its end.
 *
 * The protocol's bytes are docs/wire.md; lib/zmtp/ has bounded what a connection may have under way before anything comes here. A
 * peer may have several consumers, each with a subscription of its own, and publish besides. Its requests are acted upon in the
 * order in which they come, but for those that wait for their tenant's share of a turn (share.h).
 *
 * What goes wrong                     what the peer sees, and what it does
 *   nobody knows it                   every request is refused (auth). It is looked up again at each: its tenant may be new
 *   a request makes no sense          it is refused (protocol); the connection goes on
 *   its tenant sends too much         requests wait for the next turns; where too many wait, they are refused (busy)
 *   it does not read its answers      It is deaf: nothing is sent, what could not be delivered goes back to its subscription, and
 *                                     requests are counted and not acted upon. Once it reads it is told how many there were (busy,
 *                                     of request 0); whatever was not answered it sends again
 *   the connection ends               What its consumers hold is handed out again, as suspect (store/streams.h). Requests that
 *                                     wait are dropped, answers too: it sends again what was not confirmed, under the same numbers
 *                                     of its publisher, and what was stored is known then
 *   the broker ends, or is killed     the same, but that nothing is suspect: leases are in memory alone
 *
 * A CONFIRM never leaves before what it confirms is durable (turn.c). */
#include "session.h"
#include "answers.h"
#include "auth.h"
#include "consume.h"
#include "kafka.h"
#include "requests.h"
#include "share.h"

#include "base/mem.h"

#include <inttypes.h>

static struct session *session_new(struct broker *b, struct zmtp_conn *c)
{
    struct session *s = xcalloc(1, sizeof *s);
    *s = (struct session){.b = b, .conn = c, .number = ++b->last_session};
    s->key = xasprintf("%llu", (unsigned long long)s->number);
    map_put(&b->sessions, s->key, s);
    auth_identify(b, s);
    return s;
}

static void end(struct session *s, bool lost)
{
    consume_end_all(s, lost);
    map_remove(&s->b->sessions, s->key);
    share_forget(s);
    answers_forget(s);
    kafka_forget_session(s);
    free(s->consumers);
    free(s->key);
    zmtp_set_tag(s->conn, NULL);
    free(s);
}

void session_end_all(struct broker *b)
{
    size_t i = 0;
    for (struct session *s; (s = map_next(&b->sessions, &i));)
        end(s, false);
    map_fini(&b->sessions);
}

/* Tries to tell it what it missed: whether that leaves shows whether it reads again. */
static bool hears_again(struct session *s)
{
    struct wire_header none = {0};
    answer_refuse(s, &none, WIRE_busy, 0,
                  "%" PRIu64 " requests of this peer were not listened to while it did not read its answers; "
                  "send again what was not answered",
                  s->n_unheard);
    if (s->deaf)
        return false;
    s->n_unheard = 0;
    consume_want(s);
    return true;
}

void session_on_open(void *broker, struct zmtp_conn *c)
{
    zmtp_set_tag(c, session_new(broker, c));
}

void session_on_close(void *broker, struct zmtp_conn *c)
{
    (void)broker;
    if (zmtp_tag(c)) /* the broker ends: sessions went first */
        end(zmtp_tag(c), true);
}

/* It reads again: it is told what it missed, and gets messages. */
void session_on_drain(void *broker, struct zmtp_conn *c)
{
    struct session *s = zmtp_tag(c);
    if (!s || (s->deaf && !hears_again(s)))
        return;
    consume_want(s);
    broker_turn_soon(broker);
}

void session_on_message(void *broker, struct zmtp_conn *c, struct zmtp_message *m)
{
    static struct wire_request rq;
    struct broker *b = broker;
    struct session *s = zmtp_tag(c);
    const char *why;
    broker_look_at_clocks(b);
    if (s->peer == PEER_NOBODY)
        auth_identify(b, s); /* its tenant may be known by now */
    b->n_requests++;
    bool ok = wire_parse(m->f, m->n, &rq, &why) && !m->too_many;
    if (s->deaf && !hears_again(s))
        s->n_unheard++;
    else if (!ok)
        answer_refuse(s, &rq.h, WIRE_protocol, 0, "%s", m->too_many ? "too many frames" : why);
    else
        requests_act(s, &rq, m);
    broker_turn_soon(b);
}
