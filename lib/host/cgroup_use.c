/* cpu.stat is in every directory of a v2 tree, with controllers or without (Linux Documentation/admin-guide/cgroup-v2.rst), so it
 * counts where v1 hierarchies have the controllers, too. Where there is no such tree, the v1 hierarchy counts (cpuacct.usage,
 * cgroup-v1/cpuacct.rst); where nothing does, the processes that live. */
#include "cgroup_use.h"
#include "base/fd.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* The number behind `key` and a blank, of a file of such lines. -1: there is none. */
static int64_t counter_of(const struct cgroup_host *h, enum cgroup_kind kind, const char *name, const char *file, const char *key)
{
    AUTO_BUF struct buf b = {0};
    const size_t n = strlen(key);
    if (!read_of(h, kind, name, file, &b))
        return -1;
    for (const char *p = b.p; p; p = strchr(p, '\n')) {
        p += *p == '\n';
        if (!strncmp(p, key, n) && p[n] == ' ')
            return strtoll(p + n, NULL, 10);
    }
    return -1;
}

/* Of the processes that live, and of those that they waited for. NaN: none can be seen. */
static double cpu_of_processes(const struct cgroup_host *h, const char *name)
{
    AUTO_BUF struct buf pids = {0};
    long long ticks = -1;
    if (cgroup_procs(h, name, &pids) < 0 || !pids.n)
        return NAN;
    for (char *save, *pid = strtok_r(pids.p, "\n", &save); pid; pid = strtok_r(NULL, "\n", &save)) {
        char path[64];
        long long user, system, of_children, system_of_children;
        AUTO_BUF struct buf b = {0};
        snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
        if (fd_read_file(AT_FDCWD, path, &b, MAX_FILE, NULL) < 0 || !b.n)
            continue;
        const char *end = strrchr(b.p, ')'); /* the name may hold anything */
        if (end && sscanf(end + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lld %lld %lld %lld", &user, &system, &of_children,
                          &system_of_children) == 4)
            ticks = (ticks < 0 ? 0 : ticks) + user + system + of_children + system_of_children;
    }
    return ticks < 0 ? NAN : (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

static double cpu_of(const struct cgroup_host *h, const char *name)
{
    int64_t us = counter_of(h, CGROUP_TREE, name, "cpu.stat", "usage_usec");
    if (us >= 0)
        return (double)us / 1e6;
    int64_t ns = h->v2[CGROUP_CPU] ? -1 : number_of(h, CGROUP_CPU, name, "", "cpuacct.usage");
    return ns >= 0 ? (double)ns / 1e9 : cpu_of_processes(h, name);
}

static int64_t memory_of(const struct cgroup_host *h, const char *name)
{
    const bool v2 = h->v2[CGROUP_MEMORY];
    const int64_t used = number_of(h, CGROUP_MEMORY, name, "memory.current", "memory.usage_in_bytes");
    const int64_t unused = counter_of(h, CGROUP_MEMORY, name, "memory.stat", v2 ? "inactive_file" : "total_inactive_file");
    return used < 0 || unused <= 0 ? used : used - (unused < used ? unused : used);
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

/* "some avg10=0.00 avg60=0.00 avg300=0.00 total=0" is the first line; total is in microseconds. */
static double stalled_s(const struct cgroup_host *h, const char *name, const char *file)
{
    AUTO_BUF struct buf b = {0};
    if (!read_of(h, CGROUP_TREE, name, file, &b) || strncmp(b.p, "some ", 5) != 0)
        return NAN;
    const char *total = strstr(b.p, "total=");
    return total ? (double)strtoull(total + strlen("total="), NULL, 10) / 1e6 : NAN;
}

static double throttled_s(const struct cgroup_host *h, const char *name)
{
    const bool v2 = h->v2[CGROUP_CPU];
    int64_t n = counter_of(h, CGROUP_CPU, name, "cpu.stat", v2 ? "throttled_usec" : "throttled_time");
    return n < 0 ? NAN : (double)n / (v2 ? 1e6 : 1e9);
}

struct cgroup_waited cgroup_waited_of(const struct cgroup_host *h, const char *name)
{
    const char *dir = name ? name : ".";
    return (struct cgroup_waited){stalled_s(h, dir, "cpu.pressure"), stalled_s(h, dir, "memory.pressure"),
                                  stalled_s(h, dir, "io.pressure"), throttled_s(h, dir)};
}

bool cgroup_use_of(const struct cgroup_host *h, const char *name, struct cgroup_use *ret)
{
    int64_t n = count_procs(h, name), counted = number_of(h, CGROUP_PIDS, name, "pids.current", "pids.current");
    *ret = (struct cgroup_use){NAN, -1, -1, NAN, -1, -1};
    if (n < 0)
        return false;
    *ret = (struct cgroup_use){
        .cpu_s = cpu_of(h, name),
        .memory_bytes = memory_of(h, name),
        .pids = counted >= 0 ? counted : n,
        .max_cpus = max_cpus_of(h, name),
        .max_memory_bytes = number_of(h, CGROUP_MEMORY, name, "memory.max", "memory.limit_in_bytes"),
        .max_pids = number_of(h, CGROUP_PIDS, name, "pids.max", "pids.max"),
    };
    return true;
}
