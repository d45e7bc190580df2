#include "spool.h"

#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

/* A sync waits for the disk, not for a processor; the disk does several together. */
enum { N_THREADS = 8 };

struct spool_file {
    struct spool *spool;
    struct spool_file *next;
    char name[ID_SIZE];
    int fd, result;
    bool given_away, resumable;
    void (*done)(void *arg, int r);
    void *arg;
};

struct list {
    struct spool_file *first, **last;
};

struct spool {
    int dirfd, resumable_dirfd, wake_fd;
    struct event *ev;
    pthread_mutex_t mutex;
    pthread_cond_t more;
    struct list wanted, done; /* under the mutex */
    bool stop;                /* under the mutex */
    pthread_t threads[N_THREADS];
    size_t n_threads;
};

static void list_add(struct list *l, struct spool_file *f)
{
    f->next = NULL;
    *(l->first ? l->last : &l->first) = f;
    l->last = &f->next;
}

static struct spool_file *list_take(struct list *l)
{
    struct spool_file *f = l->first;
    if (f)
        l->first = f->next;
    return f;
}

static int dir_of(const struct spool_file *f)
{
    return f->resumable ? f->spool->resumable_dirfd : f->spool->dirfd;
}

/* ---- threads ---- */

static void *work(void *arg)
{
    struct spool *s = arg;
    pthread_mutex_lock(&s->mutex);
    for (;;) {
        struct spool_file *f = list_take(&s->wanted);
        if (!f && s->stop)
            break;
        if (!f) {
            pthread_cond_wait(&s->more, &s->mutex);
            continue;
        }
        pthread_mutex_unlock(&s->mutex);
        f->result = (f->fd >= 0 && fdatasync(f->fd) < 0) || fsync(dir_of(f)) < 0 ? -errno : 0;
        pthread_mutex_lock(&s->mutex);
        list_add(&s->done, f);
        eventfd_write(s->wake_fd, 1);
    }
    pthread_mutex_unlock(&s->mutex);
    return NULL;
}

static struct spool_file *next_done(struct spool *s)
{
    pthread_mutex_lock(&s->mutex);
    struct spool_file *f = list_take(&s->done);
    pthread_mutex_unlock(&s->mutex);
    return f;
}

static void on_done(evutil_socket_t fd, short what, void *arg)
{
    struct spool *s = arg;
    eventfd_t n;
    (void)what;
    eventfd_read(fd, &n);
    for (struct spool_file *f; (f = next_done(s));)
        f->done(f->arg, f->result);
}

/* ---- life ---- */

int spool_make(const struct home *h, int64_t uid, struct err *e)
{
    if (mkdirat(h->dirfd, SPOOL, 0700) < 0 && errno != EEXIST)
        return err_sys(e, -errno, "cannot make %s/" SPOOL, h->path);
    AUTO_FD int fd = openat(h->dirfd, SPOOL, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fchmod(fd, 0700) < 0 || (uid >= 0 && fchown(fd, (uid_t)uid, (gid_t)uid) < 0))
        return err_sys(e, -errno, "cannot give %s/" SPOOL " to the gateway", h->path);
    return 0;
}

