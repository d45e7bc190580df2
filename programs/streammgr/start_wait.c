#include "start_wait.h"
#include "streammgr.h"
#include "tenant_facts.h"

#include "base/clk.h"
#include "loop/ctl.h"
#include "loop/timer.h"

#include <event2/event.h>

enum { LOOK_MS = 50 };

static struct waiter {
    struct ctl_conn *conn;
    bson_t *rq;
    start_wait_fn *fn;
    int64_t until_ms;
} waiters[START_WAIT_MAX];
static size_t n_waiters;
static struct event *look_ev;

static bool is_looked_at(const struct streammgr *m, const bson_t *rq)
{
    const struct tenant_facts *f = tenant_facts_of(m, json_get_str(rq, "tenant_id", ""));
    return f && !f->database_looking;
}

static void on_look(evutil_socket_t fd, short what, void *arg)
{
    struct streammgr *m = arg;
    struct err none = {0};
    int64_t now = clk_now_ms();
    (void)fd;
    (void)what;
    tenant_facts_look(m, &none); /* its failure is the tick's to log */
    size_t n = n_waiters;
    n_waiters = 0;
    for (size_t i = 0; i < n; i++) {
        struct waiter w = waiters[i];
        if (!is_looked_at(m, w.rq) && now < w.until_ms && !m->draining) {
            waiters[n_waiters++] = w;
            continue;
        }
        w.fn(m, w.conn, w.rq);
        ctl_release(w.conn);
        bson_destroy(w.rq);
    }
    if (n_waiters)
        timer_set(look_ev, LOOK_MS);
}

bool start_wait(struct streammgr *m, struct ctl_conn *c, const bson_t *rq, start_wait_fn *fn)
{
    if (is_looked_at(m, rq) || n_waiters == START_WAIT_MAX || m->draining)
        return false;
    if (!look_ev)
        look_ev = event_new(m->base, -1, 0, on_look, m);
    ctl_hold(c);
    waiters[n_waiters++] = (struct waiter){c, bson_copy(rq), fn, clk_now_ms() + START_WAIT_MS};
    timer_set(look_ev, LOOK_MS);
    return true;
}

void start_wait_stop(void)
{
    while (n_waiters) {
        ctl_release(waiters[--n_waiters].conn);
        bson_destroy(waiters[n_waiters].rq);
    }
    if (look_ev)
        event_free(look_ev);
    look_ev = NULL;
}
