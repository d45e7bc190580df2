#include "senders.h"

#include "base/cond.h"
#include "base/mem.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct senders {
    const struct target *target;
    const struct send_order *order;
    struct items *all;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t next; /* item that nobody took yet */
    int n_going;
    bool news;
    int n_threads;
    pthread_t *threads;
};

struct sender {
    struct senders *s;
    struct item *item;
};

static bool has_terminal(void)
{
    return isatty(STDERR_FILENO);
}

/* On a terminal its line shows it; else it is told, when it is worth it. */
static void on_wait(void *arg, const struct err *why, int64_t ms)
{
    struct sender *me = arg;
    pthread_mutex_lock(&me->s->lock);
    *me->item->note = 0;
    if (why)
        snprintf(me->item->note, sizeof me->item->note, "waits %lld s: %.120s", (long long)(ms + 999) / 1000, why->msg);
    me->s->news = true;
    pthread_cond_signal(&me->s->changed);
    pthread_mutex_unlock(&me->s->lock);
    if (why && !has_terminal() && ms >= 2000)
        fprintf(stderr, "%s: %s; trying again\n", me->item->path, why->msg);
}

static struct item *take(struct senders *s)
{
    struct item *found = NULL;
    pthread_mutex_lock(&s->lock);
    for (; !found && s->next < s->all->n; s->next++)
        if (s->all->v[s->next]->state == ITEM_READY) {
            found = s->all->v[s->next];
            found->state = ITEM_SENDING;
        }
    pthread_mutex_unlock(&s->lock);
    return found;
}

static void end(struct senders *s, struct item *i, int r, const struct err *e)
{
    pthread_mutex_lock(&s->lock);
    if (r < 0)
        item_fail(i, e);
    else
        i->state = ITEM_TAKEN;
    *i->note = 0;
    s->news = true;
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static void *run(void *arg)
{
    struct sender me = {.s = arg};
    struct http *h = http_new(me.s->target, me.s->order->patience_ms, NULL);
    http_on_wait(h, on_wait, &me);
    while ((me.item = take(me.s))) {
        struct err e = {0};
        int r = send_file(h, me.s->order, me.item, &e);
        end(me.s, me.item, r, &e);
    }
    http_free(h);
    pthread_mutex_lock(&me.s->lock);
    me.s->n_going--;
    me.s->news = true;
    pthread_cond_signal(&me.s->changed);
    pthread_mutex_unlock(&me.s->lock);
    return NULL;
}

struct senders *senders_start(const struct target *target, const struct send_order *o, struct items *all, int n)
{
    struct senders *s = xcalloc(1, sizeof *s);
    *s = (struct senders){.target = target, .order = o, .all = all, .threads = xcalloc((size_t)n, sizeof *s->threads)};
    pthread_mutex_init(&s->lock, NULL);
    cond_init_monotonic(&s->changed);
    pthread_mutex_lock(&s->lock);
    for (; s->n_threads < n; s->n_threads++) {
        if (pthread_create(&s->threads[s->n_threads], NULL, run, s))
            break;
        s->n_going++;
    }
    pthread_mutex_unlock(&s->lock);
    if (!s->n_threads)
        mem_exhausted();
    return s;
}

bool senders_wait(struct senders *s, int64_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    until.tv_sec += ms / 1000 + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&s->lock);
    while (!s->news && s->n_going && pthread_cond_timedwait(&s->changed, &s->lock, &until) == 0) {
    }
    s->news = false;
    bool going = s->n_going > 0;
    pthread_mutex_unlock(&s->lock);
    return going;
}

void senders_lock(struct senders *s)
{
    pthread_mutex_lock(&s->lock);
}

void senders_unlock(struct senders *s)
{
    pthread_mutex_unlock(&s->lock);
}

void senders_end(struct senders *s)
{
    for (int i = 0; i < s->n_threads; i++)
        pthread_join(s->threads[i], NULL);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->changed);
    free(s->threads);
    free(s);
}
