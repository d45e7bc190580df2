/* What Slurm is asked for by a profile. The runner's own limits are to come first, since it alone knows why a run ended; so a job
 * has more of all than its run may use, and a configuration that gives it less is refused. */
#include "check.h"

#include "base/mem.h"

#include <string.h>
#include <sys/sysinfo.h>

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."

enum { SPARE_S = 120, PILOT_S = 3600, SPARE_BYTES = 64 << 20 /* the runner, and with isolation the run's init */ };

enum conf_launcher conf_launcher_of(const struct conf *c, const struct conf_profile *p)
{
    return p->launcher == OWN_LAUNCHER_platform ? c->platform.launcher
           : p->launcher == OWN_LAUNCHER_slurm  ? LAUNCHER_slurm
                                                : LAUNCHER_local;
}

bool conf_has_launcher(const struct conf *c, enum conf_launcher l)
{
    const struct conf_profile *p = c->profiles.v;
    for (size_t i = 0; i < c->profiles.n; i++)
        if (conf_launcher_of(c, &p[i]) == l)
            return true;
    return false;
}

static bool is_wildcard(const char *address)
{
    return !strcmp(address, "*") || !strcmp(address, "0.0.0.0") || !strcmp(address, "::") || !strcmp(address, "[::]");
}

const char *conf_listen(const struct conf *c)
{
    return *c->platform.listen ? c->platform.listen : c->platform.slurm.listen;
}

char *conf_listen_for_nodes(const struct conf *c)
{
    const char *own = c->platform.listen, *of_nodes = c->platform.slurm.listen;
    const char *at = !*of_nodes                                            ? (is_wildcard(own) ? "" : own)
                     : !*own || is_wildcard(own) || !strcmp(own, of_nodes) ? of_nodes
                                                                           : ""; /* they do not listen there */
    size_t n = strlen(at);
    return n > 2 && at[0] == '[' && at[n - 1] == ']' ? xstrndup(at + 1, n - 2) : xstrdup(at);
}

bool conf_has_instances_on(const struct conf *c, enum conf_launcher l)
{
    for (size_t k = 0; k < c->n_tenants; k++) {
        const struct conf_stream_app *a = c->tenants[k].stream_apps.v;
        for (size_t i = 0; i < c->tenants[k].stream_apps.n; i++) {
            const struct conf_profile *p = *a[i].exec ? conf_profile(c, a[i].profile) : NULL;
            if (p && conf_launcher_of(c, p) == l)
                return true;
        }
    }
    return false;
}

int64_t conf_slurm_time_s(const struct conf_profile *p)
{
    if (p->slurm.time_s >= 0)
        return p->slurm.time_s;
    return p->wall_s < 0 ? -1 : p->wall_s + p->grace_s + SPARE_S;
}

int64_t conf_slurm_cpus(const struct conf_profile *p)
{
    return p->slurm.cpus >= 0 ? p->slurm.cpus : (int64_t)p->requests.cpus + (p->requests.cpus > (double)(int64_t)p->requests.cpus);
}

int64_t conf_slurm_memory_bytes(const struct conf_profile *p)
{
    int64_t needs = p->cgroup.memory_bytes > p->requests.memory_bytes ? p->cgroup.memory_bytes : p->requests.memory_bytes;
    return p->slurm.memory_bytes >= 0 ? p->slurm.memory_bytes : needs + SPARE_BYTES;
}

struct conf_pilot conf_pilot(const struct conf_profile *p)
{
    struct conf_pilot ret = {.nodes = p->slurm.pilot.nodes};
    int64_t time_s = conf_slurm_time_s(p);
    if (!ret.nodes)
        return ret;
    ret.runs = (int64_t)(p->slurm.pilot.cpus / p->requests.cpus + 1e-9);
    ret.cpus = (int64_t)p->slurm.pilot.cpus + (p->slurm.pilot.cpus > (double)(int64_t)p->slurm.pilot.cpus);
    ret.memory_bytes =
        p->slurm.pilot.memory_bytes >= 0 ? p->slurm.pilot.memory_bytes : ret.runs * conf_slurm_memory_bytes(p) + SPARE_BYTES;
    ret.time_s = p->slurm.pilot.time_s >= 0 ? p->slurm.pilot.time_s : time_s + PILOT_S;
    ret.needs_s = p->wall_s + p->grace_s;
    ret.capacity.cpus = (double)(ret.nodes * ret.runs) * p->requests.cpus;
    ret.capacity.memory_bytes = ret.nodes * ret.runs * p->requests.memory_bytes;
    return ret;
}

