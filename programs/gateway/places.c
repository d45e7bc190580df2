#include "places.h"
#include "gateway.h"
#include "request.h"

#include "base/mem.h"

struct place { /* of all uploads of an account */
    struct gateway *g;
    char *account;
    int64_t n;
};

struct place *place_take(struct request *rq)
{
    struct gateway *g = rq->g;
    int64_t most = g->conf->platform.http.uploads;
    struct place *p = map_get(&g->uploads, rq->who.name);
    if (most >= 0 && (p ? p->n : 0) >= most) {
        request_refuse_for(rq, "uploads", 1, "%lld uploads of this account are in flight (http.uploads)", (long long)most);
        return NULL;
    }
    if (!p) {
        p = xmalloc(sizeof *p);
        *p = (struct place){g, xstrdup(rq->who.name), 0};
        map_put(&g->uploads, p->account, p);
    }
    p->n++;
    return p;
}

void place_leave(struct place *p)
{
    if (!p || --p->n > 0)
        return;
    map_remove(&p->g->uploads, p->account);
    free(p->account);
    free(p);
}
