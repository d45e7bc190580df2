#include "scratch.h"

#include "base/fd.h"
#include "base/mem.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MIN_MS = 50, MAX_MS = 2000, FASTEST_BYTES_PER_MS = 2 << 20, FASTEST_INODES_PER_MS = 200, MAX_HELD = 1 << 20 };

static enum run_limit broken(const struct scratch *s)
{
    if (s->max_bytes >= 0 && s->bytes > s->max_bytes)
        return RUN_LIMIT_scratch_bytes;
    return s->max_inodes >= 0 && s->inodes > s->max_inodes ? RUN_LIMIT_scratch_inodes : RUN_LIMIT_none;
}

/* Counts one entry; true when it is a directory to go into. */
static bool count(struct scratch *s, int dir, const char *name)
{
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return false; /* gone meanwhile */
    s->inodes++;
    s->bytes += (int64_t)st.st_blocks * 512 / (int64_t)(S_ISDIR(st.st_mode) || !st.st_nlink ? 1 : st.st_nlink);
    s->full_file |= S_ISREG(st.st_mode) && st.st_size > 0 && st.st_size == s->fsize_bytes;
    return S_ISDIR(st.st_mode);
}

static enum run_limit walk(struct scratch *s, DIR **stack, int *depth)
{
    while (*depth) {
        DIR *d = stack[*depth - 1];
        struct dirent *ent = readdir(d);
        if (!ent) {
            closedir(d);
            (*depth)--;
            continue;
        }
        if (!strcmp(ent->d_name, ".") || !strcmp(ent->d_name, ".."))
            continue;
        bool is_dir = count(s, dirfd(d), ent->d_name);
        enum run_limit limit = broken(s);
        if (limit || (is_dir && *depth == SCRATCH_MAX_DEPTH))
            return limit ? limit : RUN_LIMIT_scratch_inodes;
        if (!is_dir)
            continue;
        if ((stack[*depth] = fd_open_dir(dirfd(d), ent->d_name)))
            (*depth)++;
    }
    return broken(s);
}

enum run_limit scratch_look(struct scratch *s, int dirfd, const char *name)
{
    DIR *stack[SCRATCH_MAX_DEPTH];
    int depth = 0;
    if (s->max_bytes < 0 && s->max_inodes < 0 && s->fsize_bytes < 0)
        return RUN_LIMIT_none;
    s->bytes = s->inodes = 0;
    s->full_file = false;
    if ((stack[0] = fd_open_dir(dirfd, name)))
        depth = 1;
    enum run_limit limit = walk(s, stack, &depth);
    while (depth)
        closedir(stack[--depth]);
    return limit;
}

/* ---- deleted, but held open ---- */

struct held {
    ino_t ino;
    int64_t bytes;
};

struct held_files {
    dev_t dev;
    int64_t uid;
    struct held *v;
    size_t n;
};

static void find_held(struct held_files *h, const char *pid, int digits, const char *what)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%.*s/%s", digits, pid, what);
    DIR *d = fd_open_dir(AT_FDCWD, path);
    struct stat st;
    for (struct dirent *ent; d && h->n < MAX_HELD && (ent = readdir(d));) {
        if (fstatat(dirfd(d), ent->d_name, &st, 0) < 0 || !S_ISREG(st.st_mode) || st.st_nlink || st.st_dev != h->dev ||
            st.st_uid != (uid_t)h->uid)
            continue;
        h->v = xgrow(h->v, h->n, sizeof *h->v);
        h->v[h->n++] = (struct held){st.st_ino, (int64_t)st.st_blocks * 512};
    }
    if (d)
        closedir(d);
}

static int by_inode(const void *a, const void *b)
{
    ino_t x = ((const struct held *)a)->ino, y = ((const struct held *)b)->ino;
    return x < y ? -1 : x > y;
}

enum run_limit scratch_look_held(struct scratch *s, int dirfd, const char *beside, int64_t uid, const char *pids)
{
    struct stat st;
    struct held_files h = {.uid = uid};
    if (s->max_bytes < 0 || fstatat(dirfd, beside, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return RUN_LIMIT_none;
    h.dev = st.st_dev;
    for (const char *pid = pids; *pid; pid += strcspn(pid, "\n"), pid += *pid == '\n') {
        int digits = (int)strcspn(pid, "\n");
        find_held(&h, pid, digits, "fd");
        find_held(&h, pid, digits, "map_files");
    }
    if (h.n)
        qsort(h.v, h.n, sizeof *h.v, by_inode);
    for (size_t i = 0; i < h.n; i++)
        s->bytes += i && h.v[i].ino == h.v[i - 1].ino ? 0 : h.v[i].bytes;
    free(h.v);
    return broken(s);
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int scratch_interval_ms(const struct scratch *s)
{
    int64_t ms = MAX_MS;
    if (s->max_bytes < 0 && s->max_inodes < 0)
        return -1;
    if (s->max_bytes >= 0)
        ms = least(ms, (s->max_bytes - s->bytes) / FASTEST_BYTES_PER_MS);
    if (s->max_inodes >= 0)
        ms = least(ms, (s->max_inodes - s->inodes) / FASTEST_INODES_PER_MS);
    return ms < MIN_MS ? MIN_MS : (int)ms;
}
