#include "public_conf.h"
#include "conf/keys.h"

#include "base/mem.h"

static const char *const of_platform[] = {"platform.listen",
                                          "platform.slurm.listen",
                                          "platform.ports",
                                          "platform.http",
                                          "platform.metrics",
                                          "platform.alerts.name",
                                          "platform.alerts.when",
                                          "platform.alerts.for_s",
                                          "platform.alerts.runbook_url",
                                          "platform.webhooks.alive_s",
                                          "platform.kafka.brokers",
                                          "platform.kafka.prefix",
                                          "platform.kafka.prefix_before",
                                          "platform.kafka.member",
                                          "platform.kafka.session_s",
                                          NULL};
static const char *const of_tenant[] = {"concurrency",
                                        "batch.app",
                                        "streams",
                                        "stream_apps.app",
                                        "stream_apps.stream",
                                        "stream_apps.exec", /* whether there is one */
                                        "stream_apps.min_instances",
                                        "stream_apps.max_instances",
                                        "stream_apps.on_demand",
                                        "stream_apps.scale",
                                        "curve_keys",
                                        NULL};

void conf_tell(const struct conf *c, struct buf *out)
{
    AUTO_BUF struct buf platform = {0};
    cfg_print(conf_platform_keys, c, of_platform, &platform);
    json_str(out, "platform", platform.p);
    json_bool(out, "traces", *c->platform.otlp.url && c->platform.otlp.traces);
    json_i64(out, "uid_base", c->platform.uid_base);
    json_i64(out, "n_uids", c->platform.n_uids);
    json_begin(out, "tenants", '[');
    for (size_t i = 0; i < c->n_tenants; i++) {
        AUTO_BUF struct buf tenant = {0};
        cfg_print(conf_tenant_keys, &c->tenants[i], of_tenant, &tenant);
        json_begin(out, NULL, '{');
        json_str(out, "id", c->tenants[i].id);
        json_str(out, "conf", tenant.p);
        json_end(out, '}');
    }
    json_end(out, ']');
}

static int add_tenant(struct conf *c, const bson_t *doc, struct err *e)
{
    c->tenants = xgrow(c->tenants, c->n_tenants, sizeof *c->tenants);
    struct conf_tenant *t = &c->tenants[c->n_tenants++];
    *t = (struct conf_tenant){.id = xstrdup(json_get_str(doc, "id", ""))};
    return cfg_read_part(json_get_str(doc, "conf", ""), conf_tenant_keys, t, e);
}

int conf_told(const bson_t *doc, struct conf **ret, struct err *e)
{
    struct conf *c = xcalloc(1, sizeof *c);
    bson_iter_t it;
    bson_t one;
    int r = cfg_read_part(json_get_str(doc, "platform", ""), conf_platform_keys, c, e);
    c->platform.otlp.traces = json_get_bool(doc, "traces", false);
    c->platform.uid_base = json_get_i64(doc, "uid_base", -1);
    c->platform.n_uids = json_get_i64(doc, "n_uids", 0);
    if (r == 0 && json_get_iter(doc, "tenants", &it))
        while (r == 0 && json_next_doc(&it, &one))
            r = add_tenant(c, &one, e);
    if (r < 0)
        conf_free(c);
    else
        *ret = c;
    return r;
}
