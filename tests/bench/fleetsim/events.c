#include "world.h"

#include "base/mem.h"

static bool before(const struct event *a, const struct event *b)
{
    return a->t < b->t || (a->t == b->t && a->number < b->number);
}

static void swap(struct event *a, struct event *b)
{
    struct event e = *a;
    *a = *b;
    *b = e;
}

void post(struct world *w, double t, enum event_kind kind, int a, unsigned b, struct job *j)
{
    size_t i = w->n_events++;
    if (w->n_events > w->cap_events) {
        w->cap_events = w->cap_events ? 2 * w->cap_events : 1024;
        w->heap = xrealloc(w->heap, w->cap_events * sizeof *w->heap);
    }
    w->heap[i] = (struct event){t, w->n_posted++, kind, a, b, j};
    for (; i && before(&w->heap[i], &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        swap(&w->heap[i], &w->heap[(i - 1) / 2]);
}

bool next_event(struct world *w, struct event *ret)
{
    if (!w->n_events)
        return false;
    *ret = w->heap[0];
    w->heap[0] = w->heap[--w->n_events];
    for (size_t i = 0;;) {
        size_t l = 2 * i + 1, least = i;
        for (size_t k = l; k < l + 2 && k < w->n_events; k++)
            if (before(&w->heap[k], &w->heap[least]))
                least = k;
        if (least == i)
            return true;
        swap(&w->heap[i], &w->heap[least]);
        i = least;
    }
}
