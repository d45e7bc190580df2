#include "store_job.h"
#include "request.h"

#include "base/clk.h"
#include "loop/timer.h"

#include <stdio.h>

enum { PATIENCE_MS = 25000, FIRST_LOOK_MS = 20, LOOK_MS = 250 };

void store_begin(const struct request *rq, const char *verb, struct buf *b)
{
    json_begin(b, NULL, '{');
    json_str(b, "verb", verb);
    json_str(b, "ticket", rq->ticket);
    if (rq->tenant)
        json_str(b, "tenant_id", rq->tenant);
    if (rq->app)
        json_str(b, "app", rq->app);
}

bool store_ask(struct request *rq, struct buf *b, keeper_answer_fn *fn, void *arg)
{
    json_end(b, '}');
    if (keeper_ask(rq->g->keepers[KEEPER_OF_STORE], KEEPER_STORE, b->p, b->n, fn, arg) < 0)
        request_refuse_for(rq, "unavailable", 1, "too many requests of this kind wait");
    return !rq->answered;
}

static void on_looked(void *arg, int code, const bson_t *doc, const char *body, size_t n)
{
    struct store_job *j = arg;
    (void)body;
    (void)n;
    if (code < 0 || !json_get_bool(doc, "going", false)) {
        j->done(j->arg, code < 0 ? NULL : doc);
    } else if (clk_now_ms() >= j->until_ms) {
        j->late(j->arg);
    } else {
        j->look_ms = j->look_ms * 2 < LOOK_MS ? j->look_ms * 2 : LOOK_MS;
        timer_set(j->ev, j->look_ms);
    }
}

static void on_look(evutil_socket_t fd, short what, void *arg)
{
    struct store_job *j = arg;
    AUTO_BUF struct buf b = {0};
    (void)fd;
    (void)what;
    store_begin(j->rq, "wait", &b);
    json_str(&b, "job", j->id);
    if (!store_ask(j->rq, &b, on_looked, j))
        request_go_on(j->rq);
}

void store_job_follow(struct store_job *j, const char *id)
{
    snprintf(j->id, sizeof j->id, "%s", id);
    j->until_ms = clk_now_ms() + PATIENCE_MS;
    j->look_ms = FIRST_LOOK_MS;
    j->ev = event_new(j->rq->g->base, -1, 0, on_look, j);
    timer_set(j->ev, j->look_ms);
}

void store_job_fini(struct store_job *j)
{
    if (j->ev)
        event_free(j->ev);
}
