#include "image_order.h"

#include <assert.h>
#include <math.h>

double turn_used_s(const struct turn *t, int64_t now_ms)
{
    double kept = exp2(-(double)(now_ms - t->seen_ms) / 1000 / TURN_HALF_LIFE_S);
    return t->used_s * kept + (t->is_going ? (double)(now_ms - t->began_ms) / 1000 : 0);
}

void turn_begin(struct turn *t, int64_t now_ms)
{
    assert(!t->is_going);
    t->is_going = true;
    t->began_ms = now_ms;
}

void turn_end(struct turn *t, int64_t now_ms)
{
    assert(t->is_going);
    t->used_s = turn_used_s(t, now_ms);
    t->seen_ms = now_ms;
    t->is_going = false;
    double wait_s = t->used_s - TURN_FREE_S;
    t->not_before_ms = wait_s <= 0 ? 0 : now_ms + (int64_t)(fmin(wait_s, TURN_MAX_WAIT_S) * 1000);
}

int64_t turn_wait_ms(const struct turn *t, int n_places, int n_going, int64_t now_ms)
{
    int places = n_places + (turn_used_s(t, now_ms) < TURN_LITTLE_S ? TURN_SPARE : 0);
    if (t->is_going || n_going >= places)
        return -1;
    return t->not_before_ms > now_ms ? t->not_before_ms - now_ms : 0;
}

bool turn_before(const struct turn *a, const struct turn *b, int64_t now_ms)
{
    return turn_used_s(a, now_ms) < turn_used_s(b, now_ms);
}
