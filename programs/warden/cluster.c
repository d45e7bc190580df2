#include "cluster.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "manager/warden.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int start(struct cluster *c, const struct home *h)
{
    AUTO_FREE char *program = home_program(h, "simbdp-slurm");
    char *argv[] = {program, "--serve", "--home", h->path, NULL};
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    posix_spawn_file_actions_t fa;
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_addopen(&fa, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&fa, pair[1], 3);
    int r = spawn_start(argv, environ, &fa, POSIX_SPAWN_SETSIGDEF, &c->pid);
    close(pair[1]);
    if (r < 0) {
        close(pair[0]);
        log_error("launcher", NULL, NULL, "cannot start %s: %s; trying again", program, err_text(r));
        return r;
    }
    c->fd = pair[0];
    return 0;
}

static int hand_over(struct cluster *c, const struct home *h, const struct buf *text, const int *fds, size_t n_fds)
{
    int r = c->fd < 0 ? start(c, h) : 0;
    if (r == 0)
        r = fd_send(c->fd, text->p, text->n, fds, n_fds);
    if (r == -EPIPE) { /* it has just ended */
        close(fd_take(&c->fd));
        r = start(c, h);
        if (r == 0)
            r = fd_send(c->fd, text->p, text->n, fds, n_fds);
    }
    return r;
}

static void add_option(struct buf *b, const char *name, const char *value)
{
    if (*value)
        buf_addf(b, "--%s=%s\n", name, value);
}

/* For sbatch, one a line; conf_check_slurm lets none of the texts have a line's end. */
static void add_options(struct buf *b, const struct conf *c, const struct conf_profile *p)
{
    struct conf_pilot pilot = conf_pilot(p);
    bool own = !pilot.nodes;
    int64_t s = own ? conf_slurm_time_s(p) : pilot.time_s, memory = own ? conf_slurm_memory_bytes(p) : pilot.memory_bytes;
    add_option(b, "partition", p->slurm.partition);
    add_option(b, "account", p->slurm.account);
    add_option(b, "qos", p->slurm.qos);
    add_option(b, "constraint", p->slurm.constraint);
    if (s >= 0)
        buf_addf(b, "--time=%lld:%02lld\n", (long long)s / 60, (long long)s % 60);
    else
        buf_addf(b, "--time=UNLIMITED\n");
    buf_addf(b, "--cpus-per-task=%lld\n", (long long)(own ? conf_slurm_cpus(p) : pilot.cpus));
    buf_addf(b, "--mem=%lldM\n", (long long)((memory + (1 << 20) - 1) >> 20));
    if (!own)
        buf_addf(b, WARDEN_PILOT "%s %lld %lld %lld %lld %lld %s %lld\n", p->name, (long long)pilot.nodes, (long long)pilot.runs,
                 (long long)p->slurm.pilot.idle_s, (long long)pilot.needs_s, (long long)pilot.time_s, c->platform.slurm.listen,
                 (long long)c->platform.slurm.port);
}

/* Behind the profile's constraint, in whose place sbatch takes it. */
static void add_shards(struct buf *b, const struct conf *c, const struct conf_profile *p, const char *tenant)
{
    AUTO_FREE char *constraint = conf_shards_constraint(c, p, tenant);
    if (constraint)
        add_option(b, "constraint", constraint);
}

int cluster_run(struct cluster *c, const struct home *h, struct run_spec *spec, const struct conf *conf,
                const struct conf_profile *p, int conn)
{
    AUTO_BUF struct buf text = {0}, options = {0};
    AUTO_FD int file = memfd_create("run-spec", MFD_CLOEXEC);
    spec->cluster = true;
    free(spec->runtime);
    spec->runtime = xasprintf("%s/mysimbdp-node-%s", geteuid() == 0 ? "/run" : "/tmp", h->tag);
    run_spec_write(spec, &text);
    buf_adds(&options, "r");
    add_options(&options, conf, p);
    add_shards(&options, conf, p, spec->tenant);
    int r = file < 0 ? -errno : fd_write_all(file, text.p, text.n);
    return r < 0 ? r : hand_over(c, h, &options, (int[]){file, conn}, 2);
}

int cluster_attach(struct cluster *c, const struct home *h, const char *claim, int conn)
{
    AUTO_BUF struct buf text = {0};
    buf_addf(&text, "a%s", claim);
    return hand_over(c, h, &text, &conn, 1);
}

bool cluster_ended(struct cluster *c, pid_t pid)
{
    if (!c->pid || pid != c->pid)
        return false;
    log_warn("launcher_gone", NULL, NULL, "the launcher of jobs ended; there will be another, jobs go on");
    c->pid = 0;
    if (c->fd >= 0)
        close(fd_take(&c->fd));
    return true;
}

void cluster_stop(struct cluster *c)
{
    if (c->fd >= 0)
        close(fd_take(&c->fd));
    while (c->pid > 0 && waitpid(c->pid, NULL, 0) < 0 && errno == EINTR) {
    }
    c->pid = 0;
}
