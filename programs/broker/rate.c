#include "rate.h"
#include "base/mem.h"

int64_t bucket_size(int64_t rate, int64_t burst_ms)
{
    double n = (double)rate * (double)burst_ms / 1000;
    return rate < 0 || n >= (double)INT64_MAX ? INT64_MAX : n < 1 ? 1 : (int64_t)n;
}

int64_t bucket_wait_ms(struct bucket *b, int64_t rate, int64_t burst_ms, int64_t n, int64_t now_ms)
{
    if (rate < 0)
        return 0;
    double full = (double)bucket_size(rate, burst_ms), needed = (double)n < full ? (double)n : full;
    if (!b->begun)
        b->tokens = full;
    else
        b->tokens += (double)(now_ms - b->at_ms) * (double)rate / 1000;
    b->begun = true;
    b->at_ms = now_ms;
    if (b->tokens > full)
        b->tokens = full;
    if (b->tokens >= needed && rate > 0)
        return 0;
    return rate ? (int64_t)((needed - b->tokens) * 1000 / (double)rate) + 1 : INT32_MAX;
}

void bucket_take(struct bucket *b, int64_t rate, int64_t n)
{
    if (rate >= 0)
        b->tokens -= (double)n;
}

bool breaches_add(struct breaches *b, size_t max, int64_t window_ms, int64_t now_ms)
{
    if (b->max != max) {
        breaches_fini(b);
        *b = (struct breaches){.at_ms = xcalloc(max, sizeof(int64_t)), .max = max};
    }
    b->at_ms[b->next] = now_ms;
    b->next = (b->next + 1) % max;
    if (b->n < max)
        b->n++;
    return b->n == max && now_ms - b->at_ms[b->next] <= window_ms; /* next: the oldest of them */
}

void breaches_fini(struct breaches *b)
{
    free(b->at_ms);
    *b = (struct breaches){0};
}
