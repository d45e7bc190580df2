#include "auth.h"

#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

enum { RUNS_LOOKED_AT = 32 /* in a tick: each look asks the keeper */ };

struct broker_tenant *auth_tenant(struct broker *b, const char *id)
{
    struct broker_tenant *t = map_get(&b->tenants, id);
    if (!t) {
        t = xcalloc(1, sizeof *t);
        *t = (struct broker_tenant){.id = xstrdup(id), .uid = -1};
        map_put(&b->tenants, id, t);
    }
    return t;
}

void auth_read_tenants(struct broker *b)
{
    struct tenant_state *v;
    struct err e = {0};
    size_t n;
    if (keeper_tenants(b->keeper, &v, &n, &e) < 0) {
        log_error("tenants", NULL, NULL, "%s", e.msg);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        struct broker_tenant *t = auth_tenant(b, v[i].id);
        t->uid = v[i].uid;
        t->suspended = v[i].suspended;
        t->held = v[i].held;
        t->moved = v[i].moved;
        t->still &= t->held;
    }
    tenant_states_free(v, n);
}

static struct broker_tenant *by_uid(struct broker *b, int64_t uid)
{
    size_t i = 0;
    for (struct broker_tenant *t; (t = map_next(&b->tenants, &i));)
        if (t->uid == uid)
            return t;
    return NULL;
}

static bool is_gateway(const struct broker *b, int64_t uid)
{
    return uid >= 0 && uid == b->gateway_uid;
}

int auth_may_connect(void *broker, int64_t uid)
{
    struct broker *b = broker;
    if (znet_is_platform(uid))
        return ZNET_OF_PLATFORM;
    if (is_gateway(b, uid))
        return ZNET_OF_TENANT;
    if (!by_uid(b, uid) && znet_may_look(&b->looks)) /* a tenant may have got it meanwhile */
        auth_read_tenants(b);
    return by_uid(b, uid) ? ZNET_OF_TENANT : 0;
}

const char *auth_user_of_key(void *broker, const unsigned char key[CURVE_KEY], int *ret_max)
{
    struct broker *b = broker;
    return znet_user_of_key(b->conf, b->keeper, key, ret_max);
}

static void note_run(struct broker *b, struct session *s)
{
    struct run_key k;
    if (!*s->run && znet_is_run(b->conf, b->keeper, s->conn, &k))
        snprintf(s->run, sizeof s->run, "%s", k.run_id);
}

void auth_look_at_runs(struct broker *b)
{
    size_t i = 0, n = 0;
    struct run_key k;
    for (struct session *s; (s = map_next(&b->sessions, &i));)
        n += *s->run != 0;
    uint64_t rounds = n / RUNS_LOOKED_AT + 1;
    i = 0;
    for (struct session *s; n && (s = map_next(&b->sessions, &i));)
        if (*s->run && s->number % rounds == (uint64_t)b->n_ticks % rounds && !znet_is_run(b->conf, b->keeper, s->conn, &k)) {
            log_info("run_over", s->tenant ? s->tenant->id : NULL, s->run, "its key is worth nothing any more: it is cut off");
            zmtp_end(s->conn);
        }
}

void auth_identify(struct broker *b, struct session *s)
{
    int64_t uid = zmtp_uid(s->conn);
    s->tenant = NULL;
    note_run(b, s);
    if (znet_is_platform(uid))
        s->peer = PEER_OPERATOR;
    else if (is_gateway(b, uid))
        s->peer = PEER_GATEWAY;
    else if ((s->tenant = uid < 0 ? map_get(&b->tenants, zmtp_user(s->conn)) : by_uid(b, uid)))
        s->peer = PEER_TENANT;
    else
        s->peer = PEER_NOBODY;
}

void auth_forget_tenants(struct broker *b)
{
    size_t i = 0;
    for (struct broker_tenant *t; (t = map_next(&b->tenants, &i));) {
        free(t->id);
        buf_fini(&t->spans);
        free(t);
    }
    map_fini(&b->tenants);
}
