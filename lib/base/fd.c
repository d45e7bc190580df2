#include "fd.h"
#include "privs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

enum { MAX_FDS = 4, LISTEN_BACKLOG = 1024 };

int fd_take(int *fd)
{
    int taken = *fd;
    *fd = -1;
    return taken;
}

void fd_raise_limit(void)
{
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
        l.rlim_cur = l.rlim_max;
        setrlimit(RLIMIT_NOFILE, &l);
    }
}

void fd_set_nonblock(int fd)
{
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

int fd_write_all(int fd, const void *p, size_t n)
{
    const char *at = p;
    while (n) {
        ssize_t w = write(fd, at, n);
        if (w < 0) {
            if (errno == EINTR)
                continue;
            return -errno;
        }
        at += w;
        n -= (size_t)w;
    }
    return 0;
}

int fd_read_all(int fd, struct buf *b, size_t max)
{
    enum { PIECE = 65536 };
    struct stat st;
    size_t start = b->n, piece = PIECE;
    if (fstat(fd, &st) == 0 && st.st_size > 0 && st.st_size < PIECE)
        piece = (size_t)st.st_size + 1; /* the end is seen at once */
    for (;; piece = PIECE) {
        buf_reserve(b, piece);
        ssize_t r = read(fd, b->p + b->n, piece);
        if (r < 0) {
            if (errno == EINTR)
                continue;
            return -errno;
        }
        b->n += (size_t)r;
        b->p[b->n] = 0;
        if (b->n - start > max)
            return ERR_LIMIT;
        if (r == 0 || (piece < PIECE && (size_t)r < piece))
            return 0;
    }
}

int fd_read_file(int dirfd, const char *path, struct buf *b, size_t max, struct err *e)
{
    AUTO_FD int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, -errno, "cannot open %s", path);
    int r = fd_read_all(fd, b, max);
    return r < 0 ? err_sys(e, r, "cannot read %s", path) : 0;
}

int fd_sync_dir(int dirfd, const char *path)
{
    AUTO_FD int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    return fsync(fd) < 0 ? -errno : 0;
}

int fd_write_file(int dirfd, const char *path, const void *p, size_t n, mode_t mode, struct err *e)
{
    char tmp[PATH_MAX], parent[PATH_MAX];
    if ((size_t)snprintf(tmp, sizeof tmp, "%s.tmp", path) >= sizeof tmp)
        return err_sys(e, -ENAMETOOLONG, "cannot write %s", path);
    AUTO_FD int fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, mode);
    int r = fd < 0 ? -errno : fd_write_all(fd, p, n);
    if (r == 0 && (fchmod(fd, mode) < 0 || fsync(fd) < 0 || renameat(dirfd, tmp, dirfd, path) < 0))
        r = -errno;
    if (r < 0) {
        unlinkat(dirfd, tmp, 0);
        return err_sys(e, r, "cannot write %s", path);
    }
    snprintf(parent, sizeof parent, "%s", path);
    char *slash = strrchr(parent, '/');
    if (slash)
        *slash = 0;
    r = fd_sync_dir(dirfd, slash ? (slash == parent ? "/" : parent) : ".");
    return r < 0 ? err_sys(e, r, "cannot sync the directory of %s", path) : 0;
}

int fd_append_file(int dirfd, const char *dir, const char *name, const void *p, size_t n, mode_t mode)
{
    char path[PATH_MAX];
    if ((size_t)snprintf(path, sizeof path, "%s/%s", dir, name) >= sizeof path)
        return -ENAMETOOLONG;
    int r = fd_mkdirs(dirfd, dir, 0755);
    AUTO_FD int fd = openat(dirfd, path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, mode);
    if (fd < 0)
        return r < 0 ? r : -errno;
    return fd_write_all(fd, p, n);
}

bool fd_rotate(int dirfd, const char *path, int64_t max_bytes)
{
    char old[PATH_MAX];
    struct stat st;
    return fstatat(dirfd, path, &st, 0) == 0 && st.st_size > max_bytes &&
           (size_t)snprintf(old, sizeof old, "%s.1", path) < sizeof old && renameat(dirfd, path, dirfd, old) == 0;
}

int fd_mkdirs(int dirfd, const char *path, mode_t mode)
{
    char part[PATH_MAX];
    if ((size_t)snprintf(part, sizeof part, "%s", path) >= sizeof part)
        return -ENAMETOOLONG;
    for (char *p = part + 1;; p++) {
        if (*p && *p != '/')
            continue;
        char c = *p;
        *p = 0;
        if (mkdirat(dirfd, part, mode) < 0 && errno != EEXIST)
            return -errno;
        if (!c)
            return 0;
        *p = c;
    }
}

