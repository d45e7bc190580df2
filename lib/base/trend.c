#include "trend.h"

#include <math.h>
#include <stddef.h>

int64_t trend_slot(int64_t now_ms)
{
    return now_ms / TREND_SLOT_MS + 1; /* 0 is none */
}

/* Makes `slot` the newest one. */
static void go_on(struct trend *c, int64_t slot)
{
    const int64_t from = c->slot && slot - c->slot < TREND_SLOTS ? c->slot + 1 : slot - TREND_SLOTS + 1;
    for (int64_t s = from; s <= slot; s++)
        c->v[(s % TREND_SLOTS + TREND_SLOTS) % TREND_SLOTS] = NAN;
    c->slot = slot;
    c->sum = 0;
    c->n = 0;
}

void trend_take(struct trend *c, int64_t now_ms, double value)
{
    const int64_t slot = trend_slot(now_ms);
    if (isnan(value) || slot <= 0 || slot < c->slot)
        return;
    if (slot > c->slot)
        go_on(c, slot);
    c->sum += value;
    c->n++;
    c->v[slot % TREND_SLOTS] = (float)(c->sum / c->n);
}

double trend_at(const struct trend *c, int64_t slot)
{
    return c->slot && slot > 0 && slot <= c->slot && c->slot - slot < TREND_SLOTS ? c->v[slot % TREND_SLOTS] : NAN;
}

void trend_fill(struct trend *c, int64_t slot, double value)
{
    if (slot <= 0 || isnan(value))
        return;
    if (slot > c->slot)
        go_on(c, slot);
    if (c->slot - slot < TREND_SLOTS)
        c->v[slot % TREND_SLOTS] = (float)value;
}

void trend_values(const struct trend *c, int64_t now_ms, double *ret)
{
    const int64_t last = trend_slot(now_ms);
    for (int i = 0; i < TREND_SLOTS; i++)
        ret[i] = trend_at(c, last - TREND_SLOTS + 1 + i);
}

void trend_json(const struct trend *c, int64_t now_ms, const char *key, struct buf *out)
{
    double v[TREND_SLOTS];
    size_t first = 0;
    trend_values(c, now_ms, v);
    while (first < TREND_SLOTS && isnan(v[first]))
        first++;
    json_begin(out, key, '[');
    for (size_t i = first; i < TREND_SLOTS; i++)
        json_f64(out, NULL, isnan(v[i]) ? NAN : round(v[i] * 1000) / 1000);
    json_end(out, ']');
}
