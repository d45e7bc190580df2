/* Descriptors and files. Every descriptor made here is close-on-exec. */
#ifndef SIMBDP_BASE_FD_H
#define SIMBDP_BASE_FD_H

#include "buf.h"
#include "err.h"

#include <dirent.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static inline void fd_cleanup(const int *fd)
{
    if (*fd >= 0)
        close(*fd);
}
#define AUTO_FD __attribute__((cleanup(fd_cleanup)))

int fd_take(int *fd); /* gives *fd and leaves -1 there */
void fd_set_nonblock(int fd);
/* As many descriptors as this process may have. */
void fd_raise_limit(void);

/* Whole writes; retries short ones and EINTR. 0 or -errno. */
int fd_write_all(int fd, const void *p, size_t n);

/* Appends up to max bytes of a file to b; ERR_LIMIT when the file is longer. Blocks. */
int fd_read_all(int fd, struct buf *b, size_t max);
int fd_read_file(int dirfd, const char *path, struct buf *b, size_t max, struct err *e);

/* Durable and atomic: writes PATH.tmp, fsyncs it, renames it, fsyncs the directory. 0 or -errno. Blocks. */
int fd_write_file(int dirfd, const char *path, const void *p, size_t n, mode_t mode, struct err *e);

/* Adds bytes to the end of DIR/NAME, which are made if need be (mode: of the file). 0 or -errno. */
int fd_append_file(int dirfd, const char *dir, const char *name, const void *p, size_t n, mode_t mode);
/* Renames a file of more than max_bytes to PATH.1, which is replaced. False: it is smaller, there is none, or it cannot be. */
bool fd_rotate(int dirfd, const char *path, int64_t max_bytes);

int fd_sync_dir(int dirfd, const char *path);

/* mkdir -p below dirfd; existing directories are left as they are. */
int fd_mkdirs(int dirfd, const char *path, mode_t mode);

/* To read a regular file at a path whose last parts may be somebody else's: a device or FIFO there is not opened. A descriptor and
 * its state, or -errno (-EINVAL: it is something else). */
int fd_open_regular(const char *path, struct stat *ret);

/* Something is there, be it a link that leads nowhere. Unlike access(2) it does not forget capabilities. */
bool fd_exists(int dirfd, const char *path);
/* Nothing is there, for certain: not when it cannot be told. */
bool fd_is_gone(int dirfd, const char *path);

/* To list a directory; never through a link. NULL: errno says why. */
DIR *fd_open_dir(int dirfd, const char *name);

/* Removes a tree without following links or crossing into mounts; ENOENT is success. 0: nothing of it is left; else the last
 * -errno. Trees of any depth: three descriptors and no stack, since what is not empty is moved up before its parent goes. What is
 * removed by root is root's before, so that whoever works in it cannot add to it for ever. */
int fd_remove_tree(int dirfd, const char *name);

/* The same for all that a directory holds. Ends with -ECANCELED soon after *stop (NULL: none) is set. */
int fd_empty_dir(int dirfd, const atomic_bool *stop);

/* Sends bytes with up to 4 descriptors over a Unix socket; receives likewise. fd_recv returns the byte count, 0 on end
 * of stream, or -errno; descriptors beyond max_fds are closed. */
int fd_send(int sock, const void *p, size_t n, const int *fds, size_t n_fds);
ssize_t fd_recv(int sock, void *p, size_t n, int *fds, size_t max_fds, size_t *ret_n_fds);

/* Unix stream sockets. The path may be at most 107 bytes; -ENAMETOOLONG otherwise. */
int fd_unix_listen(const char *path, mode_t mode);
/* Connects to a listener. wait: blocks while as many wait already as it allows; else -EAGAIN then, and the descriptor does not
 * block either. */
int fd_unix_connect(const char *path, bool wait);

#endif