int fd_open_regular(const char *path, struct stat *ret)
{
    char self[64];
    AUTO_FD int at = open(path, O_PATH | O_CLOEXEC);
    if (at < 0 || fstat(at, ret) < 0)
        return -errno;
    if (!S_ISREG(ret->st_mode))
        return -EINVAL;
    snprintf(self, sizeof self, "/proc/self/fd/%d", at);
    int fd = open(self, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

bool fd_is_shortage(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOMEM;
}

bool fd_exists(int dirfd, const char *path)
{
    struct stat st;
    return fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

bool fd_is_gone(int dirfd, const char *path)
{
    return !fd_exists(dirfd, path) && errno == ENOENT;
}

static bool is_dot(const char *name)
{
    return !strcmp(name, ".") || !strcmp(name, "..");
}

DIR *fd_open_dir(int dirfd, const char *name)
{
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d && fd >= 0)
        close(fd);
    return d;
}

struct dirent *fd_next_name(DIR *d, int *ret_error)
{
    struct dirent *ent;
    do
        errno = 0;
    while ((ent = readdir(d)) && is_dot(ent->d_name));
    if (!ent && errno)
        *ret_error = -errno;
    return ent;
}

/* A directory that its owner closed to himself (mode 000, say) is opened for removal. Root does not need this. */
static void unlock_dir(int dirfd, const char *name)
{
    struct stat st;
    AUTO_FD int fd = privs_is_root() ? -1 : openat(dirfd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    char self[64];
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    if (fd >= 0 && fstat(fd, &st) == 0 && (st.st_mode & 0700) != 0700 && chmod(self, 0700) < 0) /* lint: by descriptor */
        return;
}

/* From here on nobody can add to the directory, not even a process that has it open or works in it. Without that the removal of a
 * tree might never end. */
static void take_dir(int fd)
{
    struct stat st;
    if (!privs_is_root() || fstat(fd, &st) < 0)
        return;
    if ((st.st_uid != geteuid() && fchown(fd, geteuid(), (gid_t)-1) < 0) || ((st.st_mode & 0022) && fchmod(fd, 0700) < 0))
        return;
}

static int remove_flat(int dirfd, const char *name)
{
    return unlinkat(dirfd, name, 0) == 0 || unlinkat(dirfd, name, AT_REMOVEDIR) == 0 || errno == ENOENT ? 0 : -errno;
}

/* Removes what is in top/name, except directories that are not empty: those are moved to `top`, under names of ours. */
static int flatten(int top, const char *name, const atomic_bool *stop)
{
    static atomic_uint counter;
    int r = 0;
    unlock_dir(top, name);
    DIR *d = fd_open_dir(top, name);
    if (!d)
        return -errno;
    take_dir(dirfd(d));
    for (struct dirent *ent; !(stop && *stop) && (ent = readdir(d));) {
        if (is_dot(ent->d_name) || remove_flat(dirfd(d), ent->d_name) == 0)
            continue;
        char to[48];
        do
            snprintf(to, sizeof to, ".rm-%d-%u", (int)getpid(), atomic_fetch_add(&counter, 1));
        while (fd_exists(top, to));
        unlock_dir(dirfd(d), ent->d_name); /* moving a directory changes its "..", which needs this */
        if (renameat(dirfd(d), ent->d_name, top, to) < 0)
            r = -errno;
    }
    closedir(d);
    int own = remove_flat(top, name);
    return r < 0 ? r : own;
}

int fd_empty_dir(int dirfd, const atomic_bool *stop)
{
    int failed = 0;
    for (bool progress = true; progress && !(stop && *stop);) {
        DIR *d = fd_open_dir(dirfd, ".");
        if (!d)
            return -errno;
        progress = false;
        failed = 0;
        for (struct dirent *ent; !(stop && *stop) && (ent = readdir(d));) {
            if (is_dot(ent->d_name))
                continue;
            int r = remove_flat(dirfd, ent->d_name);
            if (r < 0)
                r = flatten(dirfd, ent->d_name, stop);
            progress |= r == 0;
            if (r < 0)
                failed = r;
        }
        closedir(d);
    }
    return stop && *stop ? -ECANCELED : failed;
}

int fd_remove_tree(int dirfd, const char *name)
{
    if (remove_flat(dirfd, name) == 0)
        return 0;
    unlock_dir(dirfd, name);
    AUTO_FD int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    take_dir(fd);
    int r = fd_empty_dir(fd, NULL), own = remove_flat(dirfd, name);
    return r < 0 ? r : own;
}

int fd_send(int sock, const void *p, size_t n, const int *fds, size_t n_fds)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(MAX_FDS * sizeof(int))];
    } control = {0};
    struct iovec iov = {(void *)p, n};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n_fds > MAX_FDS)
        return -EINVAL;
    if (n_fds) {
        msg.msg_control = control.space;
        msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
    }
    ssize_t w;
    do
        w = sendmsg(sock, &msg, MSG_NOSIGNAL);
    while (w < 0 && errno == EINTR);
    return w < 0 ? -errno : (size_t)w == n ? 0 : -EMSGSIZE;
}

ssize_t fd_recv(int sock, void *p, size_t n, int *fds, size_t max_fds, size_t *ret_n_fds)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(MAX_FDS * sizeof(int))];
    } control;
    struct iovec iov = {p, n};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
    ssize_t r;
    do
        r = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
    while (r < 0 && errno == EINTR);
    if (r < 0)
        return -errno;
    size_t got = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
            if (got < max_fds)
                fds[got++] = fd;
            else
                close(fd);
        }
    }
    if (ret_n_fds)
        *ret_n_fds = got;
    return r;
}

static int unix_address(const char *path, struct sockaddr_un *ret)
{
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof ret->sun_path)
        return -ENAMETOOLONG;
    strcpy(ret->sun_path, path);
    return 0;
}

int fd_unix_listen(const char *path, mode_t mode)
{
    struct sockaddr_un sa;
    int r = unix_address(path, &sa);
    if (r < 0)
        return r;
    AUTO_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    unlink(path);
    /* bind gives the name its mode, by the umask. chmod by name would follow a link that somebody puts there meanwhile. */
    r = fchmod(fd, mode) < 0 ? -errno : 0;
    mode_t mask = umask(0);
    if (r == 0 && (bind(fd, (struct sockaddr *)&sa, sizeof sa) < 0 || listen(fd, LISTEN_BACKLOG) < 0))
        r = -errno;
    umask(mask);
    return r < 0 ? r : fd_take(&fd);
}

int fd_unix_connect(const char *path, bool wait)
{
    struct sockaddr_un sa;
    int r = unix_address(path, &sa);
    if (r < 0)
        return r;
    AUTO_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (wait ? 0 : SOCK_NONBLOCK), 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&sa, sizeof sa) < 0)
        return -errno;
    return fd_take(&fd);
}
