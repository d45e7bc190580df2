#include "doctor.h"

#include "base/mem.h"
#include "host/cgroup.h"
#include "host/isolation.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

static void limit(struct doctor *d, const struct conf_profile *p, const char *key, int64_t value, const char *status,
                  const char *reason, const char *remedy)
{
    AUTO_FREE char *subject =
        value < 0 ? xasprintf("%s: %s", p->name, key) : xasprintf("%s: %s = %lld", p->name, key, (long long)value);
    if (value < 0)
        doctor_say(d, "limit", subject, "unlimited", NULL, NULL);
    else
        doctor_say(d, "limit", subject, status, reason, remedy);
}

/* Whether a child of ours can be given the limit. */
static bool rlimit_works(int resource, int64_t value, int64_t *ret_hard)
{
    struct rlimit now, want;
    if (getrlimit(resource, &now) < 0)
        return false;
    *ret_hard = now.rlim_max == RLIM_INFINITY ? -1 : (int64_t)now.rlim_max;
    if (*ret_hard >= 0 && value > *ret_hard)
        value = *ret_hard;
    pid_t pid = fork();
    if (pid == 0) {
        want.rlim_cur = want.rlim_max = (rlim_t)value;
        _exit(setrlimit(resource, &want) < 0 || getrlimit(resource, &now) < 0 || now.rlim_cur != want.rlim_cur);
    }
    int status = 1;
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static void rlimits(struct doctor *d, const struct conf_profile *p)
{
    const struct {
        const char *key;
        int resource;
        int64_t value;
    } all[] = {
        {"rlimits.cpu_s", RLIMIT_CPU, p->rlimits.cpu_s},
        {"rlimits.as_bytes", RLIMIT_AS, p->rlimits.as_bytes},
        {"rlimits.nofile", RLIMIT_NOFILE, p->rlimits.nofile},
        {"rlimits.nproc", RLIMIT_NPROC, p->rlimits.nproc},
        {"rlimits.fsize_bytes", RLIMIT_FSIZE, p->rlimits.fsize_bytes},
        {"rlimits.core_bytes", RLIMIT_CORE, p->rlimits.core_bytes},
        {"rlimits.stack_bytes", RLIMIT_STACK, p->rlimits.stack_bytes},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        int64_t hard = -1;
        bool works = all[i].value < 0 || rlimit_works(all[i].resource, all[i].value, &hard);
        bool lower = works && (geteuid() != 0 || d->has_map) && hard >= 0 && all[i].value > hard;
        AUTO_FREE char *reason =
            lower ? xasprintf("at %lld: the hard limit of this process, which only root may raise", (long long)hard) : NULL;
        if (!lower && all[i].resource == RLIMIT_NPROC && geteuid() != 0)
            reason = xstrdup("counts all processes of your uid, which all tenants share");
        limit(d, p, all[i].key, all[i].value, works ? "enforced" : "absent", works ? reason : "setrlimit refuses it",
              works ? NULL : "choose another value");
    }
}

static void cgroups(struct doctor *d, const struct conf_profile *p)
{
    static const char *const keys[] = {"cgroup.cpu_pct", "cgroup.memory_bytes", "cgroup.pids"};
    static const char *const remedy = "run as root on a host with cgroups (a container needs them writable), set it to -1, or set "
                                      "platform.allow_missing_limits";
    const int64_t values[] = {p->cgroup.cpu_pct, p->cgroup.memory_bytes, p->cgroup.pids};
    const bool stand_in[] = {false, p->rlimits.as_bytes >= 0, p->rlimits.nproc >= 0 && geteuid() == 0};
    static const char *const by[] = {"", "only by rlimits.as_bytes, for each process",
                                     "only by rlimits.nproc, for the tenant's uid"};
    for (int k = 0; k < 3; k++) {
        bool there = *d->cg.base[k];
        AUTO_FREE char *how = xasprintf("cgroup v%d in %s", d->cg.v2[k] ? 2 : 1, d->cg.base[k]);
        AUTO_FREE char *why =
            xasprintf("%s%s%s", stand_in[k] ? by[k] : "nothing holds a run to it", *d->cg.why[k] ? ": " : "", d->cg.why[k]);
        limit(d, p, keys[k], values[k],
              there         ? "enforced"
              : stand_in[k] ? "emulated"
                            : "absent",
              there ? how : why, there ? NULL : remedy);
    }
}

static void isolation(struct doctor *d, const struct conf_profile *p)
{
    static const char *const remedy =
        "run as root on Linux 5.12 or newer where namespaces can be made, or set isolation = \"basic\"";
    AUTO_FREE char *subject = xasprintf("%s: isolation = %s", p->name, conf_isolation_name(p->isolation));
    AUTO_FREE char *network = xasprintf("%s: network", p->name);
    bool wanted = p->isolation == ISOLATION_full, full = wanted && d->isolation.full;
    AUTO_FREE char *how =
        xasprintf("namespaces, a view of its own, system calls filtered%s", d->isolation.landlock ? ", Landlock" : "");
    AUTO_FREE char *why = xasprintf("a uid and limits are all that holds a run: %s", d->isolation.why);
    doctor_say(d, "limit", subject,
               full     ? "enforced"
               : wanted ? "absent"
                        : "unlimited",
               full     ? how
               : wanted ? why
                        : NULL,
               wanted && !full ? remedy : NULL);
    if (!wanted || conf_network_has(p, CONF_NET_HOST))
        doctor_say(d, "limit", network, "unlimited", "every address is reachable", NULL);
    else if (full)
        doctor_say(d, "limit", network, "enforced", "a network namespace, and a relay to what it lists", NULL);
    else
        doctor_say(d, "limit", network, "absent", "every address is reachable", remedy);
    const char *status = full ? "enforced" : wanted ? "absent" : "unlimited";
    const char *tmp = full ? "a tmpfs of its own" : "/tmp is the host's";
    limit(d, p, "tmp_bytes", p->tmp_bytes, status, tmp, wanted && !full ? remedy : NULL);
    limit(d, p, "tmp_inodes", p->tmp_inodes, status, tmp, wanted && !full ? remedy : NULL);
    bool memory = full && p->scratch == SCRATCH_memory;
    const char *scratch = memory ? "a tmpfs of that size" : "the runner looks every 2 s, and sooner when it fills quickly";
    limit(d, p, "scratch_bytes", p->scratch_bytes, memory ? "enforced" : "emulated", scratch, NULL);
    limit(d, p, "scratch_inodes", p->scratch_inodes, memory ? "enforced" : "emulated", scratch, NULL);
}

void doctor_limits(struct doctor *d)
{
    const struct conf_profile *p = d->conf->profiles.v;
    for (size_t i = 0; i < d->conf->profiles.n; i++) {
        limit(d, &p[i], "wall_s", p[i].wall_s, "enforced", "by the runner's clock", NULL);
        limit(d, &p[i], "grace_s", p[i].grace_s, "enforced", "by the runner's clock", NULL);
        limit(d, &p[i], "output_bytes", p[i].output_bytes, "enforced", "by the runner, which reads all output", NULL);
        rlimits(d, &p[i]);
        cgroups(d, &p[i]);
        isolation(d, &p[i]);
    }
    struct stat st;
    bool counted = cgroup_has_tree(&d->cg) && stat("/proc/pressure/memory", &st) == 0;
    doctor_say(d, "limit", "what runs wait for", counted ? "ok" : "unknown",
               counted ? "the kernel counts it (pressure stall information)"
                       : "a run that is late does not say whether it waited for a CPU, for memory or for a disk",
               counted ? NULL : "boot with psi=1 where cgroup v2 is mounted");
    if (cgroup_has_tree(&d->cg))
        doctor_say(d, "limit", "end of the whole tree", "enforced", "cgroup.kill and cgroup.events", NULL);
    else
        doctor_say(d, "limit", "end of the whole tree", "emulated", "by subreaper and the run's id in the processes' environment",
                   NULL);
}
