/* runs/.scrap and staging/.scrap, 0700: what is in them is to be removed; the second is for what lies where runs/ is another mount
 * (lib/sandbox/manager_sandbox.h). Directories come in by rename, so that a crash loses none of them and no
 * process of the tenant's gets at them by name any more.
 *
 * A run whose manager died between its end and the rename is found by its result.json: that is written when everything was taken.
 */
#include "scrap.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NICER = 10 };

struct scrap {
    int runs, bins[2]; /* runs/, and in it and in staging/ */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool wanted, running;
    atomic_bool ending;
    atomic_uint n; /* makes names */
};

static bool move_to(struct scrap *s, int bin, int dirfd, const char *path)
{
    char name[48];
    do
        snprintf(name, sizeof name, "%d-%u", (int)getpid(), atomic_fetch_add(&s->n, 1));
    while (fd_exists(bin, name)); /* a name left by an earlier process with this pid */
    return renameat(dirfd, path, bin, name) == 0;
}

static bool move(struct scrap *s, int dirfd, const char *path)
{
    return move_to(s, s->bins[0], dirfd, path) || (errno == EXDEV && s->bins[1] >= 0 && move_to(s, s->bins[1], dirfd, path));
}

/* Removes until nothing is left, or nothing more can be removed. */
static void empty(struct scrap *s)
{
    for (size_t i = 0; i < 2 && s->bins[i] >= 0; i++) {
        int r = fd_empty_dir(s->bins[i], &s->ending);
        if (r < 0 && !s->ending)
            log_warn("scrap", NULL, NULL, "something below %s/.scrap cannot be removed: %s", i ? "staging" : "runs", err_text(r));
    }
}

/* Of a run that has a result: its scratch is not needed any more, whatever became of its manager. */
static void take_settled(struct scrap *s, const char *dir)
{
    AUTO_FREE char *result = xasprintf("%s/result.json", dir), *app = xasprintf("%s/app", dir);
    if (fd_exists(s->runs, result))
        move(s, s->runs, app);
}

static void find_left(struct scrap *s)
{
    DIR *d = fd_open_dir(s->runs, ".");
    for (struct dirent *ent; d && !s->ending && (ent = readdir(d));)
        if (home_valid_id(ent->d_name)) {
            AUTO_FREE char *load = xasprintf("%s/load", ent->d_name);
            take_settled(s, ent->d_name);
            take_settled(s, load);
        }
    if (d)
        closedir(d);
}

static void *work(void *arg)
{
    struct scrap *s = arg;
    setpriority(PRIO_PROCESS, (id_t)gettid(), NICER);
    find_left(s);
    while (!s->ending) {
        empty(s);
        pthread_mutex_lock(&s->lock);
        while (!s->wanted && !s->ending)
            pthread_cond_wait(&s->cond, &s->lock);
        s->wanted = false;
        pthread_mutex_unlock(&s->lock);
    }
    return NULL;
}

static void wake(struct scrap *s)
{
    pthread_mutex_lock(&s->lock);
    s->wanted = true;
    pthread_cond_signal(&s->cond);
    pthread_mutex_unlock(&s->lock);
}

static int open_bin(int dir)
{
    if (dir >= 0)
        mkdirat(dir, ".scrap", 0700);
    AUTO_FD int bin = dir < 0 ? -1 : openat(dir, ".scrap", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return bin >= 0 && faccessat(bin, ".", W_OK, AT_EACCESS) == 0 ? fd_take(&bin) : -1; /* to streammgr staging/ is read-only */
}

struct scrap *scrap_new(const struct home *h)
{
    struct scrap *s = xcalloc(1, sizeof *s);
    s->runs = openat(h->dirfd, "runs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);                /* lint: ours */
    AUTO_FD int staging = openat(h->dirfd, "staging", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* lint: ours */
    s->bins[0] = open_bin(s->runs);
    s->bins[1] = open_bin(staging);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->cond, NULL);
    s->running = s->bins[0] >= 0 && pthread_create(&s->thread, NULL, work, s) == 0;
    if (!s->running)
        log_warn("scrap", NULL, NULL, "runs/.scrap cannot be used: scratch of runs stays until logs_days");
    return s;
}

void scrap_free(struct scrap *s)
{
    if (!s)
        return;
    s->ending = true;
    wake(s);
    if (s->running)
        pthread_join(s->thread, NULL);
    pthread_cond_destroy(&s->cond);
    pthread_mutex_destroy(&s->lock);
    for (size_t i = 0; i < 2; i++)
        if (s->bins[i] >= 0)
            close(s->bins[i]);
    if (s->runs >= 0)
        close(s->runs);
    free(s);
}

void scrap_take(struct scrap *s, const char *dir)
{
    AUTO_FREE char *app = xasprintf("%s/app", dir);
    if (s->running && unlinkat(AT_FDCWD, app, AT_REMOVEDIR) < 0 && errno != ENOENT)
        scrap_put(s, AT_FDCWD, app);
}

bool scrap_put(struct scrap *s, int dirfd, const char *path)
{
    if (!s->running || !move(s, dirfd, path))
        return false;
    wake(s);
    return true;
}
