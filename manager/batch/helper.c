#include "helper.h"

#include "common/fd.h"
#include "common/ids.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

struct helper {
    pid_t pid;
    char *tenant;
    helper_done_fn done;
    void *arg;
};

static void finish(struct batchmgr *m, struct helper *h)
{
    map_remove(&m->helpers, h->tenant);
    free(h->tenant);
    free(h);
}

/* The job is its stdin, where it can be read by a user that reaches nothing of the home. */
static int spawn(struct batchmgr *m, const struct tenant *t, const char *job, pid_t *pid)
{
    AUTO_FREE char *program = home_program(&m->home, "simbdp-load");
    AUTO_FREE char *log = home_path(&m->home, "logs/batchmgr.log");
    AUTO_FREE char *url_env = xasprintf("MONGO_URL=%s", t->mongo_url);
    AUTO_FREE char *uid = xasprintf("%lld", (long long)ids_of_program(&m->home, m->conf->platform.uid_base, IDS_HELPER));
    char *argv[] = {program, "--home", m->home.path, "--uid", uid, NULL};
    char *envp[8] = {"SIMBDP_LOAD_JOB=/dev/stdin", url_env, "MONGOC_DISABLE_SHM=1", "PATH=/usr/bin:/bin"};
    size_t n = 4;
    static const char *const kept[] = {"ASAN_OPTIONS", "LSAN_OPTIONS"};
    char *copies[2] = {NULL, NULL};
    AUTO_FD int in = memfd_create("job", MFD_CLOEXEC);
    int r = in < 0 ? -errno : fd_write_all(in, job, strlen(job));
    if (r < 0)
        return r;
    for (size_t i = 0; i < 2; i++)
        if (getenv(kept[i]))
            envp[n++] = copies[i] = xasprintf("%s=%s", kept[i], getenv(kept[i]));
    posix_spawn_file_actions_t fa;
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_adddup2(&fa, in, 0);
    posix_spawn_file_actions_addopen(&fa, 1, log, O_WRONLY | O_CREAT | O_APPEND, 0640);
    posix_spawn_file_actions_adddup2(&fa, 1, 2);
    r = spawn_start(argv, envp, &fa, 0, pid);
    free(copies[0]);
    free(copies[1]);
    return r;
}

bool helper_start(struct batchmgr *m, const struct tenant *t, const char *job, helper_done_fn done, void *arg)
{
    if (map_get(&m->helpers, t->id) || !t->mongo_url || !*t->mongo_url)
        return false;
    struct helper *h = xmalloc(sizeof *h);
    *h = (struct helper){0, xstrdup(t->id), done, arg};
    map_put(&m->helpers, t->id, h);
    int r = spawn(m, t, job, &h->pid);
    if (r == 0)
        return true;
    log_error("helper", t->id, NULL, "cannot start simbdp-load: %s; trying again", err_text(r));
    finish(m, h);
    return false;
}

bool helper_reaped(struct batchmgr *m, int pid, int status)
{
    size_t i = 0;
    for (struct helper *h; (h = map_next(&m->helpers, &i));)
        if (h->pid == pid) {
            helper_done_fn done = h->done;
            void *arg = h->arg;
            finish(m, h);
            done(arg, WIFEXITED(status) && WEXITSTATUS(status) == 0 ? HELPER_DONE : HELPER_FAILED);
            return true;
        }
    return false;
}

void helper_stop(struct batchmgr *m)
{
    for (;;) {
        size_t i = 0;
        struct helper *h = map_next(&m->helpers, &i);
        if (!h)
            break;
        kill(h->pid, SIGKILL); /* our child, not reaped yet: the pid is its own */
        waitpid(h->pid, NULL, 0);
        helper_done_fn done = h->done;
        void *arg = h->arg;
        finish(m, h);
        done(arg, HELPER_STOPPED);
    }
    map_fini(&m->helpers);
}
