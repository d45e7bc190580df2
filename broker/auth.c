#include "broker.h"

#include "common/clk.h"
#include "common/log.h"
#include "common/mem.h"

#include <string.h>
#include <unistd.h>

enum { READS_PER_S = 20 };

struct btenant *auth_tenant(struct broker *b, const char *id)
{
    struct btenant *t = map_get(&b->tenants, id);
    if (!t) {
        t = xcalloc(1, sizeof *t);
        *t = (struct btenant){.id = xstrdup(id), .uid = -1};
        map_put(&b->tenants, id, t);
    }
    return t;
}

/* Strangers must not keep the broker reading. */
static bool may_read_again(struct broker *b)
{
    int64_t second = clk_now_ms() / 1000;
    if (b->tenants_read_s != second)
        b->n_tenant_reads = 0;
    b->tenants_read_s = second;
    return b->n_tenant_reads++ < READS_PER_S;
}

void auth_read_tenants(struct broker *b)
{
    struct tenant_state *v;
    struct err e = {0};
    size_t n;
    if (tenant_states(&b->home, &v, &n, &e) < 0) {
        log_error("tenants", NULL, NULL, "%s", e.msg);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        struct btenant *t = auth_tenant(b, v[i].id);
        t->uid = v[i].uid;
        t->suspended = v[i].suspended;
    }
    tenant_states_free(v, n);
}

static struct btenant *by_uid(struct broker *b, int64_t uid)
{
    size_t i = 0;
    for (struct btenant *t; (t = map_next(&b->tenants, &i));)
        if (t->uid == uid)
            return t;
    return NULL;
}

int auth_may_connect(void *broker, int64_t uid)
{
    struct broker *b = broker;
    if (uid == (int64_t)geteuid() || uid == 0)
        return ZNET_OF_PLATFORM;
    if (!by_uid(b, uid) && may_read_again(b)) /* batchmgr may have given it to one meanwhile */
        auth_read_tenants(b);
    return by_uid(b, uid) ? ZNET_OF_TENANT : 0;
}

const char *auth_user_of_key(void *broker, const unsigned char key[CURVE_KEY], int *ret_max)
{
    const struct conf_tenant *t = znet_tenant_of_key(((struct broker *)broker)->conf, key);
    *ret_max = ZNET_OF_TENANT;
    return t ? t->id : NULL;
}

void auth_identify(struct broker *b, struct session *s)
{
    int64_t uid = zmtp_uid(s->conn);
    s->is_operator = uid >= 0 && (uid == (int64_t)geteuid() || uid == 0);
    s->tenant = s->is_operator ? NULL : uid < 0 ? map_get(&b->tenants, zmtp_user(s->conn)) : by_uid(b, uid);
}
