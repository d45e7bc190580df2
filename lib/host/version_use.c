#include "version_use.h"
#include "app_version.h"

#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_SIGN = 1024 };

#define SUFFIX ".lock"

/* Two versions may have one byte in theory: then one of them is taken to be in use when the other is. */
static struct flock byte_of(const char *version, short type)
{
    return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)(strtoull(version, NULL, 16) >> 2), .l_len = 1};
}

static int take(int homefd, const char *tenant, const char *app, const char *version, short type)
{
    AUTO_FREE char *path = app_version_path(tenant, app, ".use" SUFFIX);
    AUTO_FD int fd = openat(homefd, path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    struct flock lock = byte_of(version, type);
    if (fd < 0)
        return -errno;
    if (fcntl(fd, F_OFD_SETLK, &lock) < 0)
        return errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
    return fd_take(&fd);
}

static char *sign_of(const char *tenant, const char *app, const char *version)
{
    return xasprintf("version %s/%s/%s\n", tenant, app, version);
}

/* The lock on the whole file says that this is true still: the runner's other lock on it (flock) is for its manager. */
static int sign(int claim_lock, const char *tenant, const char *app, const char *version)
{
    AUTO_FREE char *text = sign_of(tenant, app, version);
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    int r = fd_write_all(claim_lock, text, strlen(text));
    return r < 0 ? r : fcntl(claim_lock, F_OFD_SETLK, &lock) < 0 ? -errno : 0;
}

int version_use_hold(int homefd, const char *tenant, const char *app, const char *version, int claim_lock)
{
    AUTO_FREE char *dir = app_version_path(tenant, app, version);
    if (!app_version_valid(version))
        return -ENOENT;
    AUTO_FD int fd = take(homefd, tenant, app, version, F_RDLCK);
    if (fd < 0)
        return fd;
    if (!fd_exists(homefd, dir)) /* looked at behind the lock: it was removed before, or will not be */
        return -ENOENT;
    int r = sign(claim_lock, tenant, app, version);
    return r < 0 ? r : fd_take(&fd);
}

int version_use_seize(const struct home *h, const char *tenant, const char *app, const char *version)
{
    return take(h->dirfd, tenant, app, version, F_WRLCK);
}

static bool says(int dirfd, const char *name, const char *text)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    AUTO_BUF struct buf b = {0};
    AUTO_FD int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    return fd >= 0 && fd_read_all(fd, &b, MAX_SIGN) == 0 && b.n == strlen(text) && !memcmp(b.p, text, b.n) &&
           fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

size_t version_use_runs(const struct home *h, const char *tenant, const char *app, const char *version,
                        char ret[VERSION_USE_MAX][ID_SIZE])
{
    AUTO_FREE char *text = sign_of(tenant, app, version);
    size_t n = 0;
    DIR *d = fd_open_dir(AT_FDCWD, h->runtime);
    for (struct dirent *ent; d && (ent = readdir(d));) {
        size_t len = strlen(ent->d_name);
        if (len != ID_SIZE - 1 + strlen(SUFFIX) || strcmp(ent->d_name + ID_SIZE - 1, SUFFIX) != 0 ||
            !says(dirfd(d), ent->d_name, text))
            continue;
        if (n < VERSION_USE_MAX) {
            memcpy(ret[n], ent->d_name, ID_SIZE - 1);
            ret[n][ID_SIZE - 1] = 0;
        }
        n++;
    }
    if (d)
        closedir(d);
    return n;
}
