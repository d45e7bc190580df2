#include "stream_log_files.h"

#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DIGITS = 12 };

void stream_log_closed_name(uint64_t number, char out[STREAM_LOG_NAME])
{
    snprintf(out, STREAM_LOG_NAME, "stream.%0*" PRIu64 ".jsonl", DIGITS, number);
}

uint64_t stream_log_closed_number(const char *name)
{
    char again[STREAM_LOG_NAME];
    uint64_t n = !strncmp(name, "stream.", 7) ? strtoull(name + 7, NULL, 10) : 0;
    stream_log_closed_name(n, again);
    return n && !strcmp(name, again) ? n : 0;
}

static FILE *open_one(int dirfd, const char *name)
{
    AUTO_FD int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return NULL;
    if (!S_ISREG(st.st_mode)) {
        errno = EINVAL;
        return NULL;
    }
    FILE *f = fdopen(fd, "r");
    if (f)
        fd = -1;
    return f;
}

/* Behind its first line. */
static uint64_t read_through(FILE *days)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t n = getline(&line, &cap, days);
    AUTO_BSON bson_t *head = n > 0 ? json_parse(line, (size_t)n, NULL) : NULL;
    int64_t through = head ? json_get_i64(head, "through", 0) : 0;
    free(line);
    return through > 0 ? (uint64_t)through : 0;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static int list(struct stream_log_files *f)
{
    DIR *d = fd_open_dir(f->dirfd, ".");
    int r = d ? 0 : -errno;
    for (struct dirent *ent; d && (ent = fd_next_name(d, &r));) {
        uint64_t n = stream_log_closed_number(ent->d_name);
        if (n <= f->through)
            continue;
        f->closed = xgrow(f->closed, f->n, sizeof *f->closed);
        f->closed[f->n++] = n;
    }
    if (d)
        closedir(d);
    if (f->n)
        qsort(f->closed, f->n, sizeof *f->closed, by_number);
    return r;
}

/* Each before what it may become: a file that is closed, or summed, while these are opened is in one of them. */
int stream_log_files_open(int home_fd, const char *tenant, struct stream_log_files *ret)
{
    AUTO_FREE char *path = xasprintf("logs/tenants/%s", tenant);
    int r = 0;
    *ret = (struct stream_log_files){.dirfd = openat(home_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
    if (ret->dirfd < 0)
        return -errno;
    ret->days = open_one(ret->dirfd, STREAM_LOG_DAYS);
    if (ret->days)
        ret->through = read_through(ret->days);
    else if (errno != ENOENT)
        r = -errno;
    if (r == 0 && !(ret->current = open_one(ret->dirfd, STREAM_LOG)) && errno != ENOENT)
        r = -errno;
    if (r == 0)
        r = list(ret);
    if (r < 0)
        stream_log_files_close(ret);
    return r;
}

void stream_log_files_close(struct stream_log_files *f)
{
    if (f->days)
        fclose(f->days);
    if (f->current)
        fclose(f->current);
    if (f->dirfd >= 0)
        close(f->dirfd);
    free(f->closed);
    *f = (struct stream_log_files){.dirfd = -1};
}

FILE *stream_log_closed_open(const struct stream_log_files *f, uint64_t number)
{
    char name[STREAM_LOG_NAME];
    struct stat st, current;
    stream_log_closed_name(number, name);
    FILE *file = open_one(f->dirfd, name);
    if (file && f->current && fstat(fileno(file), &st) == 0 && fstat(fileno(f->current), &current) == 0 &&
        st.st_ino == current.st_ino && st.st_dev == current.st_dev) {
        fclose(file);
        errno = ENOENT;
        return NULL;
    }
    return file;
}

static uint64_t newest(const struct stream_log_files *f)
{
    return f->n ? f->closed[f->n - 1] : f->through;
}

void stream_log_rotate(int home_fd, const char *tenant, int64_t max_bytes)
{
    AUTO_FREE char *path = xasprintf("logs/tenants/%s/" STREAM_LOG, tenant);
    struct stream_log_files f;
    struct stat st;
    char name[STREAM_LOG_NAME];
    if (fstatat(home_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_size <= max_bytes ||
        stream_log_files_open(home_fd, tenant, &f) < 0)
        return;
    stream_log_closed_name(newest(&f) + 1, name);
    if (renameat2(f.dirfd, STREAM_LOG, f.dirfd, name, RENAME_NOREPLACE) < 0)
        log_warn("journal", tenant, NULL, "cannot rename " STREAM_LOG " to %s: %s; it grows on", name, strerror(errno));
    stream_log_files_close(&f);
}

bool stream_log_newest_closed(int home_fd, const char *tenant, char out[STREAM_LOG_NAME])
{
    struct stream_log_files f;
    if (stream_log_files_open(home_fd, tenant, &f) < 0)
        return false;
    bool any = f.n > 0;
    if (any)
        stream_log_closed_name(newest(&f), out);
    stream_log_files_close(&f);
    return any;
}
