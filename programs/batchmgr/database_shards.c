#include "database_shards.h"
#include "base/clk.h"
#include "base/cond.h"
#include "base/log.h"
#include "base/mem.h"
#include "load/mongo_uri.h"
#include "load/shard.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    SELECT_MS = 2000,
    SOCKET_MS = 10000, /* an index that takes longer goes on over there, and is asked for again */
    LOOK_EVERY_MS = 30000,
    AGAIN_MS = 1000,
    TRIES = 3, /* for which loads wait */
    END_MS = 2000,
};

struct wish {
    char *tenant, *server, *database, *collection, *spec;
    bool wanted, may, busy;
    bool known; /* state is something that was seen */
    enum shard_state state;
    char *why;
    int tries; /* since it may be used, without an answer */
    int64_t due_ms;
    struct wish *next;
};

struct server {
    struct shards *x;
    char *url;
    pthread_t thread;
    struct server *next;
};

struct shards {
    void (*on_change)(void *arg);
    void *arg;
    struct event *ev;
    int fd;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool quit;
    int n_running; /* threads */
    struct wish *first;
    struct server *servers;
};

/* ---- a server's thread ---- */

static struct wish *due(struct server *s, int64_t now, int64_t *ret_wait_ms)
{
    *ret_wait_ms = LOOK_EVERY_MS;
    for (struct wish *w = s->x->first; w; w = w->next) {
        if (!w->wanted || !w->may || strcmp(w->server, s->url) != 0)
            continue;
        if (w->due_ms <= now)
            return w;
        if (w->due_ms - now < *ret_wait_ms)
            *ret_wait_ms = w->due_ms - now;
    }
    return NULL;
}

static mongoc_client_t *connect_to(const char *url)
{
    bson_error_t why;
    mongoc_uri_t *uri = mongo_uri(url, SELECT_MS, SOCKET_MS, &why);
    mongoc_client_t *c = uri ? mongoc_client_new_from_uri(uri) : NULL;
    if (c)
        mongoc_client_set_error_api(c, MONGOC_ERROR_API_VERSION_2);
    if (uri)
        mongoc_uri_destroy(uri);
    return c;
}

static enum shard_state ask(mongoc_client_t *c, const char *database, const char *collection, const char *text, bool *ret_made,
                            char *ret_why, size_t size)
{
    AUTO_SPEC struct spec *spec = NULL;
    struct err e = {0};
    if (spec_parse(text, strlen(text), &spec, NULL, &e) < 0) { /* `check` parsed it */
        snprintf(ret_why, size, "%s", e.msg);
        return SHARD_REFUSED;
    }
    return shard_make(c, database, collection, spec, ret_made, ret_why, size);
}

/* With the lock. */
static void take(struct wish *w, enum shard_state state, bool made, const char *why)
{
    bool other = !w->known || w->state != state || strcmp(w->why ? w->why : "", why) != 0;
    if (w->due_ms == INT64_MAX) /* else somebody wants it looked at once more */
        w->due_ms = clk_now_ms() + (state == SHARD_UNCLEAR ? AGAIN_MS : LOOK_EVERY_MS);
    if (state == SHARD_UNCLEAR && w->known)
        return; /* what was seen is still likely */
    if (state == SHARD_UNCLEAR) {
        xstr_set(&w->why, why);
        if (++w->tries == TRIES)
            log_warn("not_sharded", w->tenant, NULL, "the collection %s.%s is not sharded yet, and loads go on: %s", w->database,
                     w->collection, why);
        return;
    }
    w->known = true;
    w->state = state;
    xstr_set(&w->why, why);
    if (state == SHARD_DONE && made)
        log_info("sharded", w->tenant, NULL, "the collection %s.%s is sharded from now on", w->database, w->collection);
    else if (state != SHARD_DONE && other)
        log_warn("not_sharded", w->tenant, NULL, "the collection %s.%s is not sharded as its dataset says: %s", w->database,
                 w->collection, why);
}