int spool_open(const struct home *h, struct event_base *base, struct spool **ret, struct err *e)
{
    struct spool *s = *ret = xcalloc(1, sizeof *s);
    s->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    s->resumable_dirfd = -1;
    s->dirfd = openat(h->dirfd, SPOOL, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (s->dirfd >= 0 && (mkdirat(s->dirfd, SPOOL_RESUMABLE, 0700) == 0 || errno == EEXIST))
        s->resumable_dirfd = openat(s->dirfd, SPOOL_RESUMABLE, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (s->dirfd < 0 || s->resumable_dirfd < 0 || s->wake_fd < 0)
        return err_sys(e, -errno, "cannot open %s/" SPOOL, h->path);
    pthread_mutex_init(&s->mutex, NULL);
    pthread_cond_init(&s->more, NULL);
    for (; s->n_threads < N_THREADS; s->n_threads++) {
        int r = pthread_create(&s->threads[s->n_threads], NULL, work, s);
        if (r)
            return err_sys(e, -r, "cannot start a thread");
    }
    s->ev = event_new(base, s->wake_fd, EV_READ | EV_PERSIST, on_done, s);
    event_add(s->ev, NULL);
    return 0;
}

void spool_stop(struct spool *s)
{
    if (!s || !s->n_threads)
        return;
    pthread_mutex_lock(&s->mutex);
    s->stop = true;
    pthread_cond_broadcast(&s->more);
    pthread_mutex_unlock(&s->mutex);
    while (s->n_threads)
        pthread_join(s->threads[--s->n_threads], NULL);
}

void spool_close(struct spool *s)
{
    if (!s)
        return;
    if (s->ev)
        event_free(s->ev);
    if (s->dirfd >= 0)
        close(s->dirfd);
    if (s->resumable_dirfd >= 0)
        close(s->resumable_dirfd);
    if (s->wake_fd >= 0)
        close(s->wake_fd);
    free(s);
}

/* ---- files ---- */

int spool_create(struct spool *s, struct spool_file **ret, struct err *e)
{
    struct spool_file *f = xcalloc(1, sizeof *f);
    f->spool = s;
    home_new_id(f->name);
    f->fd = openat(s->dirfd, f->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (f->fd < 0) {
        int r = -errno;
        free(f);
        return err_sys(e, r, "cannot write to " SPOOL);
    }
    *ret = f;
    return 0;
}

void spool_free(struct spool_file *f)
{
    if (!f)
        return;
    if (!f->given_away && !f->resumable)
        unlinkat(f->spool->dirfd, f->name, 0);
    if (f->fd >= 0)
        close(f->fd);
    free(f);
}

int spool_resume(struct spool *s, const char *id, bool make, struct spool_file **ret, struct err *e)
{
    int fd = openat(s->resumable_dirfd, id, O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC | (make ? O_CREAT | O_EXCL : 0), 0600);
    if (fd < 0)
        return err_sys(e, -errno, "cannot open " SPOOL "/" SPOOL_RESUMABLE "/%s", id);
    struct spool_file *f = *ret = xcalloc(1, sizeof *f);
    *f = (struct spool_file){.spool = s, .fd = fd, .resumable = true};
    snprintf(f->name, sizeof f->name, "%s", id);
    return 0;
}

struct spool_file *spool_completed(struct spool *s, const char *id)
{
    struct spool_file *f = xcalloc(1, sizeof *f);
    *f = (struct spool_file){.spool = s, .fd = -1};
    snprintf(f->name, sizeof f->name, "%s", id);
    return f;
}

int64_t spool_size(const struct spool_file *f)
{
    struct stat st;
    return fstat(f->fd, &st) < 0 ? -errno : st.st_size;
}

int spool_cut(struct spool_file *f, int64_t size)
{
    return ftruncate(f->fd, size) < 0 ? -errno : 0;
}

int spool_complete(struct spool_file *f, struct err *e)
{
    if (renameat(f->spool->resumable_dirfd, f->name, f->spool->dirfd, f->name) < 0)
        return err_sys(e, -errno, "cannot move an upload to " SPOOL);
    f->resumable = false;
    return 0;
}

int spool_resumable_dir(const struct spool *s)
{
    return s->resumable_dirfd;
}

const char *spool_name(const struct spool_file *f)
{
    return f->name;
}

int spool_write(struct spool_file *f, const void *p, size_t n)
{
    return fd_write_all(f->fd, p, n);
}

void spool_sync(struct spool_file *f, void (*done)(void *arg, int r), void *arg)
{
    struct spool *s = f->spool;
    f->done = done;
    f->arg = arg;
    pthread_mutex_lock(&s->mutex);
    list_add(&s->wanted, f);
    pthread_cond_signal(&s->more);
    pthread_mutex_unlock(&s->mutex);
}

void spool_end(struct spool_file *f)
{
    if (f->fd >= 0)
        close(fd_take(&f->fd));
}

bool spool_has_ended(const struct spool_file *f)
{
    return f->fd < 0;
}

void spool_give_away(struct spool_file *f)
{
    f->given_away = true;
}
