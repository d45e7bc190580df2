#include "lookup.h"
#include "answers.h"

#include <stdio.h>
#include <string.h>

/* NULL: not there, or not configured. */
static struct broker_stream *find_stream(struct broker *b, const char *tenant, const char *name)
{
    char full[WIRE_MAX_NAME + 40];
    snprintf(full, sizeof full, "%s/%s", tenant, name);
    struct stream *stream = streams_find(b->streams, full);
    struct broker_stream *st = stream ? stream_tag(stream) : NULL;
    return st && st->configured ? st : NULL;
}

struct broker_stream *lookup_stream(struct session *s, const struct wire_request *rq)
{
    char tenant[WIRE_MAX_NAME + 1];
    const char *slash = strchr(rq->stream, '/'), *name = slash ? slash + 1 : rq->stream;
    snprintf(tenant, sizeof tenant, "%.*s", slash ? (int)(slash - rq->stream) : 0, rq->stream);
    const char *id = slash ? tenant : s->tenant ? s->tenant->id : NULL;
    if (s->peer == PEER_NOBODY) {
        answer_refuse(s, &rq->h, WIRE_auth, 0, "this peer (%s) is no tenant of this platform", zmtp_user(s->conn));
        return NULL;
    }
    if (!id) {
        answer_refuse(s, &rq->h, WIRE_unknown, 0,
                      "the operator and the gateway name streams as TENANT/STREAM; \"%s\" has no tenant", rq->stream);
        return NULL;
    }
    if (s->peer == PEER_TENANT && strcmp(id, s->tenant->id)) {
        answer_refuse(s, &rq->h, WIRE_auth, 0, "stream %s is not one of tenant %s", rq->stream, s->tenant->id);
        return NULL;
    }
    struct broker_stream *st = find_stream(s->b, id, name);
    if (!st)
        answer_refuse(s, &rq->h, WIRE_unknown, 0, "tenant %s has no stream \"%s\"; `streams` of its configuration lists them", id,
                      name);
    return st;
}

struct broker_sub *lookup_sub(const struct broker_stream *st, const char *app)
{
    struct sub *sub = stream_sub(st->stream, app);
    struct broker_sub *s = sub ? sub_tag(sub) : NULL;
    return s && s->configured ? s : NULL;
}
