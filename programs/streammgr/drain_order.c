#include "drain_order.h"

static int rank(const struct drain_candidate *c)
{
    return 2 * c->old + !c->ready;
}

static bool goes_before(const struct drain_candidate *a, const struct drain_candidate *b)
{
    return rank(a) != rank(b) ? rank(a) > rank(b) : a->leased < b->leased;
}

int64_t drain_first(const struct drain_candidate *v, size_t n, bool only_old)
{
    int64_t found = DRAIN_NOBODY;
    for (size_t i = 0; i < n; i++)
        if ((v[i].old || !only_old) && (found < 0 || goes_before(&v[i], &v[found])))
            found = (int64_t)i;
    return found;
}

int64_t drain_richest(const struct drain_giver *v, size_t n)
{
    int64_t found = DRAIN_NOBODY;
    for (size_t i = 0; i < n; i++)
        if (v[i].n > 1 && v[i].n > v[i].min && (found < 0 || v[i].n > v[found].n))
            found = (int64_t)i;
    return found;
}
