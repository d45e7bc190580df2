/* What other programs say: the broker of its queues, streammgr of its instances, batchmgr of its files. Asked once a second; what
 * was said too long ago is not known any more. */
#include "monitor.h"

#include "base/clk.h"
#include "base/log.h"
#include "base/mem.h"
#include "loop/peer.h"

#include <math.h>
#include <string.h>

enum { FRESH_MS = 5000 };

bool follow_is_fresh(const struct monitor *m, int64_t told_ms)
{
    return told_ms && m->now_ms - told_ms < FRESH_MS;
}

/* ---- the broker ---- */

static double figure(const bson_t *doc, const char *key)
{
    return json_get_f64(doc, key, NAN);
}

/* A counter that went back is another broker's, or of a stream that was made anew. */
static double per_s(double now, double before, double s)
{
    return now >= before && s > 0 ? (now - before) / s : NAN;
}

static void see_partitions(struct app *a, const bson_t *doc)
{
    bson_iter_t it;
    a->n_partitions = a->mine = 0;
    if (!json_get_iter(doc, "mine", &it))
        return;
    a->n_partitions = json_get_i64(doc, "partitions", 0);
    while (bson_iter_next(&it))
        if (BSON_ITER_HOLDS_INT(&it) && bson_iter_as_int64(&it) >= 0 && bson_iter_as_int64(&it) < 64)
            a->mine |= 1ULL << bson_iter_as_int64(&it);
}

static void see_queue(struct monitor *m, const bson_t *doc)
{
    const char *name = json_get_str(doc, "app", NULL);
    struct app *a = name ? monitor_app(m, json_get_str(doc, "tenant_id", ""), name) : NULL;
    if (!a || strcmp(a->stream, json_get_str(doc, "stream", "")) != 0)
        return;
    double s = follow_is_fresh(m, a->queue_ms) ? (double)(m->now_ms - a->queue_ms) / 1000 : 0;
    double published = figure(doc, "published"), acked = figure(doc, "acked");
    a->ingress_per_s = per_s(published, a->published, s);
    a->settled_per_s = per_s(acked, a->acked, s);
    see_partitions(a, doc);
    a->published = published;
    a->acked = acked;
    a->ready = figure(doc, "ready");
    a->leased = figure(doc, "leased");
    a->oldest_age_s = figure(doc, "oldest_age_s");
    a->dead = figure(doc, "dead");
    a->in_per_s = figure(doc, "in_per_s");
    a->acked_per_s = figure(doc, "acked_per_s");
    a->consumes = figure(doc, "consumers") > 0;
    a->queue_ms = m->now_ms;
    if (a->settled_per_s > 0 || a->ready + a->leased == 0 || !a->settled_ms)
        a->settled_ms = m->now_ms;
}

static void each(struct monitor *m, const bson_t *doc, const char *key, void (*fn)(struct monitor *m, const bson_t *one))
{
    bson_iter_t it;
    bson_t one;
    if (json_get_iter(doc, key, &it))
        while (json_next_doc(&it, &one))
            fn(m, &one);
}

static void on_broker(void *arg, const bson_t *doc)
{
    struct monitor *m = arg;
    monitor_look_at_clocks(m);
    m->broker_asked = false;
    m->broker_ms = m->now_ms;
    each(m, doc, "queues", see_queue);
    monitor_judge(m);
}

static void on_broker_down(void *arg)
{
    struct monitor *m = arg;
    size_t i = 0;
    m->broker_asked = false;
    m->broker_ms = 0;
    for (struct app *a; (a = map_next(&m->apps, &i));)
        a->queue_ms = 0;
}

/* ---- streammgr ---- */

