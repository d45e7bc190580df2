#include "build.h"

#include "base/beneath.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/privs.h"
#include "base/spawn.h"
#include "db/tenants.h"
#include "host/uid_block.h"
#include "manager/plan.h"
#include "run/alone.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum { MEMORY_BYTES = 512 << 20, PIP_MEMORY_BYTES = 1 << 30, TMP_BYTES = 256 << 20, TMP_INODES = 20000, PIP_LINES = 20 };

/* ---- either ---- */

static void limit(const struct build *b, struct run_spec *s, int64_t memory_bytes)
{
    s->builtin = true;
    s->full_isolation = b->isolation->full;
    s->tmp_bytes = TMP_BYTES;
    s->tmp_inodes = TMP_INODES;
    s->scratch_bytes = b->tenant->max_app_bytes * 2; /* blocks are larger than what is in them; the copy is what counts */
    s->scratch_inodes = b->tenant->max_app_files + 100;
    s->wall_s = b->tenant->max_app_build_s;
    s->cg_memory_bytes = memory_bytes;
}

static int judge(const struct build *b, const struct run_result *res, const char *said, const char *reason, const char *what,
                 struct err *e)
{
    const struct conf_tenant *t = b->tenant;
    if (res->outcome == RUN_ok)
        return 0;
    if (res->not_started || res->outcome == RUN_exec_error || res->outcome == RUN_lost)
        return err_set(e, -EIO, "%s could not be started: %s", what, res->error ? res->error : run_outcome_name(res->outcome));
    if (res->limit == RUN_LIMIT_scratch_bytes)
        return err_refuse(e, "max_app_bytes", 0, "unpacked it has more than max_app_bytes = %lld", (long long)t->max_app_bytes);
    if (res->limit == RUN_LIMIT_scratch_inodes)
        return err_refuse(e, "max_app_files", 0, "it has more than max_app_files = %lld", (long long)t->max_app_files);
    if (res->outcome == RUN_timeout)
        return err_refuse(e, "max_app_build_s", 0, "%s took more than max_app_build_s = %lld", what, (long long)t->max_app_build_s);
    if (res->outcome == RUN_oom)
        return err_refuse(e, reason, 0, "%s took more memory than the platform gives for that", what);
    return err_refuse(e, reason, 0, "%s: %s", what, said);
}

static int go(const struct build *b, const struct run_spec *s, int lines, const char *reason, const char *what, struct err *e)
{
    struct run_result res;
    AUTO_FREE char *said = NULL;
    int r = run_alone(b->home, s, b->dir, lines, &res, &said, e);
    if (r < 0)
        return r;
    r = judge(b, &res, said, reason, what, e);
    run_result_free(&res);
    return r;
}

/* ---- archives ---- */

int build_unpack(const struct build *b, struct err *e)
{
    struct run_spec s;
    int64_t uid = uid_of_program(b->home, b->conf->platform.uid_base, UID_BUILDER);
    AUTO_FREE char *dir = xasprintf("%s/unpack", b->path), *upload = xasprintf("%s/upload", b->path);
    AUTO_FREE char *bytes = xasprintf("%lld", (long long)b->tenant->max_app_bytes),
                   *files = xasprintf("%lld", (long long)b->tenant->max_app_files);
    run_alone_spec(&s, b->home, b->id, b->tenant->id, "unpack", dir, uid);
    limit(b, &s, MEMORY_BYTES);
    s.exec = home_program(b->home, "simbdp-unpack");
    s.own_network = s.full_isolation;
    s.relay = home_program(b->home, "simbdp-relay");
    s.relay_uid = privs_is_root() ? uid_in_block(b->conf->platform.uid_base, UID_RELAY) : -1;
    run_alone_add_arg(&s, upload);
    run_alone_add_arg(&s, bytes);
    run_alone_add_arg(&s, files);
    run_pairs_add(&s.paths, upload, "r");
    int r = go(b, &s, 1, "archive", "unpacking it", e);
    run_spec_free(&s);
    if (r < 0)
        return r;
    crash_at(CRASH_app_unpacked);
    int fd = beneath_open(b->dir, "unpack/app/root", O_RDONLY | O_DIRECTORY, 0);
    return fd < 0 ? err_sys(e, fd, "what was unpacked cannot be opened") : fd;
}

/* ---- Python ---- */

static int uid_of_tenant(const struct build *b, int64_t *ret, struct err *e)
{
    struct tenant_state *v;
    size_t n;
    *ret = -1;
    if (!home_is_roots(b->home))
        return 0;
    int r = tenant_states(b->home, &v, &n, e);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++)
        if (!strcmp(v[i].id, b->tenant->id) && !v[i].removed)
            *ret = v[i].uid;
    tenant_states_free(v, n);
    return *ret >= 0 ? 0 : err_set(e, -EAGAIN, "the tenant has no uid yet");
}

/* Paths in the list are meant from where it lies, and that is not to be written. */
static void add_pip(const char *tree_path, struct run_spec *s)
{
    static const char script[] = "cd \"$1\" && exec /usr/bin/python3 -I -m pip install --no-input --no-cache-dir --no-compile "
                                 "--disable-pip-version-check --no-warn-script-location --quiet --target \"$HOME/root\" "
                                 "-r requirements.txt";
    run_alone_add_arg(s, "-c");
    run_alone_add_arg(s, script);
    run_alone_add_arg(s, "sh");
    run_alone_add_arg(s, tree_path);
    run_pairs_add(&s->paths, tree_path, "r");
}

int build_python(const struct build *b, const char *tree_path, struct err *e)
{
    struct run_spec s;
    AUTO_FREE char *dir = xasprintf("%s/python", b->path), *id = xasprintf("%s-python", b->id);
    int64_t uid;
    int r = uid_of_tenant(b, &uid, e);
    if (r < 0)
        return r;
    run_alone_spec(&s, b->home, id, b->tenant->id, "python", dir, uid);
    limit(b, &s, PIP_MEMORY_BYTES);
    s.exec = xstrdup("/bin/sh");
    s.builtin = false;
    plan_network(&s, &(struct plan_host){b->home, b->isolation, b->conf->platform.uid_base}, b->profile, "");
    add_pip(tree_path, &s);
    r = go(b, &s, PIP_LINES, "requirements", "pip, which installs its requirements.txt", e);
    run_spec_free(&s);
    if (r < 0)
        return r;
    int fd = beneath_open(b->dir, "python/app/root", O_RDONLY | O_DIRECTORY, 0);
    return fd == -ENOENT ? beneath_open(b->dir, "python/app", O_RDONLY | O_DIRECTORY, 0) /* it named nothing */
           : fd < 0      ? err_sys(e, fd, "what was installed cannot be opened")
                         : fd;
}
