#include "auth.h"

#include "base/log.h"
#include "base/mem.h"

#include <string.h>

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
    return znet_user_of_key(((struct broker *)broker)->conf, key, ret_max);
}

void auth_identify(struct broker *b, struct session *s)
{
    int64_t uid = zmtp_uid(s->conn);
    s->tenant = NULL;
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