static void see_app(struct monitor *m, const bson_t *doc)
{
    struct app *a = monitor_app(m, json_get_str(doc, "tenant_id", ""), json_get_str(doc, "app", ""));
    bson_iter_t it;
    if (!a)
        return;
    xstr_set(&a->managed_state, json_get_str(doc, "state", ""));
    xstr_set(&a->why, json_get_str(doc, "reason", NULL));
    a->instances = json_get_i64(doc, "instances", 0);
    a->running = json_get_i64(doc, "ready", 0);
    a->desired = json_get_i64(doc, "desired", 0);
    a->by_hand = json_get_i64(doc, "by_hand", 0);
    a->restarts = json_get_i64(doc, "restarts", 0);
    a->order_seq = json_get_i64(doc, "order_seq", -1);
    a->pinned = json_get_bool(doc, "pinned", false);
    a->blocked = json_get_bool(doc, "blocked", false);
    a->managed_ms = m->now_ms;
    map_fini(&a->run_ids);
    if (json_get_iter(doc, "run_ids", &it))
        while (bson_iter_next(&it))
            if (BSON_ITER_HOLDS_UTF8(&it))
                map_put(&a->run_ids, bson_iter_utf8(&it, NULL), a);
}

static void on_streammgr(void *arg, const bson_t *doc)
{
    struct monitor *m = arg;
    bson_iter_t it;
    monitor_look_at_clocks(m);
    if (!json_get_iter(doc, "apps", &it)) {
        orders_answered(m, doc);
        return;
    }
    m->streammgr_asked = false;
    m->streammgr_ms = m->now_ms;
    m->epoch = json_get_i64(doc, "epoch", 0);
    each(m, doc, "apps", see_app);
}

static void on_streammgr_down(void *arg)
{
    struct monitor *m = arg;
    size_t i = 0;
    m->streammgr_asked = false;
    m->streammgr_ms = 0;
    m->epoch = 0;
    for (struct app *a; (a = map_next(&m->apps, &i));)
        a->managed_ms = 0;
    orders_lost(m);
}

/* ---- batchmgr ---- */

/* batch: ours now; NULL: nothing is known. */
static void set_batch(struct monitor *m, bson_t *batch)
{
    m->batchmgr_asked = false;
    if (m->batch)
        bson_destroy(m->batch);
    m->batch = batch;
    m->batchmgr_ms = 0;
}

static void on_batchmgr(void *arg, const bson_t *doc)
{
    struct monitor *m = arg;
    monitor_look_at_clocks(m);
    set_batch(m, bson_copy(doc));
    m->batchmgr_ms = m->now_ms;
    history_take_batch(m);
}

static void on_batchmgr_down(void *arg)
{
    set_batch(arg, NULL);
}

/* ---- asking ---- */

static void ask(struct peer *p, bool *asked, const char *request)
{
    if (!*asked) /* one that is slow is not asked faster */
        *asked = peer_send(p, request, strlen(request));
}

void follow_ask(struct monitor *m)
{
    ask(m->batchmgr, &m->batchmgr_asked, "{\"op\":\"status\"}");
    ask(m->streammgr, &m->streammgr_asked, "{\"op\":\"apps\"}");
    ask(m->broker, &m->broker_asked, "{\"op\":\"queues\"}");
}

static struct peer *connect_to(struct monitor *m, const char *program, void (*line)(void *, const bson_t *), void (*down)(void *))
{
    AUTO_FREE char *name = xasprintf("%s.sock", program);
    AUTO_FREE char *path = home_socket(&m->home, name);
    return peer_new(m->base, path, &(struct peer_ops){NULL, line, down, m});
}

void follow_start(struct monitor *m)
{
    m->broker = connect_to(m, "broker", on_broker, on_broker_down);
    m->streammgr = connect_to(m, "streammgr", on_streammgr, on_streammgr_down);
    m->batchmgr = connect_to(m, "batchmgr", on_batchmgr, on_batchmgr_down);
}

void follow_stop(struct monitor *m)
{
    peer_free(m->broker);
    peer_free(m->streammgr);
    peer_free(m->batchmgr);
    set_batch(m, NULL);
}
