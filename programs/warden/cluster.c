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

/* For sbatch, one a line; conf_check_slurm lets none of the texts have a line's end. An instance runs until it is told to go, so it
 * has a time limit only where one is configured, and no pilot. */
static void add_options(struct buf *b, const struct conf *c, const struct conf_profile *p, bool instance)
{
    struct conf_pilot pilot = conf_pilot(p);
    bool own = instance || !pilot.nodes;
    int64_t s = instance ? p->slurm.time_s : own ? conf_slurm_time_s(p) : pilot.time_s;
    int64_t memory = own ? conf_slurm_memory_bytes(p) : pilot.memory_bytes;
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

/* ---- broker and monitor ---- */

/* The public one of keys/<program>.curve; false: it has not been made yet. */
static bool server_key(const struct home *h, const char *program, char ret[41])
{
    AUTO_BUF struct buf b = {0};
    AUTO_FREE char *path = xasprintf("keys/%s.curve", program);
    bool read = fd_read_file(h->dirfd, path, &b, 256, NULL) == 0 && b.n > 41 && b.p[40] == '\n';
    if (read) {
        memcpy(ret, b.p, 40);
        ret[40] = 0;
    }
    if (b.n)
        explicit_bzero(b.p, b.n); /* the secret one follows */
    return read;
}

/* On the platform's machine the environment has a local socket there, which no node reaches. That stays where it listens nowhere
 * else. */
static void lead_to(struct run_spec *s, const struct home *h, const char *program, const char *address, int64_t port,
                    const char *name, const char *key_name)
{
    char key[41], text[16];
    if (!port)
        port = home_kept_port(h, program);
    if (!run_pairs_get(&s->env, name) || !port || !server_key(h, program, key))
        return;
    AUTO_FREE char *endpoint = xasprintf(strchr(address, ':') ? "tcp://[%s]:%lld" : "tcp://%s:%lld", address, (long long)port);
    snprintf(text, sizeof text, "%lld", (long long)port);
    run_pairs_set(&s->env, name, endpoint);
    run_pairs_set(&s->env, key_name, key);
    if (s->own_network)
        run_pairs_add(&s->targets, address, text);
}

/* Its launcher makes the keys that go with that (programs/slurm/job_key.c). */
static void lead_to_platform(struct run_spec *s, const struct home *h, const struct conf *c)
{
    AUTO_FREE char *address = conf_listen_for_nodes(c);
    if (!*address)
        return;
    lead_to(s, h, "broker", address, c->platform.ports.broker, "ZMQ_STREAM_ENDPOINT", "SIMBDP_CURVE_SERVER_KEY");
    lead_to(s, h, "monitor", address, c->platform.ports.monitor, "ZMQ_MONITOR_ENDPOINT", "SIMBDP_MONITOR_SERVER_KEY");
}

/* Directories of this machine's sockets are nothing to a node. */
static void drop_path(struct run_spec *s, const char *path)
{
    for (size_t i = 0; i < s->paths.n; i++)
        if (!strcmp(s->paths.v[i].name, path)) {
            free(s->paths.v[i].name);
            free(s->paths.v[i].value);
            memmove(&s->paths.v[i], &s->paths.v[i + 1], (--s->paths.n - i) * sizeof *s->paths.v);
            return;
        }
}

int cluster_run(struct cluster *c, const struct home *h, struct run_spec *spec, const struct conf *conf,
                const struct conf_profile *p, bool instance, int conn)
{
    AUTO_BUF struct buf text = {0}, options = {0};
    AUTO_FD int file = memfd_create("run-spec", MFD_CLOEXEC);
    spec->cluster = true;
    free(spec->runtime);
    spec->runtime = xasprintf("%s/mysimbdp-node-%s", geteuid() == 0 ? "/run" : "/tmp", h->tag);
    drop_path(spec, h->runtime);
    lead_to_platform(spec, h, conf);
    run_spec_write(spec, &text);
    buf_adds(&options, "r");
    add_options(&options, conf, p, instance);
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
