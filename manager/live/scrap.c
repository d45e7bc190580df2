/* runs/.scrap, 0700: what is in it is to be removed. Directories come in by rename, so that a crash loses none of them and no
 * process of the tenant's gets at them by name any more. A directory below one of them is renamed into .scrap itself before its
 * parent goes: trees of any depth cost two descriptors and no stack.
 *
 * A run whose manager died between its end and the rename is found by its result.json: that is written when everything was taken.
 */
#include "scrap.h"

#include "common/fd.h"
#include "common/log.h"
#include "common/mem.h"

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
    int runs, bin; /* runs/ and runs/.scrap */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool wanted, running;
    atomic_bool ending;
    atomic_uint n; /* makes names */
};

static bool move(struct scrap *s, int dirfd, const char *path)
{
    char name[48];
    do
        snprintf(name, sizeof name, "%d-%u", (int)getpid(), atomic_fetch_add(&s->n, 1));
    while (faccessat(s->bin, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0); /* of an earlier process of this number */
    return renameat(dirfd, path, s->bin, name) == 0;
}

static bool is_dot(const char *name)
{
    return !strcmp(name, ".") || !strcmp(name, "..");
}

/* A directory of ours that its owner closed to himself; root needs none of it. */
static void unlock(int dirfd, const char *name)
{
    if (geteuid() != 0 && fchmodat(dirfd, name, 0700, 0) < 0)
        log_debug("scrap", NULL, NULL, "%s: %s", name, strerror(errno));
}

/* Removes one entry of .scrap, apart from directories in it, which come to lie beside it. */
static bool remove_one(struct scrap *s, const char *name)
{
    if (unlinkat(s->bin, name, 0) == 0 || unlinkat(s->bin, name, AT_REMOVEDIR) == 0)
        return true;
    unlock(s->bin, name);
    int fd = openat(s->bin, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    for (struct dirent *ent; !s->ending && (ent = readdir(d));)
        if (!is_dot(ent->d_name) && unlinkat(fd, ent->d_name, 0) < 0 && unlinkat(fd, ent->d_name, AT_REMOVEDIR) < 0) {
            unlock(fd, ent->d_name);
            move(s, fd, ent->d_name);
        }
    closedir(d);
    return unlinkat(s->bin, name, AT_REMOVEDIR) == 0;
}

/* Until nothing is there, or nothing of it can be removed. */
static void empty(struct scrap *s)
{
    for (bool progress = true; progress && !s->ending;) {
        int fd = openat(s->bin, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *d = fd < 0 ? NULL : fdopendir(fd);
        size_t left = 0;
        progress = false;
        if (!d && fd >= 0)
            close(fd);
        for (struct dirent *ent; d && !s->ending && (ent = readdir(d));) {
            if (is_dot(ent->d_name))
                continue;
            bool gone = remove_one(s, ent->d_name);
            progress |= gone;
            left += !gone;
        }
        if (d)
            closedir(d);
        if (left && !progress && !s->ending)
            log_warn("scrap", NULL, NULL, "%zu directories below runs/.scrap cannot be removed", left);
    }
}

/* Of a run that has a result: its scratch is not needed any more, whatever became of its manager. */
static void take_settled(struct scrap *s, const char *dir)
{
    AUTO_FREE char *result = xasprintf("%s/result.json", dir), *app = xasprintf("%s/app", dir);
    if (faccessat(s->runs, result, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        move(s, s->runs, app);
}

static void find_left(struct scrap *s)
{
    int fd = openat(s->runs, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d && fd >= 0)
        close(fd);
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

struct scrap *scrap_new(const struct home *h)
{
    struct scrap *s = xcalloc(1, sizeof *s);
    s->runs = openat(h->dirfd, "runs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->runs >= 0)
        mkdirat(s->runs, ".scrap", 0700);
    s->bin = s->runs < 0 ? -1 : openat(s->runs, ".scrap", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->cond, NULL);
    s->running = s->bin >= 0 && pthread_create(&s->thread, NULL, work, s) == 0;
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
    if (s->bin >= 0)
        close(s->bin);
    if (s->runs >= 0)
        close(s->runs);
    free(s);
}

void scrap_take(struct scrap *s, const char *dir)
{
    AUTO_FREE char *app = xasprintf("%s/app", dir);
    if (s->running && unlinkat(AT_FDCWD, app, AT_REMOVEDIR) < 0 && errno != ENOENT && move(s, AT_FDCWD, app))
        wake(s);
}
