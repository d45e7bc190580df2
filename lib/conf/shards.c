/* Shuffle-sharding over the nodes of a cluster: each tenant has `each` of `count` shards, those with the least hash of tenant and
 * number (rendezvous hashing: Thaler and Ravishankar, IEEE/ACM Transactions on Networking 6(1), 1998), so nothing is kept of it,
 * all programs agree, and one shard more takes few tenants from where they were. */
#include "check.h"

#include "base/buf.h"
#include "base/mem.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

struct ranked {
    uint64_t hash;
    int64_t number;
};

static int by_hash(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    return x->hash != y->hash ? x->hash < y->hash ? -1 : 1 : x->number < y->number ? -1 : 1;
}

static int by_number(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static uint64_t hash_of(const char *tenant, int64_t number)
{
    uint64_t h;
    AUTO_BUF struct buf text = {0};
    buf_addf(&text, "%s/%lld", tenant, (long long)number);
    crypto_generichash((unsigned char *)&h, sizeof h, (const unsigned char *)text.p, text.n, NULL, 0);
    return h;
}

void conf_shards_of(int64_t count, int64_t each, const char *tenant, int64_t *ret)
{
    struct ranked *all = xcalloc((size_t)count, sizeof *all);
    for (int64_t i = 0; i < count; i++)
        all[i] = (struct ranked){hash_of(tenant, i), i};
    qsort(all, (size_t)count, sizeof *all, by_hash);
    for (int64_t i = 0; i < each; i++)
        ret[i] = all[i].number;
    qsort(ret, (size_t)each, sizeof *ret, by_number);
    free(all);
}

char *conf_shards_constraint(const struct conf *c, const struct conf_profile *p, const char *tenant)
{
    const struct conf_shards *s = &c->platform.slurm.shards;
    AUTO_BUF struct buf b = {0};
    if (!s->count)
        return NULL;
    int64_t *own = xcalloc((size_t)s->each, sizeof *own);
    conf_shards_of(s->count, s->each, tenant, own);
    if (*p->slurm.constraint)
        buf_addf(&b, "%s&", p->slurm.constraint);
    for (int64_t i = 0; i < s->each; i++)
        buf_addf(&b, "%s%s%lld", i ? "|" : "(", s->feature, (long long)own[i]);
    buf_adds(&b, ")");
    free(own);
    return xstrndup(b.p, b.n);
}

int conf_check_shards(const char *file, const struct conf *c, struct err *e)
{
    const struct conf_shards *s = &c->platform.slurm.shards;
    const struct conf_profile *p = c->profiles.v;
    if (!s->count)
        return 0;
    if (s->each > s->count)
        return err_set(e, ERR_CONFIG, "mysimbdp.conf: key 'platform.slurm.shards': a tenant cannot have %lld of %lld",
                       (long long)s->each, (long long)s->count);
    if (!*s->feature || strspn(s->feature, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != strlen(s->feature))
        return err_set(e, ERR_CONFIG, "mysimbdp.conf: key 'platform.slurm.shards.feature': \"%s\" may have A-Z a-z 0-9 _ alone",
                       s->feature);
    for (size_t i = 0; i < c->profiles.n; i++) {
        if (conf_launcher_of(c, &p[i]) != LAUNCHER_slurm)
            continue;
        if (p[i].slurm.pilot.nodes)
            return err_set(e, ERR_CONFIG,
                           "%s:%d: key 'profiles.slurm.pilot': \"%s\" has pilots, which all tenants share: with "
                           "platform.slurm.shards each run is a job",
                           file, p[i].line, p[i].name);
        if (strpbrk(p[i].slurm.constraint, "|()[]*"))
            return err_set(e, ERR_CONFIG,
                           "%s:%d: key 'profiles.slurm.constraint': \"%s\" may have names and & alone: with platform.slurm.shards "
                           "there is a choice of shards behind it",
                           file, p[i].line, p[i].slurm.constraint);
    }
    return 0;
}
