/* Whether runs can be jobs: Slurm answers, knows us, ends whole process trees, has the partitions of the profiles, and its nodes
 * see the home and the programs where this machine has them, and reach broker and monitor. Each node is asked by a job of its own,
 * as runs will be. */
#include "doctor.h"

#include "base/fd.h"
#include "base/mem.h"
#include "base/spawn.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_OUTPUT = 1 << 20, MAX_NODES = 64 };

/* Runs a command of Slurm's for so long. True when it ended well; its output ends with a NUL, and is in one line where it failed.
 */
static bool ask(const char *seconds, char *const args[], struct buf *out)
{
    char *argv[24] = {"timeout", "--kill-after=2", (char *)seconds};
    struct err e = {0};
    int status = -1;
    for (size_t i = 0; i < 20 && args[i]; i++)
        argv[3 + i] = args[i];
    int r = spawn_output(argv, environ, out, MAX_OUTPUT, &status, &e);
    bool good = r == 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (!out->n)
        buf_adds(out, good                                                        ? ""
                      : r == 0 && WIFEXITED(status) && WEXITSTATUS(status) == 124 ? "no answer in time"
                      : r == 0                                                    ? "it failed (its words are above)"
                                                                                  : e.msg);
    buf_add(out, "", 0);
    return good;
}

/* The value of "Name = value" in what `scontrol show config` prints. Caller frees. */
static char *setting(const char *text, const char *name)
{
    size_t n = strlen(name);
    for (const char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (!strncmp(line, name, n) && strchr(" =", line[n])) {
            const char *value = line + n + strspn(line + n, " =");
            return xstrndup(value, strcspn(value, " \n"));
        }
    return xstrdup("");
}

static bool controller(struct doctor *d)
{
    AUTO_BUF struct buf out = {0}, conf = {0};
    char *ping[] = {"scontrol", "ping", NULL}, *show[] = {"scontrol", "show", "config", NULL};
    if (!ask("10", ping, &out) || !strstr(out.p, "is UP")) {
        doctor_say(d, "slurm", "slurmctld", "failed", out.p, "start slurmctld; SLURM_CONF in the environment says whose it is");
        return false;
    }
    doctor_say(d, "slurm", "slurmctld", "ok", "answers", NULL);
    if (!ask("15", show, &conf)) {
        doctor_say(d, "slurm", "authentication", "failed", conf.p, "start munged on this machine, with the cluster's key");
        return false;
    }
    AUTO_FREE char *auth = setting(conf.p, "AuthType"), *track = setting(conf.p, "ProctrackType");
    doctor_say(d, "slurm", "authentication", "ok", auth, NULL);
    bool whole = !strcmp(track, "proctrack/cgroup");
    doctor_say(d, "slurm", "ends whole process trees", whole ? "ok" : "failed", track,
               whole ? NULL : "set ProctrackType=proctrack/cgroup in slurm.conf, so that nothing of a job outlives it");
    return true;
}

static bool seen_before(const struct conf_profile *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(p[i].slurm.partition, p[n].slurm.partition))
            return true;
    return false;
}

static void partitions(struct doctor *d)
{
    const struct conf_profile *p = d->conf->profiles.v;
    for (size_t i = 0; i < d->conf->profiles.n; i++) {
        AUTO_BUF struct buf out = {0};
        AUTO_FREE char *subject = xasprintf("partition %s", p[i].slurm.partition);
        char *show[] = {"scontrol", "--oneliner", "show", "partition", p[i].slurm.partition, NULL};
        if (!*p[i].slurm.partition || seen_before(p, i))
            continue;
        bool there = ask("15", show, &out), up = there && strstr(out.p, " State=UP");
        doctor_say(d, "slurm", subject, up ? "ok" : "failed",
                   !there ? "Slurm has none of that name"
                   : up   ? "up"
                          : "it is not up",
                   up ? NULL : "correct slurm.partition of the profiles, or have the cluster's admin set it up");
    }
}

/* Where nodes look for broker and monitor, which are there while the platform is up. */
struct platform_ports {
    char *host, broker[16], monitor[16];
};

static void find_port(const struct doctor *d, const char *program, int64_t port, char ret[16])
{
    if (!port)
        port = home_kept_port(&d->h, program);
    if (port)
        snprintf(ret, 16, "%lld", (long long)port);
}

static void find_ports(const struct doctor *d, struct platform_ports *ret)
{
    *ret = (struct platform_ports){.host = conf_listen_for_nodes(d->conf)};
    if (!*ret->host || !fd_exists(d->h.dirfd, "state/endpoints.json"))
        return;
    find_port(d, "broker", d->conf->platform.ports.broker, ret->broker);
    find_port(d, "monitor", d->conf->platform.ports.monitor, ret->monitor);
}

/* What a node wrote of them behind the nonce. */
static void reached(struct doctor *d, const char *name, const struct platform_ports *p, const struct buf *seen)
{
    AUTO_FREE char *subject = xasprintf("node %s: broker and monitor", name);
    bool all = !memchr(seen->p, '\n', seen->n);
    AUTO_FREE char *why = all ? NULL : xstrndup(seen->p + ID_SIZE, seen->n - ID_SIZE);
    for (char *c = why; c && *c; c++)
        *c = *c == '\n' ? ';' : *c;
    AUTO_FREE char *good = xasprintf("reaches both at %s", p->host);
    doctor_say(d, "slurm", subject, all ? "ok" : "failed", all ? good : why,
               all ? NULL
                   : "platform.slurm.listen is to be an address of this machine's that nodes reach, and a firewall has to let them "
                     "through to platform.ports.broker and monitor");
}

