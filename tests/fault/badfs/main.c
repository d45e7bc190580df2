/* badfs CONTROL LIVE DURABLE MOUNTPOINT [-o ...]: a disk that fails and that loses power, for all programs at once: what is below
 * MOUNTPOINT is what is below the directory LIVE, by FUSE. tests/fault/baddisk.py drives it.
 *
 * CONTROL is a file of struct control, mapped by both sides. While a bit of `fails` is set, reads, writes or syncs of what `under`
 * names (a path below the mount point, and all below it) are EIO. As on Linux, what a sync that failed was for is never written:
 * programs see it as long as the kernel has it in memory (with `evict` no longer), and a second sync says that all is well.
 *
 * What a disk has when the power goes is told apart from what programs see: nodes.c has the bytes, journal.c names, owners and
 * modes. At the sync whose number is `cut_at` the power goes: before that sync has done its work, or (with `after`) behind it and
 * before its caller knows. DURABLE/after is made of what is durable then, and the program ends: all that is below the mount point
 * is ENOTCONN from then on. With `keep_seed` some of what was not synced is there as well.
 *
 * With `journal` names, owners and modes are as ext4 and XFS keep them: a journal has all changes in their order, and a sync
 * writes it when the file itself is in it: for fdatasync, by its size or blocks. Without it they are as POSIX says at least. Bytes
 * are the same in both: none is there before its sync, and any block may be (half of it, or as it was between two writes).
 *
 * Inode numbers outlive a cut, in an attribute of what lies in DURABLE/after: that is LIVE of the next badfs. syncfs does not come
 * here; who sets the attribute user.syncfs means it (it fails where a sync of what it is set to does). Times are not kept. */
#define FUSE_USE_VERSION 31
#include "badfs.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <fuse.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/xattr.h>
#include <unistd.h>

volatile struct control *control;
int live, durable;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void *need(void *p)
{
    if (!p)
        abort();
    return p;
}

unsigned chance(unsigned below)
{
    static uint64_t state;
    state = (state ? state : (uint64_t)control->keep_seed) + 0x9e3779b97f4a7c15;
    uint64_t x = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9; /* splitmix64 */
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return (unsigned)((x ^ (x >> 31)) % below);
}

static bool fails(const char *path, int what)
{
    size_t n = strlen((const char *)control->under);
    if (!(control->fails & what) || control->fail_times == 0 || strncmp(path, (const char *)control->under, n) != 0 ||
        (n && path[n] != 0 && path[n] != '/'))
        return false;
    if (control->fail_skip > 0) {
        control->fail_skip--;
        return false;
    }
    control->fail_times -= control->fail_times > 0;
    control->n_failed++;
    return true;
}

/* What is open is asked for its name, since it may have another one by now. */
static const char *path_of(int fd, char path[PATH_MAX])
{
    char link[64], top[PATH_MAX] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", live);
    ssize_t n = readlink(link, top, sizeof top - 1);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t m = readlink(link, path, PATH_MAX - 1);
    path[m > 0 ? m : 0] = 0;
    return n > 0 && m >= n ? path + n : "";
}

static bool fails_fd(int fd, int what)
{
    char path[PATH_MAX];
    return control->fails & what && fails(path_of(fd, path), what);
}

static const char *relative(const char *path)
{
    return path[1] ? path + 1 : ".";
}

static struct node *node_at(const char *path)
{
    struct stat st;
    return fstatat(live, relative(path), &st, AT_SYMLINK_NOFOLLOW) == 0 ? node_of_live(st.st_ino) : NULL;
}

static struct node *node_of(int fd)
{
    struct stat st;
    struct node *n = fstat(fd, &st) == 0 ? node_of_live(st.st_ino) : NULL;
    return need(n);
}

