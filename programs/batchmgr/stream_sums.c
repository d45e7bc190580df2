#include "stream_sums.h"
#include "state.h"
#include "retention.h"

#include "base/log.h"
#include "base/mem.h"
#include "host/stream_log.h"
#include "loop/timer.h"

#include <event2/event.h>
#include <stdatomic.h>
#include <string.h>

enum { EVERY_MS = 3600000, FIRST_MS = 5000, DAY_MS = 86400000 };

struct due {
    char *tenant;
    int64_t before_ms;
};

struct stream_sums {
    struct batchmgr *m;
    struct event *timer;
    pthread_t thread;
    bool has_thread;
    _Atomic bool ends, ended;
    struct due *v; /* the thread's while it runs */
    size_t n;
};

pthread_mutex_t stream_sums_lock = PTHREAD_MUTEX_INITIALIZER;

static void *sum_all(void *arg)
{
    struct stream_sums *s = arg;
    for (size_t i = 0; i < s->n && !s->ends; i++) {
        pthread_mutex_lock(&stream_sums_lock);
        int r = stream_log_sum(s->m->home.dirfd, s->v[i].tenant, s->v[i].before_ms);
        pthread_mutex_unlock(&stream_sums_lock);
        if (r < 0)
            log_warn("journal", s->v[i].tenant, NULL,
                     "logs/tenants/%s: what its streams did long ago cannot be summed: %s; trying again in an hour", s->v[i].tenant,
                     err_text(r));
    }
    s->ended = true;
    return NULL;
}

static void join(struct stream_sums *s)
{
    if (s->has_thread)
        pthread_join(s->thread, NULL);
    s->has_thread = false;
    for (size_t i = 0; i < s->n; i++)
        free(s->v[i].tenant);
    free(s->v);
    s->v = NULL;
    s->n = 0;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct stream_sums *s = arg;
    const struct conf *c = s->m->conf;
    (void)fd;
    (void)what;
    timer_set(s->timer, EVERY_MS);
    if (s->has_thread && !s->ended)
        return; /* very much is to be summed, of a version that closed no files */
    join(s);
    s->v = xcalloc(c->n_tenants + 1, sizeof *s->v);
    for (size_t i = 0; i < c->n_tenants; i++) {
        int64_t days = c->tenants[i].retention.logs_days;
        if (days >= 0)
            s->v[s->n++] = (struct due){xstrdup(c->tenants[i].id), retention_now_ms(s->m) - days * DAY_MS};
    }
    s->ended = false;
    s->has_thread = pthread_create(&s->thread, NULL, sum_all, s) == 0;
}

void stream_sums_start(struct batchmgr *m)
{
    struct stream_sums *s = m->stream_sums = xcalloc(1, sizeof *s);
    s->m = m;
    s->timer = event_new(m->base, -1, 0, on_timer, s);
    timer_set(s->timer, FIRST_MS);
}

void stream_sums_stop(struct batchmgr *m)
{
    struct stream_sums *s = m->stream_sums;
    if (!s)
        return;
    s->ends = true;
    join(s);
    event_free(s->timer);
    free(s);
    m->stream_sums = NULL;
}
