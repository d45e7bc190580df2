#include "hist.h"

#include <math.h>

unsigned hist_bucket(double us)
{
    if (!(us > 1))
        return 0;
    double i = ceil(log(us) / log(HIST_GAMMA));
    return i < HIST_BUCKETS ? (unsigned)i : HIST_BUCKETS - 1;
}

void hist_add_bucket(struct hist *h, unsigned bucket, uint64_t n)
{
    h->counts[bucket] += n;
    h->n += n;
}

void hist_add(struct hist *h, double us, uint64_t n)
{
    hist_add_bucket(h, hist_bucket(us), n);
}

void hist_merge(struct hist *h, const struct hist *other)
{
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        h->counts[i] += other->counts[i];
    h->n += other->n;
}

double hist_quantile(const struct hist *h, double q)
{
    double rank = q * (double)(h->n - 1), seen = 0;
    if (!h->n)
        return NAN;
    for (unsigned i = 0; i < HIST_BUCKETS; i++) {
        seen += (double)h->counts[i];
        if (seen > rank)
            return i ? 2 * pow(HIST_GAMMA, i) / (HIST_GAMMA + 1) : 1;
    }
    return pow(HIST_GAMMA, HIST_BUCKETS - 1);
}