/* Of the directory that has the name. */
static uint64_t parent_of(const char *path, const char **ret_name)
{
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');
    snprintf(dir, sizeof dir, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    *ret_name = slash + 1;
    const struct node *n = need(node_at(dir));
    return n->id;
}

/* Something new has the name `path`: whose it is, and that it is not durable. */
static void born(const char *path)
{
    struct stat st, up;
    char dir[PATH_MAX];
    const char *name;
    uint64_t parent = parent_of(path, &name);
    const struct fuse_context *who = fuse_get_context();
    snprintf(dir, sizeof dir, "%.*s", (int)(name - path - 1), path);
    if (fstatat(live, dir[0] ? dir + 1 : ".", &up, AT_SYMLINK_NOFOLLOW) < 0 ||
        fchownat(live, relative(path), who->uid, up.st_mode & S_ISGID ? up.st_gid : who->gid, AT_SYMLINK_NOFOLLOW) < 0 ||
        fstatat(live, relative(path), &st, AT_SYMLINK_NOFOLLOW) < 0)
        abort();
    struct node *n = node_born(&st);
    journal_names(n->id, parent, name, n->id, 0, NULL, 0);
    if (S_ISLNK(st.st_mode)) {
        char text[PATH_MAX];
        ssize_t len = readlinkat(live, relative(path), text, sizeof text - 1);
        text[len > 0 ? len : 0] = 0;
        n->link = need(strdup(text));
    }
}

static void named(const char *path, bool is_there)
{
    const char *name;
    uint64_t parent = parent_of(path, &name);
    const struct node *n = is_there ? node_at(path) : NULL;
    journal_names(n ? n->id : 0, parent, name, n ? n->id : 0, 0, NULL, 0);
}

static void attributes(const struct stat *st)
{
    journal_attributes(need(node_of_live(st->st_ino)), st);
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

/* As programs see it: its number is the one that stays, and our second name is not counted. */
static void show(struct stat *st)
{
    const struct node *n = node_of_live(st->st_ino);
    if (n) {
        st->st_ino = n->id;
        st->st_nlink -= n->is_shared;
    }
}

static int stat_live(const char *path, struct stat *st, const struct fuse_file_info *fi)
{
    return (fi ? fstat((int)fi->fh, st) : fstatat(live, relative(path), st, AT_SYMLINK_NOFOLLOW)) < 0 ? -errno : 0;
}

static int do_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
    int r = 0;
    LOCKED
    {
        r = stat_live(path, st, fi);
        if (r == 0)
            show(st);
    }
    return r;
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
    CHANGES(path, mknodat(live, relative(path), mode, dev), born(path));
}

static int do_mkdir(const char *path, mode_t mode)
{
    CHANGES(path, mkdirat(live, relative(path), mode), born(path));
}

static int do_symlink(const char *text, const char *path)
{
    CHANGES(path, symlinkat(text, live, relative(path)), born(path));
}

static int do_link(const char *from, const char *path)
{
    CHANGES(path, linkat(live, relative(from), live, relative(path), 0), named(path, true));
}

static int do_unlink(const char *path)
{
    CHANGES(path, unlinkat(live, relative(path), 0), named(path, false));
}

static int do_rmdir(const char *path)
{
    CHANGES(path, unlinkat(live, relative(path), AT_REMOVEDIR), named(path, false));
}

static int do_rename(const char *from, const char *to, unsigned flags)
{
    int r = 0;
    LOCKED
    {
        const struct node *is = node_at(from), *was = node_at(to);
        r = fails(to, FAIL_WRITES) ? -EIO : renameat2(live, relative(from), live, relative(to), flags) < 0 ? -errno : 0;
        if (r == 0 && is != was) {
            const char *a, *b;
            uint64_t a_dir = parent_of(from, &a), b_dir = parent_of(to, &b);
            journal_names(need((void *)is) ? is->id : 0, a_dir, a, flags & RENAME_EXCHANGE ? was->id : 0, b_dir, b, is->id);
        }
    }
    return r;
}

static int do_chmod(const char *path, mode_t mode, struct fuse_file_info *fi)
{
    struct stat st;
    CHANGES(path, fi ? fchmod((int)fi->fh, mode) : fchmodat(live, relative(path), mode, 0),
            if (stat_live(path, &st, fi) == 0) attributes(&st));
}

static int do_chown(const char *path, uid_t uid, gid_t gid, struct fuse_file_info *fi)
{
    struct stat st;
    CHANGES(path, fi ? fchown((int)fi->fh, uid, gid) : fchownat(live, relative(path), uid, gid, AT_SYMLINK_NOFOLLOW),
            if (stat_live(path, &st, fi) == 0) attributes(&st));
}

static int do_utimens(const char *path, const struct timespec ts[2], struct fuse_file_info *fi)
{
    return (fi ? futimens((int)fi->fh, ts) : utimensat(live, relative(path), ts, AT_SYMLINK_NOFOLLOW)) < 0 ? -errno : 0;
}

static int set_size(int fd, off_t size)
{
    struct node *n = node_of(fd);
    node_unshare(n);
    if (ftruncate(fd, size) < 0)
        return -errno;
    node_truncated(n, size);
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

/* All changes pass here, so what the kernel has of a file stays true; of one with several names it has it under each. */
static void opened(struct fuse_file_info *fi, int fd)
{
    struct stat st;
    fi->fh = (uint64_t)fd;
    fi->keep_cache = fstat(fd, &st) == 0 && st.st_nlink <= 1;
}

static int do_open(const char *path, struct fuse_file_info *fi)
{
    int r = 0;
    LOCKED
    {
        int fd = openat(live, relative(path), (readable(fi->flags) & ~O_TRUNC) | O_CLOEXEC | O_NOFOLLOW);
        r = fd < 0 ? -errno : fi->flags & O_TRUNC ? set_size(fd, 0) : 0;
        if (r < 0 && fd >= 0)
            close(fd);
        else if (r == 0)
            opened(fi, fd);
    }
    return r;
}

static int do_create(const char *path, mode_t mode, struct fuse_file_info *fi)
{
    int fd = -1, flags = readable(fi->flags & ~(O_TRUNC | O_EXCL)) | O_CLOEXEC | O_NOFOLLOW;
    bool is_new = true;
    CHANGES(path,
            (fd = openat(live, relative(path), flags | O_CREAT | O_EXCL, mode)) < 0 && errno == EEXIST && !(fi->flags & O_EXCL)
                ? (is_new = false, fd = openat(live, relative(path), flags & ~O_CREAT))
                : fd,
            if (is_new) born(path);
            else if (fi->flags & O_TRUNC) set_size(fd, 0); opened(fi, fd));
}

static int do_read(const char *path, char *buf, size_t n, off_t at, struct fuse_file_info *fi)
{
    ssize_t r = 0;
    (void)path;
    LOCKED r = fails_fd((int)fi->fh, FAIL_READS) ? -EIO : 0;
    r = r < 0 ? r : pread((int)fi->fh, buf, n, at);
    return r == -1 ? -errno : (int)r;
}

static int do_write(const char *path, const char *buf, size_t n, off_t at, struct fuse_file_info *fi)
{
    (void)path;
    ssize_t r = -EIO;
    LOCKED
    {
        struct stat st;
        struct node *it = node_of((int)fi->fh);
        if (!fails_fd((int)fi->fh, FAIL_WRITES)) {
            node_unshare(it);
            r = pwrite((int)fi->fh, buf, n, at);
            r = r < 0 ? -errno : r;
        }
        if (r > 0 && fstat((int)fi->fh, &st) == 0)
            node_wrote(it, buf, fi->flags & O_APPEND ? st.st_size - r : at, r);
    }
    return (int)r;
}

static void sync_all(void)
{
    nodes_each(node_settle);
    journal_commit_all();
}

static void sync_one(struct node *n, bool is_directory, bool data_only)
{
    if (!is_directory)
        node_settle(n);
    if (control->journal && (data_only ? n->reallocated : n->changed))
        journal_commit_all();
    else if (!control->journal && is_directory)
        journal_commit_directory(n->id);
    else if (!control->journal)
        journal_commit_attributes(n->id);
}

/* n: NULL: all there is. */
static int sync_it(int fd, struct node *n, bool is_directory, bool data_only)
{
    char path[PATH_MAX] = "";
    if (fd >= 0 && fails_fd(fd, FAIL_SYNCS)) {
        node_lose(n, fd);
        return -EIO;
    }
    bool now = ++control->n_syncs == control->cut_at;
    if (now && !control->after)
        cut(fd >= 0 ? path_of(fd, path) : "all");
    if (n)
        sync_one(n, is_directory, data_only);
    else
        sync_all();
    if (now)
        cut(fd >= 0 ? path_of(fd, path) : "all");
    return 0;
}

static int do_fsync(const char *path, int data_only, struct fuse_file_info *fi)
{
    (void)path;
    int r = 0;
    LOCKED r = sync_it((int)fi->fh, node_of((int)fi->fh), false, data_only);
    return r;
}

static int do_fsyncdir(const char *path, int data_only, struct fuse_file_info *fi)
{
    (void)path;
    int fd = dirfd((DIR *)(uintptr_t)fi->fh), r = 0;
    LOCKED r = sync_it(fd, node_of(fd), true, data_only);
    return r;
}

static int lose_file(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    struct node *n = kind == FTW_F && S_ISREG(st->st_mode) ? node_of_live(st->st_ino) : NULL;
    int fd = n ? open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
    (void)at;
    if (fd < 0)
        return 0;
    node_lose(n, fd);
    close(fd);
    return 0;
}

static int fail_all(void)
{
    char link[64], top[PATH_MAX] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", live);
    if (readlink(link, top, sizeof top - 1) < 0 || nftw(top, lose_file, 16, FTW_PHYS) < 0)
        abort();
    return -EIO;
}

static int do_setxattr(const char *path, const char *name, const char *value, size_t n, int flags)
{
    int r = 0;
    (void)value;
    (void)n;
    (void)flags;
    if (strcmp(name, "user.syncfs") != 0)
        return -EOPNOTSUPP;
    LOCKED r = fails(path, FAIL_SYNCS) ? fail_all() : sync_it(-1, NULL, false, false);
    return r;
}

static int do_fallocate(const char *path, int mode, off_t at, off_t n, struct fuse_file_info *fi)
{
    static const char zeros[1 << 16];
    int r = 0;
    (void)path;
    LOCKED
    {
        struct node *it = node_of((int)fi->fh);
        struct stat st;
        node_unshare(it);
        r = fails_fd((int)fi->fh, FAIL_WRITES) ? -EIO : fallocate((int)fi->fh, mode, at, n) < 0 ? -errno : 0;
        if (r == 0 && fstat((int)fi->fh, &st) == 0)
            node_extended(it, st.st_size);
        for (off_t end = at + n; r == 0 && mode & ~FALLOC_FL_KEEP_SIZE && at < end; at += (off_t)sizeof zeros)
            node_wrote(it, zeros, at, end - at < (off_t)sizeof zeros ? end - at : (off_t)sizeof zeros);
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
            const struct node *n = node_of_live(ent->d_ino);
            struct stat st = {.st_ino = n ? n->id : ent->d_ino, .st_mode = (mode_t)ent->d_type << 12};
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

static struct node *know(int dir, const char *name, const struct stat *st)
{
    char path[PATH_MAX], text[PATH_MAX];
    uint64_t id = 0;
    snprintf(path, sizeof path, "/proc/self/fd/%d/%s", dir, name);
    if (lgetxattr(path, "trusted.badfs", &id, sizeof id) != sizeof id)
        id = 0;
    struct node *n = node_known(st, id);
    if (S_ISREG(st->st_mode))
        node_share(n, dir, name);
    ssize_t len = S_ISLNK(st->st_mode) ? readlinkat(dir, name, text, sizeof text - 1) : 0;
    text[len > 0 ? len : 0] = 0;
    n->link = need(strdup(text));
    return n;
}

/* What is there at the start is durable. */
static void know_all(int dir, uint64_t id)
{
    DIR *d = fdopendir(dir);
    for (struct dirent *ent; d && (ent = readdir(d));) {
        struct stat st;
        if (strcmp(ent->d_name, ".") == 0 || strcmp(ent->d_name, "..") == 0 ||
            fstatat(dirfd(d), ent->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        const struct node *n = know(dirfd(d), ent->d_name, &st);
        journal_known(id, ent->d_name, n->id);
        int fd = S_ISDIR(st.st_mode) ? openat(dirfd(d), ent->d_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
        if (fd >= 0)
            know_all(fd, n->id);
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
                                                  .setxattr = do_setxattr,
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
    know_all(openat(live, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), know(live, ".", &st)->id);
    argv[3] = argv[0];
    return fuse_main(argc - 3, argv + 3, &operations, NULL);
}
