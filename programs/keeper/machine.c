#include "machine.h"
#include "machine_parts.h"

#include "base/clk.h"
#include "base/cond.h"
#include "base/log.h"
#include "base/mem.h"
#include "query/ledger_view.h"
#include "query/stream_days.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

/* STALE_MS: what is older than that is waited for; who asks again and again, the gateway for those that follow the platform's
 * events, does so more often, and has what the look for his last question found. WATCH_MS: what runs use is looked at by itself so
 * often while somebody asked in the last IDLE_MS, so that a window has marks. */
enum { LOCK_MS = 1000, FRESH_MS = 1000, STALE_MS = 6000, SUMS_MS = 5000, REST = 9, WATCH_MS = 15000, IDLE_MS = 900000 };

struct machine {
    const struct home *home;
    pthread_t thread;
    bool started;
    /* The thread's own. */
    struct runs_seen *runs_seen;
    struct stream_days *days;
    int64_t sums_not_before_ms;
    bool failed; /* the last reading */
    /* Under the lock. */
    pthread_mutex_t lock;
    pthread_cond_t asked, made;
    bool wanted, stop;
    int64_t asked_ms;
    uint64_t n_made;
    struct machine_seen seen;
};

static bool goes_on(void *arg)
{
    struct machine *m = arg;
    pthread_mutex_lock(&m->lock);
    bool on = !m->stop;
    pthread_mutex_unlock(&m->lock);
    return on;
}

/* ---- the thread ---- */

static void say_failure(struct machine *m, const struct err *e)
{
    bool failed = e->code && e->code != -ENOENT && e->code != -ETIMEDOUT;
    if (failed && !m->failed)
        log_warn("machine", NULL, NULL, "what tenants use cannot be read: %s; it is shown as it was", e->msg);
    m->failed = failed;
}

/* What runs and programs use now. */
static void look(struct machine *m, sqlite3 *db, struct err *e)
{
    struct machine_seen next = {.at_wall_ms = clk_wall_ms(), .at_ms = clk_now_ms()};
    /* Only this thread changes what was seen, so it reads it without the lock. */
    programs_use_read(m->home, &m->seen.programs, next.at_ms - m->seen.at_ms, &next.programs);
    if (db && runs_use_read(m->runs_seen, m->home, db, next.at_wall_ms, &next.runs) < 0)
        err_set(e, -EIO, "cannot read the ledger: %s", sqlite3_errmsg(db));
    pthread_mutex_lock(&m->lock);
    next.sums = m->seen.sums;
    runs_use_fini(&m->seen.runs);
    programs_use_fini(&m->seen.programs);
    m->seen = next;
    m->n_made++;
    pthread_cond_broadcast(&m->made);
    pthread_mutex_unlock(&m->lock);
}

static void add_up(struct machine *m, sqlite3 *db, struct err *e)
{
    struct tenant_sums next;
    int64_t began_ms = clk_now_ms();
    if (began_ms < m->sums_not_before_ms)
        return;
    int r = tenant_sums_read(m->home, db, m->days, clk_wall_ms(), goes_on, m, &next, e);
    int64_t now_ms = clk_now_ms(), rest_ms = REST * (now_ms - began_ms);
    m->sums_not_before_ms = now_ms + (rest_ms > SUMS_MS ? rest_ms : SUMS_MS);
    pthread_mutex_lock(&m->lock);
    struct tenant_sums old = r == 0 ? m->seen.sums : next;
    if (r == 0)
        m->seen.sums = next;
    pthread_mutex_unlock(&m->lock);
    tenant_sums_fini(&old);
}

/* With the lock. False: it is to end. */
static bool wait_until_wanted(struct machine *m)
{
    while (!m->stop && !m->wanted) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += WATCH_MS / 1000;
        bool idle = clk_now_ms() - m->asked_ms > IDLE_MS;
        int r = idle ? pthread_cond_wait(&m->asked, &m->lock) : pthread_cond_timedwait(&m->asked, &m->lock, &until);
        if (r == ETIMEDOUT)
            break;
    }
    m->wanted = false;
    return !m->stop;
}

static void *work(void *arg)
{
    struct machine *m = arg;
    pthread_mutex_lock(&m->lock);
    while (wait_until_wanted(m)) {
        struct err e = {0};
        sqlite3 *db = NULL;
        pthread_mutex_unlock(&m->lock);
        bool open = ledger_view_open(m->home, LOCK_MS, &db, &e) == 0;
        look(m, db, &e);
        if (open)
            add_up(m, db, &e);
        say_failure(m, &e);
        sqlite3_close(db);
        pthread_mutex_lock(&m->lock);
    }
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

/* ---- ---- */

struct machine *machine_new(const struct home *h)
{
    struct machine *m = xcalloc(1, sizeof *m);
    m->home = h;
    m->runs_seen = runs_seen_new();
    m->days = stream_days_new();
    m->asked_ms = clk_now_ms();
    pthread_mutex_init(&m->lock, NULL);
    cond_init_monotonic(&m->asked);
    cond_init_monotonic(&m->made);
    m->started = pthread_create(&m->thread, NULL, work, m) == 0;
    if (!m->started)
        log_error("machine", NULL, NULL, "no thread can be made: it is not known what tenants use");
    return m;
}

void machine_free(struct machine *m)
{
    if (!m)
        return;
    pthread_mutex_lock(&m->lock);
    m->stop = true;
    pthread_cond_signal(&m->asked);
    pthread_mutex_unlock(&m->lock);
    if (m->started)
        pthread_join(m->thread, NULL);
    pthread_cond_destroy(&m->asked);
    pthread_cond_destroy(&m->made);
    pthread_mutex_destroy(&m->lock);
    runs_use_fini(&m->seen.runs);
    tenant_sums_fini(&m->seen.sums);
    programs_use_fini(&m->seen.programs);
    runs_seen_free(m->runs_seen);
    stream_days_free(m->days);
    free(m);
}

/* With the lock. */
static void wait_for_new(struct machine *m, int wait_ms)
{
    struct timespec until;
    uint64_t before = m->n_made;
    int r = 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += wait_ms % 1000 * 1000000L;
    until.tv_sec += wait_ms / 1000 + until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    while (m->n_made == before && r == 0)
        r = pthread_cond_timedwait(&m->made, &m->lock, &until);
}

void machine_write(struct machine *m, const struct conf *c, int wait_ms, struct buf *out)
{
    pthread_mutex_lock(&m->lock);
    m->asked_ms = clk_now_ms();
    const int64_t age_ms = m->asked_ms - m->seen.at_ms;
    if (m->started && age_ms >= FRESH_MS) {
        m->wanted = true;
        pthread_cond_signal(&m->asked);
    }
    if (m->started && age_ms >= STALE_MS)
        wait_for_new(m, wait_ms);
    if (m->seen.at_ms)
        machine_json(m->home, &m->seen, c, out);
    else
        buf_adds(out, "null");
    pthread_mutex_unlock(&m->lock);
}
