#include "front.h"

bool count_enter(struct front *f, struct map *m, const char *name, int64_t most)
{
    pthread_mutex_lock(&f->lock);
    intptr_t n = (intptr_t)map_get(m, name);
    if (n < most)
        map_put(m, name, (void *)(n + 1));
    pthread_mutex_unlock(&f->lock);
    return n < most;
}

void count_leave(struct front *f, struct map *m, const char *name)
{
    pthread_mutex_lock(&f->lock);
    intptr_t n = (intptr_t)map_get(m, name);
    if (n > 1)
        map_put(m, name, (void *)(n - 1));
    else
        map_remove(m, name);
    pthread_mutex_unlock(&f->lock);
}
