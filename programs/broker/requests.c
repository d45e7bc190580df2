#include "requests.h"
#include "answers.h"
#include "consume.h"
#include "lookup.h"
#include "publish.h"
#include "quota.h"

static void describe(struct session *s, const struct wire_request *rq)
{
    struct broker_stream *st = lookup_stream(s, rq);
    AUTO_BUF struct buf header = {0}, terms = {0};
    if (!st)
        return;
    wire_add_header(&header, WIRE_DESCRIBED, 0, rq->h.request);
    le_add_u64(&terms, (uint64_t)st->conf.max_message_bytes);
    le_add_u32(&terms, (uint32_t)quota_messages(&st->conf));
    le_add_u64(&terms, (uint64_t)quota_bytes(&st->conf));
    struct wire_frame v[] = {{header.p, header.n}, {terms.p, terms.n}};
    answer_send(s, v, 2);
}

/* Who got hold of the gateway reads no tenant's messages. */
static bool may_ask(const struct session *s, uint8_t verb)
{
    return s->peer != PEER_GATEWAY || verb == WIRE_PUBLISH || verb == WIRE_DESCRIBE || verb == WIRE_PING;
}

void requests_act(struct session *s, const struct wire_request *rq, struct zmtp_message *m)
{
    AUTO_BUF struct buf header = {0};
    if (!may_ask(s, rq->h.verb)) {
        answer_refuse(s, &rq->h, WIRE_auth, 0, "the gateway publishes, and does not consume");
        return;
    }
    switch (rq->h.verb) {
    case WIRE_PUBLISH:
        publish_request(s, rq, m);
        break;
    case WIRE_DESCRIBE:
        describe(s, rq);
        break;
    case WIRE_SUBSCRIBE:
        consume_subscribe(s, rq);
        break;
    case WIRE_UNSUBSCRIBE:
        consume_unsubscribe(s, rq);
        break;
    case WIRE_ACK:
    case WIRE_NACK:
    case WIRE_EXTEND:
        consume_settle(s, rq);
        break;
    default:
        wire_add_header(&header, WIRE_PONG, 0, rq->h.request);
        answer_send(s, &(struct wire_frame){header.p, header.n}, 1);
    }
}