/* It reads the file and puts what it read beside it. */
static void node(struct doctor *d, const char *name, const char *state, struct platform_ports *ports)
{
    AUTO_BUF struct buf out = {0}, seen = {0};
    char nonce[ID_SIZE];
    bool asks = *ports->broker && *ports->monitor;
    home_new_id(nonce);
    AUTO_FREE char *subject = xasprintf("node %s", name), *list = xasprintf("--nodelist=%s", name),
                   *program = home_program(&d->h, "simbdp-slurm"), *file = xasprintf("%s/state/jobs/doctor-%s", d->h.path, nonce),
                   *answer = xasprintf("%s.seen", file);
    char *srun[] = {"srun",
                    "--quiet",
                    "--immediate=10",
                    "--nodes=1",
                    "--ntasks=1",
                    "--time=1",
                    "--mem=16M",
                    "--chdir=/",
                    "--mpi=none",
                    "--input=none",
                    "--job-name=simbdp-doctor",
                    list,
                    program,
                    "--see",
                    file,
                    NULL,
                    NULL,
                    NULL,
                    NULL,
                    NULL};
    for (size_t i = 15; asks && i < 19; i++)
        srun[i] = (char *[]){ports->host, ports->broker, ports->host, ports->monitor}[i - 15];
    if (strspn(state, "abcdefghijklmnopqrstuvwxyz") != strlen(state) || strstr(state, "down") || strstr(state, "drain")) {
        doctor_say(d, "slurm", subject, "unlimited", state, "it takes no jobs; the cluster's admin knows why (`sinfo -R`)");
        return;
    }
    if (fd_write_file(AT_FDCWD, file, nonce, strlen(nonce), 0600, NULL) < 0) {
        doctor_say(d, "slurm", subject, "unknown", "cannot write below state/jobs",
                   "run doctor as the user that runs the platform");
        return;
    }
    bool ran = ask("30", srun, &out);
    bool same = ran && fd_read_file(AT_FDCWD, answer, &seen, 2000, NULL) == 0 && seen.n >= strlen(nonce) &&
                !memcmp(seen.p, nonce, strlen(nonce));
    unlink(file);
    unlink(answer);
    doctor_say(d, "slurm", subject, same ? "ok" : "failed",
               same  ? "sees the home and the programs, and writes there"
               : ran ? "it writes elsewhere than this machine reads: the home is not on a shared file system"
                     : out.p,
               same ? NULL : "mount home and programs there at the same paths, writable for root (no root_squash); or it is busy");
    if (same && asks)
        reached(d, name, ports, &seen);
}

static void nodes(struct doctor *d)
{
    AUTO_BUF struct buf out = {0};
    char *list[] = {"sinfo", "--noheader", "--Node", "--format=%N %t", NULL}, last[256] = "", name[256], state[64];
    struct platform_ports ports;
    int n = 0;
    if (!ask("15", list, &out))
        return;
    find_ports(d, &ports);
    for (char *save, *line = strtok_r(out.p, "\n", &save); line && n < MAX_NODES; line = strtok_r(NULL, "\n", &save))
        if (sscanf(line, "%255s %63s", name, state) == 2 && strcmp(name, last) != 0) { /* a line for each of its partitions */
            node(d, name, state, &ports);
            snprintf(last, sizeof last, "%s", name);
            n++;
        }
    free(ports.host);
}

/* Slurm refuses a job that names a feature which no node has. */
static void shards(struct doctor *d)
{
    const struct conf_shards *s = &d->conf->platform.slurm.shards;
    AUTO_BUF struct buf out = {0}, none = {0};
    char *list[] = {"sinfo", "--noheader", "--Node", "--format=%f", NULL};
    if (!s->count || !ask("15", list, &out))
        return;
    for (char *p = out.p; p && *p; p++) /* all names end so */
        *p = *p == '\n' ? ',' : *p;
    AUTO_FREE char *all = xasprintf(",%s,", out.p ? out.p : "");
    for (int64_t i = 0; i < s->count; i++) {
        AUTO_FREE char *name = xasprintf(",%s%lld,", s->feature, (long long)i);
        if (!strstr(all, name))
            buf_addf(&none, "%s%s%lld", none.n ? ", " : "", s->feature, (long long)i);
    }
    doctor_say(d, "slurm", "shards", none.n ? "failed" : "ok", none.n ? none.p : "each has a node",
               none.n ? "no node has these features: give them some in slurm.conf (`Feature=`); until then Slurm refuses jobs of "
                        "tenants whose shards they are"
                      : NULL);
}

void doctor_slurm(struct doctor *d)
{
    if (!conf_has_launcher(d->conf, LAUNCHER_slurm) || !controller(d))
        return;
    partitions(d);
    shards(d);
    fd_mkdirs(d->h.dirfd, "state/jobs", 0700);
    nodes(d);
}
