/* badfs CONTROL LIVE DURABLE MOUNTPOINT [-o ...]: a disk that fails and that loses power, for all programs at once: what is below
 * MOUNTPOINT is what is below the directory LIVE, by FUSE. tests/fault/baddisk.py drives it.
 *
 * CONTROL is a file of struct control, mapped by both sides. While a bit of `fails` is set, reads, writes or syncs of what `under`
 * names (a path below the mount point, and all below it) are EIO.
 *
 * What a disk has when the power goes is told apart from what programs see. A file has the bytes that its last sync found
 * (DURABLE/obj has them by inode number), a directory the names that were made durable: by a sync of that directory, or of the file
 * that a name is of (with the directories on the way to it), or with `ordered` by any sync, as a journal does it that keeps all
 * changes of names in their order. At the sync whose number is `cut_at` the power goes: before that sync has done its work, or
 * (with `after`) behind it and before its caller knows. DURABLE/after is made of what is durable then, and the program ends: all
 * that is below the mount point is ENOTCONN from then on. With `keep_seed` some of what was not synced is there as well: of the
 * names those that were changed first, of the bytes any blocks.
 *
 * Owners and modes are durable at once. Times are not kept. */
#define FUSE_USE_VERSION 31
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FAIL_READS = 1, FAIL_WRITES = 2, FAIL_SYNCS = 4, BLOCK = 4096, N_BUCKETS = 65536 };

struct control {
    int64_t n_syncs; /* so far; what was nothing to be synced counts, too */
    int64_t cut_at;  /* 0: never */
    int64_t keep_seed;
    int32_t after, ordered, fails, is_cut;
    int64_t n_failed;
    char under[256];
};

struct range {
    off_t from, to;
    struct range *next;
};

/* A file, by its inode number in LIVE. */
struct node {
    ino_t ino, parent; /* parent: of a directory, to find those on the way to it */
    struct stat st;
    struct range *dirty;
    bool synced; /* DURABLE/obj has it */
    bool shrunk; /* its size was set since the last sync */
    char *link;
    struct node *next;
};

struct name {
    ino_t dir, ino; /* 0: there is none */
    char *name;
    struct name *next;
};

/* A change of names that is not durable: what up to two names are from then on. */
struct change {
    struct name to[2];
    ino_t ino;
    struct change *next;
};

static volatile struct control *control;
static int live, durable;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct node *nodes[N_BUCKETS];
static struct name *names[N_BUCKETS]; /* that are durable */
static struct change *pending;

static void *need(void *p)
{
    if (!p)
        abort();
    return p;
}

/* -- what is durable */

static struct node *node_of(ino_t ino)
{
    struct node **at = &nodes[ino % N_BUCKETS];
    for (struct node *n = *at; n; n = n->next)
        if (n->ino == ino)
            return n;
    struct node *n = need(calloc(1, sizeof *n));
    *n = (struct node){.ino = ino, .next = *at};
    return *at = n;
}

static struct name *name_of(ino_t dir, const char *name)
{
    uint64_t h = dir;
    for (const char *p = name; *p; p++)
        h = h * 31 + (unsigned char)*p;
    struct name **at = &names[h % N_BUCKETS];
    for (struct name *n = *at; n; n = n->next)
        if (n->dir == dir && strcmp(n->name, name) == 0)
            return n;
    struct name *n = need(calloc(1, sizeof *n));
    *n = (struct name){dir, 0, need(strdup(name)), *at};
    return *at = n;
}

static void apply(struct change *c)
{
    for (int i = 0; i < 2; i++)
        if (c->to[i].name) {
            name_of(c->to[i].dir, c->to[i].name)->ino = c->to[i].ino;
            free(c->to[i].name);
        }
    free(c);
}

static bool same_name(const struct change *a, const struct change *b)
{
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++)
            if (a->to[i].name && b->to[j].name && a->to[i].dir == b->to[j].dir && strcmp(a->to[i].name, b->to[j].name) == 0)
                return true;
    return false;
}

