#include "pool.h"

#include "base/mem.h"
#include "loop/peer.h"

#include <stdlib.h>
#include <string.h>

struct ask {
    struct ask *next;
    pool_answer_fn *fn;
    void *arg;
    size_t n;
    char text[];
};

struct line {
    struct pool *pool;
    struct peer *peer;
    struct ask *asked; /* NULL: it is free */
};

struct pool {
    struct ask *first, **last;
    size_t n_waiting, n;
    struct line lines[];
};

static void ask_next(struct line *l)
{
    struct pool *p = l->pool;
    struct ask *a = p->first;
    if (!a || l->asked || !peer_is_up(l->peer))
        return;
    p->first = a->next;
    if (!p->first)
        p->last = &p->first;
    p->n_waiting--;
    l->asked = a;
    peer_send(l->peer, a->text, a->n);
}

static void finish(struct line *l, const bson_t *doc)
{
    struct ask *a = l->asked;
    l->asked = NULL;
    if (a)
        a->fn(a->arg, doc);
    free(a);
}

static void on_up(void *arg)
{
    ask_next(arg);
}

static void on_line(void *arg, const bson_t *doc)
{
    finish(arg, doc);
    ask_next(arg);
}

/* Those that wait are told when no connection is left: the program has ended, or hangs. */
static void on_down(void *arg)
{
    struct line *l = arg;
    struct pool *p = l->pool;
    finish(l, NULL);
    while (!pool_is_up(p) && p->first) {
        struct ask *a = p->first;
        p->first = a->next;
        p->n_waiting--;
        a->fn(a->arg, NULL);
        free(a);
    }
    if (!p->first)
        p->last = &p->first;
}

struct pool *pool_new(struct event_base *base, const char *socket_path, size_t n_connections)
{
    struct pool *p = xcalloc(1, sizeof *p + n_connections * sizeof p->lines[0]);
    p->last = &p->first;
    p->n = n_connections;
    for (size_t i = 0; i < n_connections; i++) {
        struct line *l = &p->lines[i];
        l->pool = p;
        l->peer = peer_new(base, socket_path, &(struct peer_ops){on_up, on_line, on_down, l});
    }
    return p;
}

void pool_free(struct pool *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->n; i++) {
        peer_free(p->lines[i].peer);
        free(p->lines[i].asked);
    }
    for (struct ask *a = p->first, *next; a; a = next) {
        next = a->next;
        free(a);
    }
    free(p);
}

bool pool_is_up(const struct pool *p)
{
    for (size_t i = 0; i < p->n; i++)
        if (peer_is_up(p->lines[i].peer))
            return true;
    return false;
}

bool pool_ask(struct pool *p, const char *request, size_t n, pool_answer_fn *fn, void *arg)
{
    if (p->n_waiting == POOL_QUEUE || !pool_is_up(p))
        return false;
    struct ask *a = xmalloc(sizeof *a + n + 1);
    *a = (struct ask){NULL, fn, arg, n};
    memcpy(a->text, request, n);
    a->text[n] = 0;
    *p->last = a;
    p->last = &a->next;
    p->n_waiting++;
    for (size_t i = 0; i < p->n; i++)
        ask_next(&p->lines[i]);
    return true;
}
