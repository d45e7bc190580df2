#include "prune.h"
#include "pieces/point.h"

#include "base/crash.h"
#include "base/mem.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

struct needed {
    unsigned char (*v)[32];
    size_t n;
};

static void need(struct needed *x, const char *name)
{
    x->v = xgrow(x->v, x->n, sizeof *x->v);
    sodium_hex2bin(x->v[x->n++], 32, name, STORE_NAME - 1, NULL, NULL, NULL);
}

static int need_entry(void *arg, const struct entry *v, struct err *e)
{
    (void)e;
    for (size_t i = 0; i < v->n_pieces; i++)
        need(arg, v->pieces[i]);
    return 0;
}

static int by_bytes(const void *a, const void *b)
{
    return memcmp(a, b, 32);
}

/* Sorts what is there and drops what is there twice: points have most of their pieces in common. */
static void settle(struct needed *x)
{
    size_t n = 0;
    if (!x->n)
        return;
    qsort(x->v, x->n, sizeof *x->v, by_bytes);
    for (size_t i = 0; i < x->n; i++)
        if (!n || memcmp(x->v[i], x->v[n - 1], 32) != 0)
            memmove(x->v[n++], x->v[i], 32);
    x->n = n; /* there is more room than xgrow believes, which does no harm */
}

static int need_point(struct store *s, const char *name, struct needed *x, struct err *e)
{
    AUTO_POINT struct point p;
    int r = point_read(s, name, &p, e);
    for (size_t i = 0; r == 0 && i < p.n_list; i++)
        need(x, p.list[i]);
    if (r == 0)
        r = point_each(s, &p, need_entry, x, e);
    settle(x);
    return r;
}

int prune(struct store *s, int64_t keep, int64_t *ret_points, int64_t *ret_pieces, struct err *e)
{
    char **points;
    size_t n;
    struct needed x = {0};
    int r = store_points(s, &points, &n, e);
    if (r < 0)
        return r;
    const size_t drop = n > (size_t)keep ? n - (size_t)keep : 0;
    for (size_t i = drop; r == 0 && i < n; i++)
        r = need_point(s, points[i], &x, e);
    if (r < 0)
        err_context(e, "nothing is removed");
    for (size_t i = 0; r == 0 && i < drop; i++) {
        r = store_drop_point(s, points[i], e);
        crash_at(CRASH_backup_drop);
    }
    int64_t pieces = r == 0 ? store_sweep(s, (const unsigned char(*)[32])x.v, x.n, e) : r;
    *ret_points = (int64_t)drop;
    *ret_pieces = pieces;
    free(x.v);
    for (size_t i = 0; i < n; i++)
        free(points[i]);
    free(points);
    return pieces < 0 ? (int)pieces : 0;
}