/* Makes `last` durable, and before it what was done earlier to a name of it. */
static void commit(struct change *last)
{
    for (struct change **at = &pending; *at && *at != last;) {
        struct change *c = *at;
        if (same_name(c, last)) {
            commit(c);
            at = &pending; /* others may be gone, too */
        } else {
            at = &c->next;
        }
    }
    struct change **at = &pending;
    while (*at != last)
        at = &(*at)->next;
    *at = last->next;
    apply(last);
}

static void commit_all(void)
{
    while (pending)
        commit(pending);
}

static bool is_of(const struct change *c, ino_t ino, bool as_directory)
{
    return c->ino == ino || (as_directory && ((c->to[0].name && c->to[0].dir == ino) || (c->to[1].name && c->to[1].dir == ino)));
}

/* The names of a file, or in a directory, and the directories on the way. */
static void commit_names(ino_t ino, bool as_directory)
{
    for (struct change *c = pending; c;) {
        if (is_of(c, ino, as_directory)) {
            ino_t up[2] = {c->to[0].name ? c->to[0].dir : 0, c->to[1].name ? c->to[1].dir : 0};
            commit(c);
            for (int i = 0; i < 2; i++)
                if (up[i] && up[i] != ino)
                    commit_names(up[i], false);
            c = pending;
        } else {
            c = c->next;
        }
    }
    ino_t parent = node_of(ino)->parent;
    if (as_directory && parent && parent != ino)
        commit_names(parent, false);
}

static void forget(struct node *n)
{
    while (n->dirty) {
        struct range *r = n->dirty;
        n->dirty = r->next;
        free(r);
    }
}

static int object(const struct node *n, int flags)
{
    char path[64];
    snprintf(path, sizeof path, "obj/%llu", (unsigned long long)n->ino);
    return openat(durable, path, flags | O_CLOEXEC, 0600);
}

static void copy(int from, int to, off_t at, off_t end)
{
    static char buf[1 << 20];
    while (at < end) {
        ssize_t n = pread(from, buf, end - at < (off_t)sizeof buf ? (size_t)(end - at) : sizeof buf, at);
        if (n <= 0)
            return;
        if (pwrite(to, buf, (size_t)n, at) != n)
            abort();
        at += n;
    }
}

/* The bytes of a file become durable. */
static void settle(struct node *n, int fd)
{
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return;
    int to = object(n, O_RDWR | O_CREAT);
    if (to < 0)
        abort();
    struct stat had;
    if (fstat(to, &had) < 0 || (n->shrunk && ftruncate(to, 0) < 0))
        abort();
    if (n->shrunk)
        copy(fd, to, 0, st.st_size);
    for (struct range *r = n->dirty; r; r = r->next)
        copy(fd, to, r->from, r->to < st.st_size ? r->to : st.st_size);
    if (ftruncate(to, st.st_size) < 0)
        abort();
    close(to);
    forget(n);
    n->synced = true;
    n->shrunk = false;
}

static void dirty(struct node *n, off_t from, off_t to)
{
    for (struct range *r = n->dirty; r; r = r->next)
        if (from <= r->to && to >= r->from) {
            r->from = from < r->from ? from : r->from;
            r->to = to > r->to ? to : r->to;
            return;
        }
    struct range *r = need(malloc(sizeof *r));
    *r = (struct range){from, to, n->dirty};
    n->dirty = r;
}

/* -- the cut */

/* Some of the blocks that were written and not synced. */
static void keep_some(struct node *n, int fd)
{
    int to = object(n, O_RDWR | O_CREAT);
    if (to < 0)
        abort();
    for (struct range *r = n->dirty; r; r = r->next)
        for (off_t at = r->from; at < r->to; at = (at / BLOCK + 1) * BLOCK) {
            off_t end = (at / BLOCK + 1) * BLOCK;
            if (rand() % 2)
                copy(fd, to, at, end < r->to ? end : r->to);
        }
    close(to);
    n->synced = true;
}

