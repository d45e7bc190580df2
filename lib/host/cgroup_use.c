/* cpu.stat is in every directory of a v2 tree, with controllers or without (Linux Documentation/admin-guide/cgroup-v2.rst), so it
 * counts where v1 hierarchies have the controllers, too. */
#include "cgroup_use.h"
#include "base/fd.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILE = 64 << 10 };

static bool read_of(const struct cgroup_host *h, enum cgroup_kind kind, const char *name, const char *file, struct buf *ret)
{
    char path[768];
    if (!*h->base[kind])
        return false;
    snprintf(path, sizeof path, "%s/%s/%s", h->base[kind], name, file);
    buf_reset(ret);
    buf_add(ret, "", 0);
    return fd_read_file(AT_FDCWD, path, ret, MAX_FILE, NULL) == 0;
}

/* -1: it is not there, or says "max"; what v1 says of no limit is more than any machine has. */
static int64_t number_of(const struct cgroup_host *h, enum cgroup_kind kind, const char *name, const char *v2, const char *v1)
{
    enum { NO_LIMIT_BITS = 62 };
    AUTO_BUF struct buf b = {0};
    char *end;
    if (!read_of(h, kind, name, h->v2[kind] ? v2 : v1, &b))
        return -1;
    int64_t n = strtoll(b.p, &end, 10);
    return end == b.p || n < 0 || n >= INT64_C(1) << NO_LIMIT_BITS ? -1 : n;
}

static int64_t count_procs(const struct cgroup_host *h, const char *name)
{
    AUTO_BUF struct buf b = {0};
    int64_t n = 0;
    if (cgroup_procs(h, name, &b) < 0)
        return -1;
    for (const char *p = b.p; (p = strchr(p, '\n')); p++)
        n++;
    return n;
}

static double cpu_of(const struct cgroup_host *h, const char *name)
{
    static const char key[] = "usage_usec ";
    AUTO_BUF struct buf b = {0};
    const char *at = read_of(h, CGROUP_TREE, name, "cpu.stat", &b) ? strstr(b.p, key) : NULL;
    return at ? strtod(at + strlen(key), NULL) / 1e6 : NAN;
}

static double max_cpus_of(const struct cgroup_host *h, const char *name)
{
    AUTO_BUF struct buf b = {0};
    long long quota = -1, period = 0;
    if (h->v2[CGROUP_CPU]) {
        if (!read_of(h, CGROUP_CPU, name, "cpu.max", &b) || sscanf(b.p, "%lld %lld", &quota, &period) != 2)
            return NAN;
    } else {
        quota = number_of(h, CGROUP_CPU, name, "", "cpu.cfs_quota_us");
        period = number_of(h, CGROUP_CPU, name, "", "cpu.cfs_period_us");
    }
    return quota > 0 && period > 0 ? (double)quota / (double)period : NAN;
}

bool cgroup_use_of(const struct cgroup_host *h, const char *name, struct cgroup_run_use *ret)
{
    int64_t n = count_procs(h, name), counted = number_of(h, CGROUP_PIDS, name, "pids.current", "pids.current");
    if (n < 0)
        return false;
    *ret = (struct cgroup_run_use){
        .cpu_s = cpu_of(h, name),
        .memory_bytes = number_of(h, CGROUP_MEMORY, name, "memory.current", "memory.usage_in_bytes"),
        .pids = counted >= 0 ? counted : n,
        .max_cpus = max_cpus_of(h, name),
        .max_memory_bytes = number_of(h, CGROUP_MEMORY, name, "memory.max", "memory.limit_in_bytes"),
        .max_pids = number_of(h, CGROUP_PIDS, name, "pids.max", "pids.max"),
    };
    return true;
}