/* Before anything is set aside. */
static struct conf_capacity whole_capacity(const struct conf *c)
{
    struct conf_capacity own = c->platform.slurm.capacity, of_all = c->platform.capacity;
    struct sysinfo si = {0};
    sysinfo(&si);
    double cpus = own.cpus > 0 ? own.cpus : of_all.cpus;
    int64_t memory = own.memory_bytes > 0 ? own.memory_bytes : of_all.memory_bytes;
    return (struct conf_capacity){cpus > 0 ? cpus : get_nprocs(), memory > 0 ? memory : (int64_t)si.totalram * si.mem_unit};
}

struct conf_capacity conf_slurm_capacity(const struct conf *c)
{
    struct conf_capacity left = whole_capacity(c);
    const struct conf_profile *p = c->profiles.v;
    for (size_t i = 0; i < c->profiles.n; i++) {
        if (conf_launcher_of(c, &p[i]) != LAUNCHER_slurm)
            continue;
        struct conf_pilot pilot = conf_pilot(&p[i]);
        left.cpus -= pilot.capacity.cpus;
        left.memory_bytes -= pilot.capacity.memory_bytes;
    }
    return left;
}

/* Each becomes an argument of sbatch by itself (--qos=TEXT), so what is refused is what Slurm would take for something else. */
static int check_name(const char *file, const struct conf_profile *p, const char *key, const char *text, const char *more,
                      struct err *e)
{
    for (const char *c = text; *c; c++)
        if (!strchr(LETTERS, *c) && !strchr(more, *c))
            return err_set(e, ERR_CONFIG, "%s:%d: key 'profiles.slurm.%s': \"%s\" may have A-Z a-z 0-9 _ - . %s alone", file,
                           p->line, key, text, more);
    return 0;
}

static int check_numbers(const char *file, const struct conf_profile *p, struct err *e)
{
    if (p->slurm.time_s >= 0 && p->wall_s >= 0 && p->slurm.time_s < p->wall_s + p->grace_s)
        return err_set(
            e, ERR_CONFIG,
            "%s:%d: key 'profiles.slurm.time_s': %lld is less than wall_s and grace_s: Slurm would end the run before its "
            "own limit does; leave it out, or lower wall_s",
            file, p->line, (long long)p->slurm.time_s);
    if (p->slurm.time_s == 0 || p->slurm.cpus == 0 || p->slurm.memory_bytes == 0)
        return err_set(
            e, ERR_CONFIG,
            "%s:%d: key 'profiles.slurm': time_s, cpus and memory_bytes are 1 or more; leave them out for their defaults", file,
            p->line);
    if (p->slurm.memory_bytes >= 0 && p->slurm.memory_bytes < p->cgroup.memory_bytes + SPARE_BYTES && p->cgroup.memory_bytes >= 0)
        return err_set(e, ERR_CONFIG,
                       "%s:%d: key 'profiles.slurm.memory_bytes': %lld is less than cgroup.memory_bytes and 64 MiB for the runner",
                       file, p->line, (long long)p->slurm.memory_bytes);
    return 0;
}

static int check_pilot(const char *file, const struct conf_profile *p, struct err *e)
{
    struct conf_pilot pilot = conf_pilot(p);
    const char *why = NULL;
    if (!pilot.nodes)
        return 0;
    if (p->wall_s < 0)
        why = "wall_s must not be -1, since a run begins in a pilot only while that has time for it";
    else if (pilot.runs < 1)
        why = "cpus are less than requests.cpus, so there is room for no run";
    else if (pilot.time_s < p->wall_s + p->grace_s)
        why = "time_s is less than wall_s and grace_s, so there is time for no run";
    else if (pilot.memory_bytes < conf_slurm_memory_bytes(p))
        why = "memory_bytes is less than what a run may use and 64 MiB for its runner";
    return why ? err_set(e, ERR_CONFIG, "%s:%d: key 'profiles.slurm.pilot': %s", file, p->line, why) : 0;
}

