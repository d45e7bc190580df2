/* What a run may reach on the network: `network` of its profile, turned into the targets of its spec. The runner makes a listener
 * for each (programs/runner/netns.h) and relays what connects. */
#include "plan.h"

#include "base/address.h"
#include "base/mem.h"
#include "base/privs.h"
#include "host/uid_block.h"

#include <stdio.h>
#include <string.h>

static void add_target(void *arg, const struct address *a, const char *path)
{
    struct run_spec *s = arg;
    char port[16];
    if (path) {
        plan_path(s, path, "r");
        return;
    }
    snprintf(port, sizeof port, "%d", a->port);
    run_pairs_add(&s->targets, a->host, port);
}

void plan_network(struct run_spec *s, const struct plan_host *h, const struct conf_profile *p, const char *mongo_url)
{
    s->own_network = s->full_isolation && !conf_network_has(p, CONF_NET_HOST);
    s->relay = home_program(h->home, "simbdp-relay");
    s->relay_uid = privs_is_root() ? uid_in_block(h->uid_base, UID_RELAY) : -1;
    if (!s->own_network)
        return;
    for (size_t i = 0; i < p->network.n; i++) {
        const char *v = p->network.v[i];
        struct address a;
        if (!strcmp(v, CONF_NET_PLATFORM))
            address_of_mongo(mongo_url ? mongo_url : "", add_target, s);
        else if (address_parse(v, strlen(v), 0, &a) == 0)
            add_target(s, &a, NULL);
    }
}
