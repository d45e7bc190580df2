#include "rates.h"

#include "base/map.h"
#include "base/mem.h"

#include <stdlib.h>

struct bucket {
    int64_t thousandths, at_ms; /* of requests that may be made */
    char *account;
};

struct rates {
    int64_t per_s;
    struct map buckets;
};

struct rates *rates_new(int64_t per_s)
{
    struct rates *r = xcalloc(1, sizeof *r);
    r->per_s = per_s;
    return r;
}

void rates_set(struct rates *r, int64_t per_s)
{
    r->per_s = per_s;
}

static void bucket_free(struct bucket *b)
{
    free(b->account);
    free(b);
}

void rates_free(struct rates *r)
{
    size_t i = 0;
    if (!r)
        return;
    for (struct bucket *b; (b = map_next(&r->buckets, &i));)
        bucket_free(b);
    map_fini(&r->buckets);
    free(r);
}

static void fill(const struct rates *r, struct bucket *b, int64_t now_ms)
{
    int64_t most = r->per_s * 1000, passed = now_ms - b->at_ms;
    b->thousandths = passed >= 1000 || b->thousandths + passed * r->per_s > most ? most : b->thousandths + passed * r->per_s;
    b->at_ms = now_ms;
}

bool rates_take(struct rates *r, const char *account, int64_t now_ms, int64_t *ret_wait_s)
{
    struct bucket *b = map_get(&r->buckets, account);
    *ret_wait_s = 1;
    if (r->per_s < 0)
        return true;
    if (!b) {
        b = xmalloc(sizeof *b);
        *b = (struct bucket){r->per_s * 1000, now_ms, xstrdup(account)};
        map_put(&r->buckets, account, b);
    }
    fill(r, b, now_ms);
    if (b->thousandths < 1000)
        return false;
    b->thousandths -= 1000;
    return true;
}

void rates_sweep(struct rates *r, int64_t now_ms)
{
    size_t i = 0;
    for (struct bucket *b; (b = map_next(&r->buckets, &i));) {
        fill(r, b, now_ms);
        if (b->thousandths < r->per_s * 1000)
            continue;
        map_remove(&r->buckets, b->account);
        bucket_free(b);
    }
}
