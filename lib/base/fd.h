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

int fd_take(int *fd); /* returns *fd and sets it to -1: the caller owns it */
void fd_set_nonblock(int fd);
/* Raises this process' limit of descriptors as far as the host allows. */
void fd_raise_limit(void);

/* Whole writes; retries short ones and EINTR. 0 or -errno. */
int fd_write_all(int fd, const void *p, size_t n);

/* Appends up to max bytes of a file to b; ERR_LIMIT when the file is longer. Blocks. */
int fd_read_all(int fd, struct buf *b, size_t max);
int fd_read_file(int dirfd, const char *path, struct buf *b, size_t max, struct err *e);

/* Durable and atomic: writes PATH.tmp, fsyncs it, renames it, fsyncs the directory. 0 or -errno. Blocks. */
int fd_write_file(int dirfd, const char *path, const void *p, size_t n, mode_t mode, struct err *e);

/* Appends bytes to DIR/NAME; directory and file are made if need be (mode: of the file). 0 or -errno. */
int fd_append_file(int dirfd, const char *dir, const char *name, const void *p, size_t n, mode_t mode);
/* Renames a file that is larger than max_bytes to PATH.1, replacing that. False: it is not larger, is not there, or cannot be
 * renamed. */
bool fd_rotate(int dirfd, const char *path, int64_t max_bytes);

int fd_sync_dir(int dirfd, const char *path);

/* mkdir -p below dirfd; existing directories are left as they are. */
int fd_mkdirs(int dirfd, const char *path, mode_t mode);

/* Opens a regular file for reading where the last parts of its path may be somebody else's: a device or FIFO there is not opened. A
 * descriptor, and the file's status in *ret; or -errno (-EINVAL: it is no regular file). */
int fd_open_regular(const char *path, struct stat *ret);

/* Whether something is there, even a link that leads nowhere. Unlike access(2) it goes by the effective ids and capabilities. */
bool fd_exists(int dirfd, const char *path);
/* Whether an errno says that descriptors or memory are lacking. It then says nothing about what was to be opened, which can be
 * tried again. */
bool fd_is_shortage(int error);
/* Whether certainly nothing is there. False also when that cannot be found out. */
bool fd_is_gone(int dirfd, const char *path);

/* Opens a directory to list it, never through a link. NULL: errno says why. */
DIR *fd_open_dir(int dirfd, const char *name);
/* The next name but for "." and "..", as readdir gives it. NULL: there is none, or the disk did not tell (*ret_error, which is not
 * changed otherwise, is -errno then): who must see all names may not take that for the end. */
struct dirent *fd_next_name(DIR *d, int *ret_error);

/* Removes a tree without following links or crossing into mounts. 0: nothing of it is left, or it was not there (ENOENT); else the
 * last -errno.
 *
 * Works for trees of any depth with three descriptors and no recursion: a directory that is not empty is moved up before its parent
 * goes. Root first becomes the owner of each directory, so that who works in it cannot go on adding to it. */
int fd_remove_tree(int dirfd, const char *name);

/* The same for everything in a directory, which itself stays. -ECANCELED soon after *stop is set (stop NULL: it cannot be). */
int fd_empty_dir(int dirfd, const atomic_bool *stop);

/* Sends bytes with up to 4 descriptors over a Unix socket; receives likewise. fd_recv returns the byte count, 0 on end
 * of stream, or -errno; descriptors beyond max_fds are closed. */
int fd_send(int sock, const void *p, size_t n, const int *fds, size_t n_fds);
ssize_t fd_recv(int sock, void *p, size_t n, int *fds, size_t max_fds, size_t *ret_n_fds);

/* Unix stream sockets. The path may be at most 107 bytes; -ENAMETOOLONG otherwise. */
int fd_unix_listen(const char *path, mode_t mode);
/* Connects to a listener. wait: blocks while the listener's backlog is full; without it that is -EAGAIN, and the descriptor is
 * non-blocking. */
int fd_unix_connect(const char *path, bool wait);

#endif
