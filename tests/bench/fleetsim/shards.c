#include "fleet.h"

/* Floyd's sample without replacement (Bentley and Floyd, CACM 30(9), 1987). */
static void sample(int n, int k, struct rng *r, int *ret)
{
    int got = 0;
    for (int j = n - k; j < n; j++) {
        int pick = (int)(rng_uniform(r) * (j + 1));
        for (int i = 0; i < got; i++)
            if (ret[i] == pick) {
                pick = j;
                break;
            }
        ret[got++] = pick;
    }
}

int shard_of(enum placement p, int n, int shard, int tenant, struct rng *r, int ret[FLEET_CELLS_MAX])
{
    int groups = n / shard, first = p == GROUPS ? tenant % (groups ? groups : 1) * shard : 0;
    if (p == SHUFFLED)
        return sample(n, shard, r, ret), shard;
    int count = p == EVERYWHERE ? n : shard;
    for (int i = 0; i < count; i++)
        ret[i] = first + i;
    return count;
}

double choose(int n, int k)
{
    double v = 1;
    if (k < 0 || k > n)
        return 0;
    for (int i = 0; i < k; i++)
        v = v * (n - i) / (i + 1);
    return v;
}

double shared(int n, int k, int j)
{
    return choose(k, j) * choose(n - k, k - j) / choose(n, k);
}
