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

int64_t auth_pid(const struct session *s)
{
    return s->listener->is_tcp ? -1 : znet_peer_pid(s->peer);
}

void auth_identify(struct broker *b, struct session *s)
{
    s->tenant = NULL;
    s->is_operator = false;
    if (s->listener->is_tcp) {
        s->tenant = map_get(&b->tenants, s->peer);
        return;
    }
    int64_t uid = znet_peer_uid(s->peer);
    if (uid < 0)
        return;
    s->is_operator = uid == (int64_t)geteuid() || uid == 0;
    if (s->is_operator)
        return;
    s->tenant = by_uid(b, uid);
    if (!s->tenant && may_read_again(b)) { /* batchmgr may have given it one meanwhile */
        auth_read_tenants(b);
        s->tenant = by_uid(b, uid);
    }
}