int conf_check_slurm(const char *file, const struct conf_profile *p, struct err *e)
{
    int r = check_name(file, p, "partition", p->slurm.partition, ",", e);
    if (r == 0)
        r = check_name(file, p, "account", p->slurm.account, "", e);
    if (r == 0)
        r = check_name(file, p, "qos", p->slurm.qos, "", e);
    if (r == 0)
        r = check_name(file, p, "constraint", p->slurm.constraint, "&|,()[]*!=", e);
    if (r == 0)
        r = check_numbers(file, p, e);
    return r == 0 ? check_pilot(file, p, e) : r;
}

int conf_check_instances_place(const struct conf *c, const struct conf_tenant *t, const struct conf_stream_app *a, struct err *e)
{
    AUTO_FREE char *address = conf_listen_for_nodes(c);
    if (*address || conf_launcher_of(c, conf_profile(c, a->profile)) != LAUNCHER_slurm)
        return 0;
    return *c->platform.slurm.listen
               ? err_set(e, ERR_CONFIG,
                         "%s:%d: key 'stream_apps.profile': instances of profile \"%s\" are jobs, and nodes would look for broker "
                         "and monitor at platform.slurm.listen = \"%s\", where they do not listen: platform.listen is \"%s\". "
                         "Make it the same, \"*\" or empty",
                         t->file, a->line, a->profile, c->platform.slurm.listen, c->platform.listen)
               : err_set(e, ERR_CONFIG,
                         "%s:%d: key 'stream_apps.profile': instances of profile \"%s\" are jobs: platform.slurm.listen has to "
                         "say at which address of this host's nodes find broker and monitor; or use a profile with launcher = "
                         "\"local\"",
                         t->file, a->line, a->profile);
}

/* An address becomes a part of an endpoint, and of what a run's network leads to. */
static int check_listen(const struct conf *c, struct err *e)
{
    const char *v = c->platform.slurm.listen;
    if (strspn(v, LETTERS ":") != strlen(v) || is_wildcard(v))
        return err_set(e, ERR_CONFIG, "mysimbdp.conf: key 'platform.slurm.listen': \"%s\" is no address that nodes can connect to",
                       v);
    return 0;
}

/* platform.capacity has been the cluster's where all runs are jobs; where some are not, it cannot be both. */
static int check_capacities(const char *file, const struct conf *c, struct err *e)
{
    struct conf_capacity own = c->platform.slurm.capacity;
    const struct conf_profile *p = c->profiles.v, *local = NULL, *job = NULL;
    for (size_t i = 0; i < c->profiles.n; i++)
        *(conf_launcher_of(c, &p[i]) == LAUNCHER_slurm ? &job : &local) = &p[i];
    if (!job || !local || (own.cpus > 0 && own.memory_bytes > 0))
        return 0;
    return err_set(e, ERR_CONFIG,
                   "%s:%d: key 'profiles.launcher': runs of \"%s\" are jobs, those of \"%s\" are on this host: "
                   "platform.slurm.capacity has to say what of the cluster is this home's, cpus and memory_bytes",
                   file, job->line, job->name, local->name);
}

static int check_pilots(const char *file, const struct conf *c, struct err *e)
{
    const struct conf_profile *p = c->profiles.v;
    struct conf_capacity left = conf_slurm_capacity(c);
    for (size_t i = 0; i < c->profiles.n; i++) {
        if (conf_launcher_of(c, &p[i]) != LAUNCHER_slurm || !p[i].slurm.pilot.nodes)
            continue;
        if (!*c->platform.slurm.listen)
            return err_set(e, ERR_CONFIG,
                           "%s:%d: key 'profiles.slurm.pilot': \"%s\" has pilots: platform.slurm.listen has to say at which "
                           "address of this host's they find the launcher of jobs",
                           file, p[i].line, p[i].name);
        if (left.cpus < -1e-9 || left.memory_bytes < 0)
            return err_set(e, ERR_CONFIG,
                           "%s:%d: key 'profiles.slurm.pilot': the profiles' pilots may have more together than "
                           "platform.slurm.capacity",
                           file, p[i].line);
    }
    return 0;
}

int conf_check_launchers(const char *file, const struct conf *c, struct err *e)
{
    int r = check_listen(c, e);
    if (r == 0)
        r = check_capacities(file, c, e);
    if (r == 0)
        r = check_pilots(file, c, e);
    return r == 0 ? conf_check_shards(file, c, e) : r;
}
