#include "pools.h"
#include "state.h"

#include "base/mem.h"

#include <sys/sysinfo.h>

static void set_local(struct batchmgr *m, double cpus, int64_t memory_bytes, double share)
{
    struct sysinfo si = {0};
    sysinfo(&si);
    bool of_host = cpus < 0;
    cpus = cpus > 0 ? cpus : get_nprocs();
    memory_bytes = memory_bytes > 0 ? memory_bytes : (int64_t)si.totalram * si.mem_unit;
    /* The host's own cores can be shared for a while; a number that somebody wrote down is a promise. */
    fair_queue_lend_cores(m->fair_queue, FAIR_QUEUE_LOCAL, of_host);
    fair_queue_set_capacity(m->fair_queue, FAIR_QUEUE_LOCAL, cpus * share, (int64_t)((double)memory_bytes * share));
}

/* As many runs as its pilots have room for: others wait in the fair queue, and not for a pilot. */
static int pool_of_pilots(struct batchmgr *m, const struct conf_profile *p)
{
    AUTO_FREE char *name = xasprintf("pilots of %s", p->name);
    return fair_queue_pool(m->fair_queue, name);
}

static void set_pilots(struct batchmgr *m)
{
    const struct conf_profile *p = m->conf->profiles.v;
    for (size_t i = 0; i < m->conf->profiles.n; i++) {
        struct conf_pilot pilot = conf_pilot(&p[i]);
        if (pilot.nodes)
            fair_queue_set_capacity(m->fair_queue, pool_of_pilots(m, &p[i]), pilot.capacity.cpus, pilot.capacity.memory_bytes);
    }
}

void pools_set(struct batchmgr *m)
{
    const struct conf *c = m->conf;
    double kept = c->platform.stream_pct > 0 ? (double)c->platform.stream_pct : 0;
    bool all_far = conf_has_instances_on(c, LAUNCHER_slurm) && !conf_has_instances_on(c, LAUNCHER_local);
    double of_streams = all_far ? 0 : kept, far = conf_has_instances_on(c, LAUNCHER_slurm) ? (100 - kept) / 100 : 1;
    struct conf_capacity slurm = conf_slurm_capacity(c);
    int pool = fair_queue_pool(m->fair_queue, POOL_SLURM);
    set_local(m, c->platform.capacity.cpus, c->platform.capacity.memory_bytes, (100 - of_streams) / 100);
    fair_queue_lend_cores(m->fair_queue, pool, c->platform.slurm.capacity.cpus < 0 && c->platform.capacity.cpus < 0);
    fair_queue_set_capacity(m->fair_queue, pool, slurm.cpus * far, (int64_t)((double)slurm.memory_bytes * far));
    const struct conf_shards *shards = &c->platform.slurm.shards; /* what waits in Slurm for its shards would take others' place */
    fair_queue_set_most(m->fair_queue, pool, shards->count ? (double)shards->each / (double)shards->count : 1);
    set_pilots(m);
}

struct demand pools_demand(struct batchmgr *m, const struct conf_profile *p)
{
    int pool = conf_launcher_of(m->conf, p) != LAUNCHER_slurm ? FAIR_QUEUE_LOCAL
               : p->slurm.pilot.nodes                         ? pool_of_pilots(m, p)
                                                              : fair_queue_pool(m->fair_queue, POOL_SLURM);
    return (struct demand){pool, p->requests.cpus, p->requests.memory_bytes};
}