static void keep_some_of_all(int dir)
{
    DIR *d = fdopendir(dir);
    for (struct dirent *ent; d && (ent = readdir(d));) {
        struct stat st;
        if (strcmp(ent->d_name, ".") == 0 || strcmp(ent->d_name, "..") == 0 ||
            fstatat(dirfd(d), ent->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        int fd = S_ISDIR(st.st_mode) || S_ISREG(st.st_mode) ? openat(dirfd(d), ent->d_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
        if (fd >= 0 && S_ISDIR(st.st_mode)) {
            keep_some_of_all(fd);
        } else if (fd >= 0) {
            struct node *n = node_of(st.st_ino);
            if (n->dirty)
                keep_some(n, fd);
            close(fd);
        }
    }
    if (d)
        closedir(d);
}

static void make_file(const struct node *n, int dir, const char *name)
{
    char path[64], made[64];
    snprintf(path, sizeof path, "obj/%llu", (unsigned long long)n->ino);
    snprintf(made, sizeof made, "made/%llu", (unsigned long long)n->ino);
    if (linkat(durable, made, dir, name, 0) == 0) /* another name of it was there before */
        return;
    int fd =
        n->synced ? openat(durable, path, O_RDWR | O_CLOEXEC) : openat(durable, path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || fchown(fd, n->st.st_uid, n->st.st_gid) < 0 || fchmod(fd, n->st.st_mode & 07777) < 0 ||
        renameat(durable, path, durable, made) < 0 || linkat(durable, made, dir, name, 0) < 0)
        abort();
    close(fd);
}

static void make_directory(ino_t ino, int dir)
{
    for (int i = 0; i < N_BUCKETS; i++)
        for (struct name *e = names[i]; e; e = e->next) {
            if (e->dir != ino || !e->ino)
                continue;
            const struct node *n = node_of(e->ino);
            if (S_ISDIR(n->st.st_mode)) {
                int below = mkdirat(dir, e->name, 0700) == 0 ? openat(dir, e->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
                if (below < 0)
                    continue; /* has two names: a rename of which one half is durable */
                make_directory(e->ino, below);
                if (fchown(below, n->st.st_uid, n->st.st_gid) < 0 || fchmod(below, n->st.st_mode & 07777) < 0)
                    abort();
                close(below);
            } else if (S_ISLNK(n->st.st_mode)) {
                if (symlinkat(n->link ? n->link : "", dir, e->name) < 0 ||
                    fchownat(dir, e->name, n->st.st_uid, n->st.st_gid, AT_SYMLINK_NOFOLLOW) < 0)
                    abort();
            } else if (S_ISREG(n->st.st_mode)) {
                make_file(n, dir, e->name);
            } else if (mknodat(dir, e->name, n->st.st_mode, n->st.st_rdev) < 0) {
                abort();
            }
        }
}

static void cut(void)
{
    struct stat st;
    if (control->keep_seed) {
        srand((unsigned)control->keep_seed);
        int n = 0;
        for (struct change *c = pending; c; c = c->next)
            n++;
        for (n = n ? rand() % (n + 1) : 0; n > 0 && pending; n--)
            commit(pending);
        keep_some_of_all(openat(live, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    }
    if (fstat(live, &st) < 0 || mkdirat(durable, "after", 0700) < 0 || mkdirat(durable, "made", 0700) < 0)
        abort();
    int to = openat(durable, "after", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    make_directory(st.st_ino, to);
    if (fchown(to, st.st_uid, st.st_gid) < 0 || fchmod(to, st.st_mode & 07777) < 0)
        abort();
    control->is_cut = 1;
    _exit(0);
}

/* -- what is seen */

static bool fails(const char *path, int what)
{
    size_t n = strlen((const char *)control->under);
    if (!(control->fails & what) || strncmp(path, (const char *)control->under, n) != 0 || (n && path[n] != 0 && path[n] != '/'))
        return false;
    control->n_failed++;
    return true;
}

/* Of what is open: its name is asked for, since it may have another one by now. */
static bool fails_fd(int fd, int what)
{
    char link[64], path[PATH_MAX] = "", top[PATH_MAX] = "";
    if (!(control->fails & what))
        return false;
    snprintf(link, sizeof link, "/proc/self/fd/%d", live);
    ssize_t n = readlink(link, top, sizeof top - 1);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t m = readlink(link, path, sizeof path - 1);
    return n > 0 && m > n && fails(path + n, what);
}

static const char *relative(const char *path)
{
    return path[1] ? path + 1 : ".";
}

static ino_t parent_of(const char *path, const char **ret_name)
{
    char dir[PATH_MAX];
    struct stat st;
    const char *slash = strrchr(path, '/');
    snprintf(dir, sizeof dir, "%.*s", (int)(slash - path), path);
    *ret_name = slash + 1;
    return fstatat(live, dir[0] ? dir + 1 : ".", &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_ino : 0;
}

static void know(const char *path, ino_t parent)
{
    struct stat st;
    if (fstatat(live, relative(path), &st, AT_SYMLINK_NOFOLLOW) < 0)
        return;
    struct node *n = node_of(st.st_ino);
    n->st = st;
    n->parent = S_ISDIR(st.st_mode) ? parent : 0;
    if (S_ISLNK(st.st_mode)) {
        char text[PATH_MAX];
        ssize_t len = readlinkat(live, relative(path), text, sizeof text - 1);
        text[len > 0 ? len : 0] = 0;
        free(n->link);
        n->link = need(strdup(text));
    }
}

static void change(ino_t ino, const char *a, ino_t a_is, const char *b, ino_t b_is)
{
    struct change *c = need(calloc(1, sizeof *c)), **at = &pending;
    const char *name;
    c->ino = ino;
    c->to[0].dir = parent_of(a, &name);
    c->to[0].ino = a_is;
    c->to[0].name = need(strdup(name));
    if (b) {
        c->to[1].dir = parent_of(b, &name);
        c->to[1].ino = b_is;
        c->to[1].name = need(strdup(name));
    }
    while (*at)
        at = &(*at)->next;
    *at = c;
}

static ino_t ino_of(const char *path)
{
    struct stat st;
    return fstatat(live, relative(path), &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_ino : 0;
}

/* Something new has the name `path`: whose it is, and that it is not durable. */
static void born(const char *path, bool is_new)
{
    struct stat up;
    char dir[PATH_MAX];
    const char *name;
    ino_t parent = parent_of(path, &name);
    snprintf(dir, sizeof dir, "%.*s", (int)(name - path - 1), path);
    const struct fuse_context *who = fuse_get_context();
    if (is_new && fstatat(live, dir[0] ? dir + 1 : ".", &up, AT_SYMLINK_NOFOLLOW) == 0 &&
        fchownat(live, relative(path), who->uid, up.st_mode & S_ISGID ? up.st_gid : who->gid, AT_SYMLINK_NOFOLLOW) < 0)
        abort();
    struct node *n = node_of(ino_of(path));
    if (is_new) { /* the number may have been another file's */
        forget(n);
        n->synced = n->shrunk = false;
    }
    know(path, parent);
    change(n->ino, path, n->ino, NULL, 0);
}

#define LOCKED for (int once_ = (pthread_mutex_lock(&lock), 1); once_; once_ = (pthread_mutex_unlock(&lock), 0))
/* Runs a call that changes names, then what is to be remembered of it. */
#define CHANGES(path, call, then)                                                                                                  \
    do {                                                                                                                           \
        int r_ = 0;                                                                                                                \
        LOCKED                                                                                                                     \
        {                                                                                                                          \
            r_ = path && fails(path, FAIL_WRITES) ? -EIO : (call) < 0 ? -errno : 0;                                                \
            if (r_ == 0) {                                                                                                         \
                then;                                                                                                              \
            }                                                                                                                      \
        }                                                                                                                          \
        return r_;                                                                                                                 \
    } while (0)

static int do_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
    return (fi ? fstat((int)fi->fh, st) : fstatat(live, relative(path), st, AT_SYMLINK_NOFOLLOW)) < 0 ? -errno : 0;
}

static int do_readlink(const char *path, char *buf, size_t n)
{
    ssize_t r = readlinkat(live, relative(path), buf, n - 1);
    if (r < 0)
        return -errno;
    buf[r] = 0;
    return 0;
}

static int do_mknod(const char *path, mode_t mode, dev_t dev)
{
    CHANGES(path, mknodat(live, relative(path), mode, dev), born(path, true));
}

static int do_mkdir(const char *path, mode_t mode)
{
    CHANGES(path, mkdirat(live, relative(path), mode), born(path, true));
}

static int do_symlink(const char *text, const char *path)
{
    CHANGES(path, symlinkat(text, live, relative(path)), born(path, true));
}

static int do_link(const char *from, const char *path)
{
    CHANGES(path, linkat(live, relative(from), live, relative(path), 0), born(path, false));
}

static int do_unlink(const char *path)
{
    ino_t ino = ino_of(path);
    CHANGES(path, unlinkat(live, relative(path), 0), change(ino, path, 0, NULL, 0));
}

static int do_rmdir(const char *path)
{
    ino_t ino = ino_of(path);
    CHANGES(path, unlinkat(live, relative(path), AT_REMOVEDIR), change(ino, path, 0, NULL, 0));
}

static int do_rename(const char *from, const char *to, unsigned flags)
{
    int r = 0;
    LOCKED
    {
        ino_t is = ino_of(from), was = ino_of(to);
        r = fails(to, FAIL_WRITES) ? -EIO : renameat2(live, relative(from), live, relative(to), flags) < 0 ? -errno : 0;
        if (r == 0 && is != was) {
            const char *name;
            change(is, from, flags & RENAME_EXCHANGE ? was : 0, to, is);
            know(to, parent_of(to, &name));
        }
    }
    return r;
}

static int do_chmod(const char *path, mode_t mode, struct fuse_file_info *fi)
{
    CHANGES(path, fi ? fchmod((int)fi->fh, mode) : fchmodat(live, relative(path), mode, 0), struct stat st;
            if (do_getattr(path, &st, fi) == 0) node_of(st.st_ino)->st = st);
}

static int do_chown(const char *path, uid_t uid, gid_t gid, struct fuse_file_info *fi)
{
    CHANGES(path, fi ? fchown((int)fi->fh, uid, gid) : fchownat(live, relative(path), uid, gid, AT_SYMLINK_NOFOLLOW),
            struct stat st;
            if (do_getattr(path, &st, fi) == 0) node_of(st.st_ino)->st = st);
}

static int do_utimens(const char *path, const struct timespec ts[2], struct fuse_file_info *fi)
{
    return (fi ? futimens((int)fi->fh, ts) : utimensat(live, relative(path), ts, AT_SYMLINK_NOFOLLOW)) < 0 ? -errno : 0;
}

static int set_size(int fd, off_t size)
{
    struct stat st;
    if (fstat(fd, &st) < 0 || ftruncate(fd, size) < 0)
        return -errno;
    struct node *n = node_of(st.st_ino);
    n->st = st;
    n->shrunk |= size < st.st_size;
    dirty(n, size < st.st_size ? size : st.st_size, size > st.st_size ? size : st.st_size);
    return 0;
}

static int do_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
    int r = 0;
    LOCKED
    {
        int fd = fi ? (int)fi->fh : openat(live, relative(path), O_RDWR | O_CLOEXEC);
        r = fd < 0 ? -errno : fails_fd(fd, FAIL_WRITES) ? -EIO : set_size(fd, size);
        if (!fi && fd >= 0)
            close(fd);
    }
    return r;
}

/* Readable in any case: a sync reads what it makes durable. */
static int readable(int flags)
{
    return (flags & O_ACCMODE) == O_WRONLY ? (flags & ~O_ACCMODE) | O_RDWR : flags;
}

static int do_open(const char *path, struct fuse_file_info *fi)
{
    int r = 0;
    LOCKED
    {
        int fd = openat(live, relative(path), (readable(fi->flags) & ~O_TRUNC) | O_CLOEXEC | O_NOFOLLOW);
        r = fd < 0 ? -errno : fi->flags & O_TRUNC ? set_size(fd, 0) : 0;
        fi->fh = (uint64_t)fd;
        if (r < 0 && fd >= 0)
            close(fd);
    }
    return r;
}

static int do_create(const char *path, mode_t mode, struct fuse_file_info *fi)
{
    int fd = -1;
    CHANGES(path, fd = openat(live, relative(path), readable(fi->flags) | O_CREAT | O_CLOEXEC, mode), fi->fh = (uint64_t)fd;
            born(path, true));
}

static int do_read(const char *path, char *buf, size_t n, off_t at, struct fuse_file_info *fi)
{
    (void)path;
    ssize_t r = fails_fd((int)fi->fh, FAIL_READS) ? (errno = EIO, -1) : pread((int)fi->fh, buf, n, at);
    return r < 0 ? -errno : (int)r;
}

static int do_write(const char *path, const char *buf, size_t n, off_t at, struct fuse_file_info *fi)
{
    (void)path;
    ssize_t r = -EIO;
    LOCKED
    {
        struct stat st;
        if (!fails_fd((int)fi->fh, FAIL_WRITES)) {
            r = pwrite((int)fi->fh, buf, n, at);
            r = r < 0 ? -errno : r;
        }
        if (r > 0 && fstat((int)fi->fh, &st) == 0) {
            off_t from = fi->flags & O_APPEND ? st.st_size - r : at;
            dirty(node_of(st.st_ino), from, from + r);
        }
    }
    return (int)r;
}

static int sync_it(int fd, bool is_directory)
{
    struct stat st;
    if (fails_fd(fd, FAIL_SYNCS))
        return -EIO;
    if (fstat(fd, &st) < 0)
        return -errno;
    bool now = ++control->n_syncs == control->cut_at;
    if (now && !control->after)
        cut();
    if (!is_directory)
        settle(node_of(st.st_ino), fd);
    if (control->ordered)
        commit_all();
    else
        commit_names(st.st_ino, is_directory);
    if (now)
        cut();
    return 0;
}

static int do_fsync(const char *path, int data_only, struct fuse_file_info *fi)
{
    (void)path;
    (void)data_only;
    int r = 0;
    LOCKED r = sync_it((int)fi->fh, false);
    return r;
}

static int do_fsyncdir(const char *path, int data_only, struct fuse_file_info *fi)
{
    (void)path;
    (void)data_only;
    int r = 0;
    LOCKED r = sync_it(dirfd((DIR *)(uintptr_t)fi->fh), true);
    return r;
}

static int do_fallocate(const char *path, int mode, off_t at, off_t n, struct fuse_file_info *fi)
{
    (void)path;
    int r = 0;
    LOCKED
    {
        struct stat st;
        r = fails_fd((int)fi->fh, FAIL_WRITES) ? -EIO : fallocate((int)fi->fh, mode, at, n) < 0 ? -errno : 0;
        if (r == 0 && fstat((int)fi->fh, &st) == 0)
            dirty(node_of(st.st_ino), at, at + n);
    }
    return r;
}

static int do_release(const char *path, struct fuse_file_info *fi)
{
    (void)path;
    close((int)fi->fh);
    return 0;
}

static int do_statfs(const char *path, struct statvfs *st)
{
    (void)path;
    return fstatvfs(live, st) < 0 ? -errno : 0;
}

static int do_opendir(const char *path, struct fuse_file_info *fi)
{
    int fd = openat(live, relative(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    fi->fh = (uint64_t)(uintptr_t)d;
    return d ? 0 : -errno;
}

static int do_readdir(const char *path, void *buf, fuse_fill_dir_t fill, off_t at, struct fuse_file_info *fi,
                      enum fuse_readdir_flags flags)
{
    (void)at;
    (void)flags;
    (void)path;
    if (fails_fd(dirfd((DIR *)(uintptr_t)fi->fh), FAIL_READS))
        return -EIO;
    int r = 0;
    LOCKED
    {
        DIR *d = (DIR *)(uintptr_t)fi->fh;
        rewinddir(d);
        for (struct dirent *ent; r == 0 && (ent = readdir(d));) {
            struct stat st = {.st_ino = ent->d_ino, .st_mode = (mode_t)ent->d_type << 12};
            r = fill(buf, ent->d_name, &st, 0, 0) ? -ENOMEM : 0;
        }
    }
    return r;
}

static int do_releasedir(const char *path, struct fuse_file_info *fi)
{
    (void)path;
    closedir((DIR *)(uintptr_t)fi->fh);
    return 0;
}

static void *do_init(struct fuse_conn_info *conn, struct fuse_config *cfg)
{
    (void)conn;
    cfg->use_ino = cfg->hard_remove = cfg->nullpath_ok = 1;
    cfg->attr_timeout = cfg->entry_timeout = cfg->negative_timeout = 0;
    return NULL;
}

/* What is there at the start is durable. */
static void know_all(int dir, ino_t ino)
{
    DIR *d = fdopendir(dir);
    for (struct dirent *ent; d && (ent = readdir(d));) {
        struct stat st;
        if (strcmp(ent->d_name, ".") == 0 || strcmp(ent->d_name, "..") == 0 ||
            fstatat(dirfd(d), ent->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        struct node *n = node_of(st.st_ino);
        n->st = st;
        name_of(ino, ent->d_name)->ino = st.st_ino;
        int fd = S_ISDIR(st.st_mode) || S_ISREG(st.st_mode) ? openat(dirfd(d), ent->d_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
        if (S_ISDIR(st.st_mode) && fd >= 0) {
            n->parent = ino;
            know_all(fd, st.st_ino);
        } else if (S_ISREG(st.st_mode) && fd >= 0) {
            dirty(n, 0, st.st_size);
            settle(n, fd);
            close(fd);
        } else if (S_ISLNK(st.st_mode)) {
            char text[PATH_MAX];
            ssize_t len = readlinkat(dirfd(d), ent->d_name, text, sizeof text - 1);
            text[len > 0 ? len : 0] = 0;
            n->link = need(strdup(text));
        }
    }
    if (d)
        closedir(d);
}

static const struct fuse_operations operations = {.init = do_init,
                                                  .getattr = do_getattr,
                                                  .readlink = do_readlink,
                                                  .mknod = do_mknod,
                                                  .mkdir = do_mkdir,
                                                  .unlink = do_unlink,
                                                  .rmdir = do_rmdir,
                                                  .symlink = do_symlink,
                                                  .rename = do_rename,
                                                  .link = do_link,
                                                  .chmod = do_chmod,
                                                  .chown = do_chown,
                                                  .utimens = do_utimens,
                                                  .truncate = do_truncate,
                                                  .open = do_open,
                                                  .create = do_create,
                                                  .read = do_read,
                                                  .write = do_write,
                                                  .fsync = do_fsync,
                                                  .fallocate = do_fallocate,
                                                  .release = do_release,
                                                  .statfs = do_statfs,
                                                  .opendir = do_opendir,
                                                  .readdir = do_readdir,
                                                  .releasedir = do_releasedir,
                                                  .fsyncdir = do_fsyncdir};

int main(int argc, char **argv)
{
    struct stat st;
    assert(argc >= 5);
    int fd = open(argv[1], O_RDWR | O_CLOEXEC);
    void *p = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    live = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    durable = open(argv[3], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (p == MAP_FAILED || live < 0 || durable < 0 || fstat(live, &st) < 0 || mkdirat(durable, "obj", 0700) < 0) {
        fprintf(stderr, "badfs: %s\n", strerror(errno));
        return 1;
    }
    control = p;
    umask(0);
    know_all(openat(live, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), st.st_ino);
    argv[3] = argv[0];
    return fuse_main(argc - 3, argv + 3, &operations, NULL);
}
