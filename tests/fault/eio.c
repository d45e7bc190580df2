/* Preloaded into a program, makes its disk fail: while the first byte of the file EIO_WHEN is 1, what is written or synced below
 * EIO_UNDER (a directory, ending with a slash) is EIO, as of a device that is dying; with EIO_READS set, what is read from there,
 * too. Where a filter forbids to ask for a descriptor's name, every regular file is one from there. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static volatile const char *when = "0";

__attribute__((constructor)) static void map_when(void)
{
    int fd = open(getenv("EIO_WHEN") ? getenv("EIO_WHEN") : "", O_RDONLY | O_CLOEXEC);
    void *p = fd < 0 ? MAP_FAILED : mmap(NULL, 1, PROT_READ, MAP_SHARED, fd, 0);
    when = p == MAP_FAILED ? when : p;
    close(fd);
}

static int fails(int fd)
{
    char link[64], path[PATH_MAX];
    struct stat st;
    int kept = errno;
    if (*when != '1' || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        errno = kept;
        return 0;
    }
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = 0;
    int r = n < 0 || !strncmp(path, getenv("EIO_UNDER"), strlen(getenv("EIO_UNDER")));
    errno = r ? EIO : kept;
    return r;
}

static void *real(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

#define WRITES(type, name, params, args)                                                                                           \
    type name params                                                                                                               \
    {                                                                                                                              \
        return fails(fd) ? (type)-1 : ((type(*) params)real(#name))args;                                                           \
    }
#define READS(type, name, params, args)                                                                                            \
    type name params                                                                                                               \
    {                                                                                                                              \
        return getenv("EIO_READS") && fails(fd) ? (type)-1 : ((type(*) params)real(#name))args;                                    \
    }

WRITES(ssize_t, write, (int fd, const void *p, size_t n), (fd, p, n))
WRITES(ssize_t, pwrite, (int fd, const void *p, size_t n, off_t at), (fd, p, n, at))
WRITES(ssize_t, pwrite64, (int fd, const void *p, size_t n, off_t at), (fd, p, n, at))
WRITES(ssize_t, writev, (int fd, const struct iovec *v, int n), (fd, v, n))
WRITES(int, ftruncate, (int fd, off_t n), (fd, n))
WRITES(int, ftruncate64, (int fd, off_t n), (fd, n))
WRITES(int, fsync, (int fd), (fd))
WRITES(int, fdatasync, (int fd), (fd))
READS(ssize_t, read, (int fd, void *p, size_t n), (fd, p, n))
READS(ssize_t, pread, (int fd, void *p, size_t n, off_t at), (fd, p, n, at))
READS(ssize_t, pread64, (int fd, void *p, size_t n, off_t at), (fd, p, n, at))
