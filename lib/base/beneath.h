/* Ways into directories that somebody else can write to. Nothing here follows a symbolic link, at any step of a path, nor leaves
 * the directory it starts from; owner and mode are changed by descriptor only (scripts/lint refuses the calls by name elsewhere).
 */
#ifndef SIMBDP_BASE_BENEATH_H
#define SIMBDP_BASE_BENEATH_H

#include <stdint.h>
#include <sys/types.h>

/* As openat(2), always with O_CLOEXEC and O_NOCTTY. `path` is relative. A descriptor or -errno; -ELOOP: a link was met, -EXDEV: the
 * path leaves dirfd. Does not wait for a FIFO's other end when flags has O_NONBLOCK. By openat2(2), step by step where the kernel
 * has none (before 5.6). */
int beneath_open(int dirfd, const char *path, int flags, mode_t mode);

/* The same of an absolute path: no part of it may be a link. */
int beneath_root(const char *path, int flags);

/* Gives an existing directory this owner and group (-1: it keeps what it has) and this mode, setgid and sticky bits included. 0 or
 * -errno. */
int beneath_own_dir(int dirfd, const char *path, int64_t uid, int64_t gid, mode_t mode);

/* Makes that user the owner of a program's directory and of the files and directories in it. They may have had another owner: the
 * program ran with another uid before, or a backup was restored. Files that have a second name (hard link) elsewhere are left
 * alone. 0 or -errno. */
int beneath_give(int dirfd, int64_t uid);

/* Takes from an existing directory the mode bits that are not in `most`, if the directory is ours. 0 or -errno. */
int beneath_narrow_dir(int dirfd, const char *path, mode_t most);

#endif
