#include "plan.h"
#include "app_env.h"

#include "base/mem.h"
#include "host/app_version.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void plan_limits(struct run_spec *s, const struct conf_profile *p)
{
    s->wall_s = p->wall_s;
    s->grace_s = p->grace_s;
    s->output_bytes = p->output_bytes;
    s->cpu_s = p->rlimits.cpu_s;
    s->as_bytes = p->rlimits.as_bytes;
    s->nofile = p->rlimits.nofile;
    s->nproc = p->rlimits.nproc;
    s->fsize_bytes = p->rlimits.fsize_bytes;
    s->core_bytes = p->rlimits.core_bytes;
    s->stack_bytes = p->rlimits.stack_bytes;
    s->cg_cpu_pct = p->cgroup.cpu_pct;
    s->cg_memory_bytes = p->cgroup.memory_bytes;
    s->cg_pids = p->cgroup.pids;
}

void plan_arg(struct run_spec *s, const char *arg)
{
    s->args.v = xrealloc(s->args.v, (s->args.n + 1) * sizeof *s->args.v);
    s->args.v[s->args.n++] = xstrdup(arg);
}

void plan_secrets(struct run_spec *s, const struct home *h, const char *tenant, const struct cfg_list *secrets)
{
    const struct conf_secret *v = secrets->v;
    AUTO_FREE char *dir = xasprintf("%s/secrets", s->dir);
    for (size_t i = 0; i < secrets->n; i++) {
        AUTO_FREE char *path = home_secret(h, tenant, v[i].file);
        run_pairs_add(&s->secrets, v[i].name, path);
    }
    if (secrets->n)
        app_env_add(s, "SIMBDP_SECRETS_DIR", dir);
}

void plan_builtin(struct run_spec *s, const struct home *h)
{
    s->builtin = true;
    s->as_bytes = -1; /* the cgroup holds the loader; an address space limit would hit its sanitizers */
    plan_arg(s, "--home");
    plan_arg(s, h->path);
    app_env_add_builtin(s);
}

void plan_path(struct run_spec *s, const char *path, const char *mode)
{
    if (s->full_isolation)
        run_pairs_add(&s->paths, path, mode);
}

void plan_checker(struct run_spec *s, const struct home *h, const struct conf_stream_app *c)
{
    AUTO_FREE char *path = plan_exec(h, s->tenant, s->app, s->version, c->checker);
    AUTO_FREE char *seconds = xasprintf("%lld", (long long)c->checker_s);
    if (!*c->checker)
        return;
    plan_arg(s, "--checker");
    plan_arg(s, path);
    plan_arg(s, "--checker-s");
    plan_arg(s, seconds);
}

static void plan_mounts(struct run_spec *s, const struct conf_profile *p)
{
    for (size_t i = 0; i < p->mounts.n; i++) {
        const char *m = p->mounts.v[i];
        bool writable = conf_mount_is_writable(m);
        AUTO_FREE char *path = xstrndup(m, strlen(m) - (writable ? strlen(CONF_WRITABLE) : 0));
        plan_path(s, path, writable ? "prwx" : "prx");
    }
}

/* An executable outside the home may lie where isolated runs see something else. */
static bool is_hidden(const char *path)
{
    static const char *const hidden[] = {"/tmp/", "/var/tmp/", "/run/", "/dev/", "/sys/"};
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++)
        if (!strncmp(path, hidden[i], strlen(hidden[i])))
            return true;
    return false;
}

void plan_checker_path(struct run_spec *s, const struct home *h, const struct conf_stream_app *c)
{
    AUTO_FREE char *path = plan_exec(h, s->tenant, s->app, s->version, c->checker),
                   *apps = xasprintf("%s/apps/%s/", h->path, s->tenant);
    if (*c->checker && is_hidden(path) && strncmp(path, apps, strlen(apps)) != 0)
        plan_path(s, path, "prx");
}

void plan_isolation(struct run_spec *s, const struct plan_host *h, const struct conf_profile *p, const char *mongo_url)
{
    AUTO_FREE char *run = xasprintf("%s/runs/%s", h->home->path, s->run_id);
    AUTO_FREE char *app = xasprintf("%s/app", s->dir);
    AUTO_FREE char *apps = xasprintf("%s/apps/%s", h->home->path, s->tenant);
    AUTO_FREE char *tools = home_path(h->home, HOME_TOOLS);
    s->full_isolation = h->isolation->full && p->isolation == ISOLATION_full;
    plan_mounts(s, p);
    plan_path(s, run, "r");
    plan_path(s, app, "rwx");
    plan_path(s, apps, "rx");
    plan_path(s, tools, "rx");
    plan_path(s, h->home->runtime, "r");
    if (!s->image && !s->builtin && is_hidden(s->exec) && strncmp(s->exec, apps, strlen(apps)) != 0)
        plan_path(s, s->exec, "prx");
    s->tmp_bytes = p->tmp_bytes;
    s->tmp_inodes = p->tmp_inodes;
    s->scratch_bytes = p->scratch_bytes;
    s->scratch_inodes = p->scratch_inodes;
    s->scratch_in_memory = s->full_isolation && p->scratch == SCRATCH_memory;
    plan_network(s, h, p, mongo_url);
}

char *plan_exec(const struct home *h, const char *tenant, const char *app, const char *version, const char *exec)
{
    if (!strcmp(exec, BUILTIN_LOAD))
        return home_program(h, "simbdp-load");
    if (!strcmp(exec, BUILTIN_PIPE))
        return home_path(h, HOME_TOOLS "/simbdp-pipe");
    return app_version_exec(h, tenant, app, version, exec);
}

char *plan_active_exec(const struct home *h, const char *tenant, const char *app, const char *exec)
{
    char version[APP_VERSION_SIZE];
    app_version_active(h, tenant, app, version);
    return plan_exec(h, tenant, app, version, exec);
}

int64_t plan_identity(const struct stat *st)
{
    return (int64_t)st->st_ino ^ ((int64_t)st->st_size << 20) ^ st->st_mtim.tv_sec ^ ((int64_t)st->st_mtim.tv_nsec << 12) ^
           ((int64_t)st->st_mode << 40) ^ st->st_ctim.tv_nsec;
}

int64_t plan_exec_identity(const char *path)
{
    struct stat st;
    return stat(path, &st) < 0 ? 0 : plan_identity(&st);
}
