#include "deletions.h"
#include "manager/spawner.h"
#include "state.h"
#include "tenants.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

struct deletions {
    struct map going; /* tenant -> struct deletion */
};

struct deletion {
    struct batchmgr *mgr;
    struct job *job;
    char *tenant;
    deletion_done_fn done;
    void *arg;
};

static void finish(struct deletion *h, enum deletion_end end)
{
    deletion_done_fn done = h->done;
    void *arg = h->arg;
    map_remove(&h->mgr->deletions->going, h->tenant);
    free(h->tenant);
    free(h);
    if (done)
        done(arg, end);
}

static void on_ended(void *arg, int status)
{
    finish(arg, status >= 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? DELETION_DONE : DELETION_FAILED);
}

bool deletions_begin(struct batchmgr *m, const struct tenant *t, const char *job, deletion_done_fn done, void *arg)
{
    if (map_get(&m->deletions->going, t->id) || !t->mongo_url || !*t->mongo_url)
        return false;
    AUTO_FD int in = memfd_create("job", MFD_CLOEXEC);
    int r = in < 0 ? -errno : fd_write_all(in, job, strlen(job));
    if (r == 0 && lseek(in, 0, SEEK_SET) < 0)
        r = -errno;
    struct deletion *h = xmalloc(sizeof *h);
    *h = (struct deletion){m, NULL, xstrdup(t->id), done, arg};
    map_put(&m->deletions->going, t->id, h);
    if (r == 0)
        h->job = job_start(m->spawner, WARDEN_DELETE, t->id, t->mongo_url, in, on_ended, h);
    if (h->job)
        return true;
    log_error("deletion", t->id, NULL, "cannot start simbdp-load%s%s; trying again", r < 0 ? ": " : "", r < 0 ? err_text(r) : "");
    h->done = NULL;
    finish(h, DELETION_FAILED);
    return false;
}

bool deletions_are_going(const struct batchmgr *m, const char *tenant)
{
    return map_get(&m->deletions->going, tenant) != NULL;
}

void deletions_start(struct batchmgr *m)
{
    m->deletions = xcalloc(1, sizeof *m->deletions);
}

void deletions_stop(struct batchmgr *m)
{
    if (!m->deletions)
        return;
    size_t i = 0;
    for (struct deletion *h; (h = map_next(&m->deletions->going, &i));) {
        job_free(h->job);
        finish(h, DELETION_STOPPED);
    }
    map_fini(&m->deletions->going);
    free(m->deletions);
    m->deletions = NULL;
}
