#include "alone.h"

#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LOG_BYTES = 65536 };

void run_alone_spec(struct run_spec *s, const struct home *h, const char *run_id, const char *tenant, const char *name,
                    const char *dir, int64_t uid)
{
    AUTO_FREE char *app = xasprintf("%s/app", dir);
    *s = (struct run_spec){.run_id = xstrdup(run_id),
                           .step = RUN_STEP_app,
                           .tenant = xstrdup(tenant),
                           .app = xstrdup(name),
                           .home = xstrdup(h->path),
                           .dir = xstrdup(dir),
                           .runtime = xstrdup(h->runtime),
                           .claim = xstrdup(run_id),
                           .tag = xstrdup(h->tag),
                           .image = xstrdup(""),
                           .version = xstrdup(""),
                           .uid = uid,
                           .gid = uid,
                           .relay_uid = -1,
                           .tmp_bytes = -1,
                           .tmp_inodes = -1,
                           .scratch_bytes = -1,
                           .scratch_inodes = -1,
                           .stdin_path = xstrdup(""),
                           .output = RUN_OUTPUT_none,
                           .wall_s = -1,
                           .grace_s = 1,
                           .output_bytes = LOG_BYTES,
                           .cpu_s = -1,
                           .as_bytes = -1,
                           .nofile = 256,
                           .nproc = -1,
                           .fsize_bytes = -1,
                           .core_bytes = 0,
                           .stack_bytes = 8 << 20,
                           .cg_cpu_pct = 100,
                           .cg_memory_bytes = -1,
                           .cg_pids = 64};
    run_pairs_add(&s->env, "PATH", "/usr/bin:/bin");
    run_pairs_add(&s->env, "HOME", app);
    run_pairs_add(&s->paths, dir, "r");
    run_pairs_add(&s->paths, app, "rwx");
}

void run_alone_add_arg(struct run_spec *s, const char *arg)
{
    s->args.v = xrealloc(s->args.v, (s->args.n + 1) * sizeof *s->args.v);
    s->args.v[s->args.n++] = xstrdup(arg);
}

static int run_spec_file(const struct home *h, const struct run_spec *s, int dirfd, struct err *e)
{
    AUTO_FREE char *parent = xstrdup(s->dir);
    *strrchr(parent, '/') = 0;
    AUTO_FREE char *path = xasprintf("%s/spec.json", parent), *program = home_program(h, "simbdp-run");
    AUTO_BUF struct buf text = {0};
    char *argv[] = {program, path, NULL};
    int status;
    run_spec_write(s, &text);
    int r = fd_write_file(dirfd, "spec.json", text.p, text.n, 0600, e);
    if (r < 0)
        return r;
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        dup2(2, 1);
        execv(program, argv);
        _exit(127);
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return pid < 0 ? err_sys(e, -errno, "cannot fork") : 0;
}

/* Where the last `lines` lines begin. */
static const char *last_lines(const struct buf *b, int lines)
{
    const char *from = b->p + b->n;
    while (from > b->p && (from[-1] != '\n' || --lines > 0))
        from--;
    return from;
}

/* Control and non-ASCII characters are masked, since a terminal may show it. */
static char *last_words(int dirfd, const char *dir, int lines)
{
    AUTO_BUF struct buf b = {0};
    AUTO_FREE char *path = xasprintf("%s/log", dir);
    if (fd_read_file(dirfd, path, &b, 2 * LOG_BYTES, NULL) < 0 || !b.p)
        return xstrdup("it left no log");
    while (b.n && b.p[b.n - 1] == '\n')
        b.p[--b.n] = 0;
    const char *from = last_lines(&b, lines);
    char *text = xstrdup(from + strcspn(from, "abcdefghijklmnopqrstuvwxyz"));
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < ' ' || (unsigned char)*p > '~')
            *p = *p == '\n' ? '|' : '?';
    return text;
}

int run_alone(const struct home *h, const struct run_spec *s, int dirfd, int lines, struct run_result *ret, char **ret_last_words,
              struct err *e)
{
    AUTO_BUF struct buf result = {0};
    const char *dir = strrchr(s->dir, '/') + 1;
    AUTO_FREE char *path = xasprintf("%s/result.json", dir);
    int r = run_spec_file(h, s, dirfd, e);
    if (r == 0)
        r = fd_read_file(dirfd, path, &result, RUN_MAX_RESULT_BYTES, e);
    if (r == 0)
        r = run_result_parse(result.p, result.n, ret, e);
    *ret_last_words = r == 0 ? last_words(dirfd, dir, lines) : NULL;
    return r;
}
