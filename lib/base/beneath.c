#include "beneath.h"
#include "fd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int walk(int dirfd, const char *path, int flags, mode_t mode)
{
    char copy[PATH_MAX];
    AUTO_FD int at = -1;
    if ((size_t)snprintf(copy, sizeof copy, "%s", path) >= sizeof copy)
        return -ENAMETOOLONG;
    if (*path == '/')
        return -EXDEV;
    char *part = copy;
    for (char *slash; (slash = strchr(part, '/')); part = slash + 1) {
        *slash = 0;
        if (!strcmp(part, ".."))
            return -EXDEV;
        if (!*part || !strcmp(part, "."))
            continue;
        int next = openat(at < 0 ? dirfd : at, part, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (next < 0)
            return errno == ENOTDIR ? -ELOOP : -errno;
        if (at >= 0)
            close(at);
        at = next;
    }
    if (!strcmp(part, ".."))
        return -EXDEV;
    int fd = openat(at < 0 ? dirfd : at, *part ? part : ".", flags | O_NOFOLLOW, mode);
    return fd < 0 ? -errno : fd;
}

int beneath_open(int dirfd, const char *path, int flags, mode_t mode)
{
    flags |= O_CLOEXEC | (flags & O_PATH ? 0 : O_NOCTTY);
    struct open_how how = {.flags = (unsigned)flags,
                           .mode = flags & O_CREAT ? mode : 0,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    int fd;
    do
        fd = (int)syscall(SYS_openat2, dirfd, path, &how, sizeof how);
    while (fd < 0 && errno == EAGAIN);                 /* a rename raced with us: once more */
    if (fd < 0 && (errno == ENOSYS || errno == EPERM)) /* EPERM: a container's filter that does not know it */
        return walk(dirfd, path, flags, mode);
    return fd < 0 ? -errno : fd;
}

int beneath_root(const char *path, int flags)
{
    AUTO_FD int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return root < 0 ? -errno : beneath_open(root, path + strspn(path, "/"), flags, 0);
}

static int own(int fd, int64_t uid, int64_t gid, mode_t mode)
{
    if ((uid >= 0 || gid >= 0) && fchown(fd, (uid_t)uid, (gid_t)gid) < 0)
        return -errno;
    return fchmod(fd, mode) < 0 ? -errno : 0; /* behind chown, which clears setuid and setgid */
}

int beneath_own_dir(int dirfd, const char *path, int64_t uid, int64_t gid, mode_t mode)
{
    AUTO_FD int fd = beneath_open(dirfd, path, O_RDONLY | O_DIRECTORY | O_NONBLOCK, 0);
    return fd < 0 ? fd : own(fd, uid, gid, mode);
}

static int give(int dirfd, const char *name, int64_t uid)
{
    struct stat st;
    AUTO_FD int fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (S_ISDIR(st.st_mode)) {
        AUTO_FD int dir = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return dir < 0 ? -errno : beneath_give(dir, uid);
    }
    if (!S_ISREG(st.st_mode) || st.st_nlink != 1 || st.st_uid == (uid_t)uid)
        return 0;
    return fchownat(fd, "", (uid_t)uid, (gid_t)uid, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

int beneath_give(int dirfd, int64_t uid)
{
    int r = fchown(dirfd, (uid_t)uid, (gid_t)uid) < 0 ? -errno : 0;
    DIR *d = r < 0 ? NULL : fd_open_dir(dirfd, ".");
    for (struct dirent *ent; r == 0 && d && (ent = readdir(d));)
        if (strcmp(ent->d_name, ".") != 0 && strcmp(ent->d_name, "..") != 0)
            r = give(dirfd, ent->d_name, uid);
    if (d)
        closedir(d);
    return r;
}

int beneath_narrow_dir(int dirfd, const char *path, mode_t most)
{
    struct stat st;
    AUTO_FD int fd = beneath_open(dirfd, path, O_RDONLY | O_DIRECTORY | O_NONBLOCK, 0);
    if (fd < 0 || fstat(fd, &st) < 0)
        return fd < 0 ? fd : -errno;
    bool wide = (st.st_mode & 07777 & ~most) != 0;
    return wide && st.st_uid == geteuid() && fchmod(fd, st.st_mode & most) < 0 ? -errno : 0;
}