/* With the lock held; released while the server is asked. */
static void look_at(struct shards *x, struct wish *w, mongoc_client_t **c)
{
    char why[600] = "";
    bool made = false;
    w->busy = true;
    w->due_ms = INT64_MAX;
    pthread_mutex_unlock(&x->lock); /* nobody changes or frees the texts of one that is busy */
    if (!*c)
        *c = connect_to(w->server);
    enum shard_state state = *c ? ask(*c, w->database, w->collection, w->spec, &made, why, sizeof why) : SHARD_UNCLEAR;
    if (state == SHARD_UNCLEAR && *c) { /* as in database_health.c */
        mongoc_client_destroy(*c);
        *c = NULL;
    }
    pthread_mutex_lock(&x->lock);
    w->busy = false;
    take(w, state, made, why);
    eventfd_write(x->fd, 1);
}

static void wait_for(struct shards *x, int64_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += ms % 1000 * 1000000L;
    until.tv_sec += ms / 1000 + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&x->wake, &x->lock, &until);
}

static void *work(void *arg)
{
    struct server *s = arg;
    struct shards *x = s->x;
    mongoc_client_t *c = NULL;
    int64_t ms;
    pthread_mutex_lock(&x->lock);
    while (!x->quit) {
        struct wish *w = due(s, clk_now_ms(), &ms);
        if (w) {
            look_at(x, w, &c);
            continue;
        }
        if (c) { /* it would only be in the way of the server's end */
            pthread_mutex_unlock(&x->lock);
            mongoc_client_destroy(c);
            c = NULL;
            pthread_mutex_lock(&x->lock);
            continue;
        }
        wait_for(x, ms);
    }
    pthread_mutex_unlock(&x->lock);
    if (c)
        mongoc_client_destroy(c);
    pthread_mutex_lock(&x->lock);
    x->n_running--;
    pthread_cond_broadcast(&x->wake);
    pthread_mutex_unlock(&x->lock);
    return NULL;
}

/* ---- the loop's ---- */

static void free_wish(struct wish *w)
{
    free(w->tenant);
    free(w->server);
    free(w->database);
    free(w->collection);
    free(w->spec);
    free(w->why);
    free(w);
}

/* With the lock. */
static struct wish *get(struct shards *x, const struct shard_wish *v)
{
    for (struct wish *w = x->first; w; w = w->next)
        if (!strcmp(w->tenant, v->tenant) && !strcmp(w->server, v->server) && !strcmp(w->database, v->database) &&
            !strcmp(w->collection, v->collection) && !strcmp(w->spec, v->spec))
            return w;
    struct wish *w = xcalloc(1, sizeof *w);
    *w = (struct wish){.tenant = xstrdup(v->tenant),
                       .server = xstrdup(v->server),
                       .database = xstrdup(v->database),
                       .collection = xstrdup(v->collection),
                       .spec = xstrdup(v->spec),
                       .next = x->first};
    return x->first = w;
}

/* With the lock. */
static void serve(struct shards *x, const char *url)
{
    for (struct server *s = x->servers; s; s = s->next)
        if (!strcmp(s->url, url))
            return;
    struct server *s = xcalloc(1, sizeof *s);
    *s = (struct server){.x = x, .url = xstrdup(url), .next = x->servers};
    if (pthread_create(&s->thread, NULL, work, s) != 0) { /* the next reload tries again; loads do not wait for nobody */
        log_warn("not_sharded", NULL, NULL, "no thread can be had: collections of datasets with `shard` are left as they are");
        free(s->url);
        free(s);
        return;
    }
    x->servers = s;
    x->n_running++;
}

