/* Preloaded into a program, makes SIGKILL as bad as a power cut for its *.seg files and their spare: what was written is kept in
 * memory, where reads find it, until the file is synced. Only data: names change at once. */
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct pending {
    int fd;
    off_t at;
    size_t n;
    char *p;
    struct pending *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct pending *first, **last = &first;

static void *real(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

static int is_ours(int fd)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 5)
        return 0;
    path[n] = 0;
    return strstr(path, "/state/broker/") && (!strcmp(path + n - 4, ".seg") || strstr(path, "/spare"));
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
    if (!is_ours(fd))
        return ((ssize_t(*)(int, const void *, size_t, off_t))real("pwrite"))(fd, p, n, at);
    struct pending *w = calloc(1, sizeof *w);
    *w = (struct pending){fd, at, n, malloc(n), NULL};
    memcpy(w->p, p, n);
    pthread_mutex_lock(&lock);
    *last = w;
    last = &w->next;
    pthread_mutex_unlock(&lock);
    return (ssize_t)n;
}

ssize_t pwrite64(int fd, const void *p, size_t n, off_t at)
{
    return pwrite(fd, p, n, at);
}

ssize_t pread(int fd, void *p, size_t n, off_t at)
{
    ssize_t got = ((ssize_t(*)(int, void *, size_t, off_t))real("pread"))(fd, p, n, at);
    pthread_mutex_lock(&lock);
    for (struct pending *w = first; w; w = w->next) {
        off_t from = w->at > at ? w->at : at, to = w->at + (off_t)w->n < at + (off_t)n ? w->at + (off_t)w->n : at + (off_t)n;
        if (w->fd == fd && from < to)
            memcpy((char *)p + (from - at), w->p + (from - w->at), (size_t)(to - from));
    }
    pthread_mutex_unlock(&lock);
    return got;
}

ssize_t pread64(int fd, void *p, size_t n, off_t at)
{
    return pread(fd, p, n, at);
}

/* Writes what waits for fd. */
static void settle(int fd)
{
    ssize_t (*write_at)(int, const void *, size_t, off_t) = real("pwrite");
    pthread_mutex_lock(&lock);
    for (struct pending **at = &first; *at;) {
        struct pending *w = *at;
        if (w->fd != fd) {
            at = &w->next;
            continue;
        }
        if (write_at(fd, w->p, w->n, w->at) != (ssize_t)w->n)
            abort();
        *at = w->next;
        free(w->p);
        free(w);
    }
    for (last = &first; *last; last = &(*last)->next) {
    }
    pthread_mutex_unlock(&lock);
}

int fdatasync(int fd)
{
    settle(fd);
    return ((int (*)(int))real("fdatasync"))(fd);
}

int fsync(int fd)
{
    settle(fd);
    return ((int (*)(int))real("fsync"))(fd);
}
