#include "helper.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

struct helper {
    struct batchmgr *mgr;
    struct job *job;
    char *tenant;
    helper_done_fn done;
    void *arg;
};

static void finish(struct helper *h, enum helper_end end)
{
    helper_done_fn done = h->done;
    void *arg = h->arg;
    map_remove(&h->mgr->helpers, h->tenant);
    free(h->tenant);
    free(h);
    if (done)
        done(arg, end);
}

static void on_ended(void *arg, int status)
{
    finish(arg, status >= 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? HELPER_DONE : HELPER_FAILED);
}

bool helper_start(struct batchmgr *m, const struct tenant *t, const char *job, helper_done_fn done, void *arg)
{
    if (map_get(&m->helpers, t->id) || !t->mongo_url || !*t->mongo_url)
        return false;
    AUTO_FD int in = memfd_create("job", MFD_CLOEXEC);
    int r = in < 0 ? -errno : fd_write_all(in, job, strlen(job));
    if (r == 0 && lseek(in, 0, SEEK_SET) < 0)
        r = -errno;
    struct helper *h = xmalloc(sizeof *h);
    *h = (struct helper){m, NULL, xstrdup(t->id), done, arg};
    map_put(&m->helpers, t->id, h);
    if (r == 0)
        h->job = job_start(m->spawner, WARDEN_DELETE, t->id, t->mongo_url, in, on_ended, h);
    if (h->job)
        return true;
    log_error("helper", t->id, NULL, "cannot start simbdp-load%s%s; trying again", r < 0 ? ": " : "", r < 0 ? err_text(r) : "");
    h->done = NULL;
    finish(h, HELPER_FAILED);
    return false;
}

void helper_stop(struct batchmgr *m)
{
    for (;;) {
        size_t i = 0;
        struct helper *h = map_next(&m->helpers, &i);
        if (!h)
            break;
        job_free(h->job);
        finish(h, HELPER_STOPPED);
    }
    map_fini(&m->helpers);
}