void shards_want(struct shards *x, const struct shard_wish *v, size_t n)
{
    pthread_mutex_lock(&x->lock);
    for (struct wish *w = x->first; w; w = w->next)
        w->wanted = false;
    for (size_t i = 0; i < n; i++) {
        struct wish *w = get(x, &v[i]);
        w->wanted = true;
        w->due_ms = 0; /* somebody who mended something says `reload` */
        serve(x, v[i].server);
    }
    for (struct wish **at = &x->first; *at;) {
        struct wish *w = *at;
        if (w->wanted || w->busy) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        free_wish(w);
    }
    pthread_cond_broadcast(&x->wake);
    pthread_mutex_unlock(&x->lock);
}

void shards_let(struct shards *x, const char *tenant, bool may)
{
    pthread_mutex_lock(&x->lock);
    for (struct wish *w = x->first; w; w = w->next) {
        if (strcmp(w->tenant, tenant) != 0 || w->may == may)
            continue;
        w->may = may;
        w->tries = 0;
        w->due_ms = 0;
    }
    pthread_cond_broadcast(&x->wake);
    pthread_mutex_unlock(&x->lock);
}

static bool is_served(const struct shards *x, const struct wish *w)
{
    for (const struct server *s = x->servers; s; s = s->next)
        if (!strcmp(s->url, w->server))
            return true;
    return false;
}

bool shards_are_pending(struct shards *x, const char *tenant)
{
    bool pending = false;
    pthread_mutex_lock(&x->lock);
    for (const struct wish *w = x->first; w; w = w->next)
        pending |= !strcmp(w->tenant, tenant) && w->wanted && !w->known && w->tries < TRIES && is_served(x, w);
    pthread_mutex_unlock(&x->lock);
    return pending;
}

void shards_each_not(struct shards *x, const char *tenant, void (*each)(void *arg, const char *collection, const char *why),
                     void *arg)
{
    pthread_mutex_lock(&x->lock);
    for (const struct wish *w = x->first; w; w = w->next)
        if (!strcmp(w->tenant, tenant) && w->wanted && (!w->known || w->state != SHARD_DONE))
            each(arg, w->collection, w->why && *w->why ? w->why : "it was not looked at yet");
    pthread_mutex_unlock(&x->lock);
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    struct shards *x = arg;
    uint64_t n;
    (void)what;
    if (read(fd, &n, sizeof n) > 0)
        x->on_change(x->arg);
}

struct shards *shards_new(struct event_base *base, void (*on_change)(void *arg), void *arg)
{
    struct shards *x = xcalloc(1, sizeof *x);
    *x = (struct shards){.on_change = on_change, .arg = arg};
    x->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    x->ev = event_new(base, x->fd, EV_READ | EV_PERSIST, on_event, x);
    event_add(x->ev, NULL);
    pthread_mutex_init(&x->lock, NULL);
    cond_init_monotonic(&x->wake);
    return x;
}

void shards_free(struct shards *x)
{
    if (!x)
        return;
    pthread_mutex_lock(&x->lock);
    x->quit = true;
    pthread_cond_broadcast(&x->wake);
    pthread_mutex_unlock(&x->lock);
    pthread_mutex_lock(&x->lock);
    for (int64_t until = clk_now_ms() + END_MS, now; x->n_running && (now = clk_now_ms()) < until;)
        wait_for(x, until - now);
    bool all = x->n_running == 0;
    pthread_mutex_unlock(&x->lock);
    event_free(x->ev);
    if (!all) { /* a server does not answer; the process ends now, and what the thread looks at stays until then */
        static struct shards *left;
        left = x;
        (void)left;
        return;
    }
    for (struct server *s = x->servers, *next; s; s = next) {
        next = s->next;
        pthread_join(s->thread, NULL);
        free(s->url);
        free(s);
    }
    for (struct wish *w = x->first, *next; w; w = next) {
        next = w->next;
        free_wish(w);
    }
    close(x->fd);
    pthread_cond_destroy(&x->wake);
    pthread_mutex_destroy(&x->lock);
    free(x);
}
