#include "share.h"
#include "answers.h"
#include "quota.h"

#include "base/mem.h"

enum {
    TENANT_TURN_BYTES = 256 << 10, /* published by one tenant in a turn; the rest of its requests waits */
    MAX_PARKED_BYTES = 16 << 20,   /* of a tenant */
    PARKED_OVERHEAD = 512,
    BUSY_RETRY_MS = 50,
};

/* A request that waits for the next turn. */
struct parked {
    struct session *session; /* NULL: gone */
    struct zmtp_message m;
    int64_t bytes;
    struct parked *next;
};

static int64_t cost_of(const struct wire_request *rq)
{
    return quota_request_bytes(rq) + PARKED_OVERHEAD;
}

bool share_is_used_up(const struct broker_tenant *t)
{
    return t->first_parked || t->turn_bytes >= TENANT_TURN_BYTES;
}

void share_take(struct broker_tenant *t, const struct wire_request *rq)
{
    t->turn_bytes += cost_of(rq);
}

void share_park(struct session *s, const struct wire_request *rq, struct broker_tenant *t, struct zmtp_message *m)
{
    if (t->parked_bytes + quota_request_bytes(rq) > MAX_PARKED_BYTES) {
        answer_refuse(s, &rq->h, WIRE_busy, BUSY_RETRY_MS, "tenant %s sends more at once than the broker takes", t->id);
        return;
    }
    struct parked *p = xcalloc(1, sizeof *p);
    *p = (struct parked){.session = s, .bytes = cost_of(rq)};
    zmtp_message_move(&p->m, m);
    if (!t->first_parked)
        t->last_parked = &t->first_parked;
    *t->last_parked = p;
    t->last_parked = &p->next;
    t->parked_bytes += p->bytes;
    if (!t->parking) {
        t->parking = true;
        t->next = s->b->parking;
        s->b->parking = t;
    }
}

void share_forget(struct session *s)
{
    for (struct broker_tenant *t = s->b->parking; t; t = t->next)
        for (struct parked *p = t->first_parked; p; p = p->next)
            if (p->session == s)
                p->session = NULL;
}

static void unpark_one(struct broker_tenant *t, void (*go_on)(struct session *s, const struct wire_request *rq))
{
    static struct wire_request rq;
    struct parked *p = t->first_parked;
    const char *why;
    t->first_parked = p->next;
    t->parked_bytes -= p->bytes;
    if (p->session && wire_parse(p->m.f, p->m.n, &rq, &why))
        go_on(p->session, &rq);
    zmtp_message_fini(&p->m);
    free(p);
}

bool share_next_turn(struct broker *b, void (*go_on)(struct session *s, const struct wire_request *rq))
{
    size_t i = 0;
    struct broker_tenant *v = b->parking;
    b->parking = NULL;
    for (struct broker_tenant *t; (t = map_next(&b->tenants, &i));)
        t->turn_bytes = 0;
    while (v) {
        struct broker_tenant *t = v;
        v = t->next;
        while (t->first_parked && t->turn_bytes < TENANT_TURN_BYTES)
            unpark_one(t, go_on);
        t->parking = t->first_parked != NULL;
        if (t->parking) {
            t->next = b->parking;
            b->parking = t;
        }
    }
    return b->parking != NULL;
}
