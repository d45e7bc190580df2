#include "reload.h"
#include "restart.h"
#include "app.h"
#include "manual_instances.h"
#include "reconcile.h"
#include "streammgr.h"
#include "tenant_facts.h"

#include "base/log.h"
#include "base/mem.h"
#include "conf/conf.h"
#include "manager/enter.h"
#include "manager/spawner.h"

/* Forgets what was asked for of an app whose tenant is gone: one that comes back under the name begins anew. */
static void forget_if_gone(struct app *a)
{
    if (!a->forgotten || conf_tenant(a->mgr->conf, a->tenant))
        return;
    a->forgotten = a->stopped = a->pinned = false;
    a->wanted = 0;
    a->least = -1;
    manual_instances_end(a);
    xstr_set(&a->args, NULL);
}

int streammgr_reload(struct streammgr *m, struct err *e)
{
    struct conf *next = NULL;
    size_t at = 0;
    int r = conf_load(m->home.path, &next, e);
    if (r == 0) {
        struct conf *old = m->conf;
        m->conf = next;
        m->version++;
        conf_free(old);
        spawner_tell(m->spawner, &(struct warden_request){.op = WARDEN_RELOAD}, NULL, NULL, 0);
        r = tenant_facts_read(m, e);
    }
    if (r < 0) {
        log_error("reload", NULL, NULL, "%s", e->msg);
        return r;
    }
    for (struct app *a; (a = map_next(&m->apps, &at));) {
        restart_forgive(a);
        forget_if_gone(a);
    }
    reconcile_all(m);
    if (m->supervised)
        outside_leave(m->outside, &m->home, m->conf, m->base);
    return 0;
}
