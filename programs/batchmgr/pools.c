#include "pools.h"
#include "state.h"

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

void pools_set(struct batchmgr *m)
{
    const struct conf *c = m->conf;
    double of_streams = c->platform.stream_pct > 0 ? (double)c->platform.stream_pct : 0; /* instances are on this machine */
    struct conf_capacity slurm = conf_slurm_capacity(c);
    int pool = fair_queue_pool(m->fair_queue, POOL_SLURM);
    set_local(m, c->platform.capacity.cpus, c->platform.capacity.memory_bytes, (100 - of_streams) / 100);
    fair_queue_lend_cores(m->fair_queue, pool, c->platform.slurm.capacity.cpus < 0 && c->platform.capacity.cpus < 0);
    fair_queue_set_capacity(m->fair_queue, pool, slurm.cpus, slurm.memory_bytes);
}

struct demand pools_demand(struct batchmgr *m, const struct conf_profile *p)
{
    int pool = conf_launcher_of(m->conf, p) == LAUNCHER_slurm ? fair_queue_pool(m->fair_queue, POOL_SLURM) : FAIR_QUEUE_LOCAL;
    return (struct demand){pool, p->requests.cpus, p->requests.memory_bytes};
}
