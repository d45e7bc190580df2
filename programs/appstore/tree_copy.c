#include "tree_copy.h"

#include "base/beneath.h"
#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

enum { BLOCK_BYTES = 1 << 20 };

static int count_file(struct tree_copy *c, struct err *e)
{
    return ++c->files > c->max_files
               ? err_refuse(e, "max_app_files", 0, "it has more than %lld files and directories", (long long)c->max_files)
               : 0;
}

static bool begins_as_executable(const char *p, size_t n)
{
    return (n >= 4 && !memcmp(p, "\177ELF", 4)) || (n >= 3 && !memcmp(p, "#!", 2));
}

static int copy_bytes(struct tree_copy *c, int from, int to, bool *ret_executable, struct err *e)
{
    AUTO_FREE char *block = xmalloc(BLOCK_BYTES);
    bool first = true;
    for (;;) {
        ssize_t n = read(from, block, BLOCK_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(e, -errno, "cannot read what was unpacked");
        if (n == 0)
            return 0;
        if (first)
            *ret_executable |= begins_as_executable(block, (size_t)n);
        first = false;
        c->bytes += n;
        if (c->bytes > c->max_bytes)
            return err_refuse(e, "max_app_bytes", 0, "unpacked it has more than %lld bytes", (long long)c->max_bytes);
        int r = fd_write_all(to, block, (size_t)n);
        if (r < 0)
            return err_sys(e, r, "cannot write");
    }
}

int tree_copy_file(struct tree_copy *c, int from, int to, const char *path, struct err *e)
{
    struct stat st;
    int r = count_file(c, e);
    if (r < 0)
        return r;
    if (fstat(from, &st) < 0)
        return err_sys(e, -errno, "cannot look at %s", path);
    bool executable = st.st_mode & 0100;
    AUTO_FD int fd = beneath_open(to, path, O_WRONLY | O_CREAT | O_EXCL, 0644);
    if (fd < 0)
        return err_sys(e, fd, "cannot make %s", path);
    r = copy_bytes(c, from, fd, &executable, e);
    return r == 0 && fchmod(fd, executable ? 0755 : 0644) < 0 ? err_sys(e, -errno, "cannot make %s executable", path) : r;
}

static int copy_dir(struct tree_copy *c, int from, int to, int depth, struct err *e);

static int copy_entry(struct tree_copy *c, int from, int to, const char *name, int depth, struct err *e)
{
    struct stat st;
    if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_sys(e, -errno, "cannot look at what was unpacked");
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        return err_refuse(e, "archive", 0, "there is something else than files and directories in it");
    AUTO_FD int fd = beneath_open(from, name, O_RDONLY | O_NONBLOCK | (S_ISDIR(st.st_mode) ? O_DIRECTORY : 0), 0);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(e, fd < 0 ? fd : -errno, "cannot open what was unpacked");
    if (S_ISREG(st.st_mode))
        return tree_copy_file(c, fd, to, name, e);
    if (!S_ISDIR(st.st_mode))
        return err_refuse(e, "archive", 0, "there is something else than files and directories in it");
    int r = count_file(c, e);
    if (r < 0)
        return r;
    if (mkdirat(to, name, 0755) < 0)
        return err_sys(e, -errno, "cannot make %s", name);
    AUTO_FD int sub = beneath_open(to, name, O_RDONLY | O_DIRECTORY, 0);
    return sub < 0 ? err_sys(e, sub, "cannot open %s", name) : copy_dir(c, fd, sub, depth + 1, e);
}

static int copy_dir(struct tree_copy *c, int from, int to, int depth, struct err *e)
{
    int r = 0;
    if (depth > TREE_COPY_DEPTH_MAX)
        return err_refuse(e, "archive", 0, "its directories are deeper than %d", TREE_COPY_DEPTH_MAX);
    DIR *d = fd_open_dir(from, ".");
    if (!d)
        return err_sys(e, -errno, "cannot list what was unpacked");
    int unread = 0;
    for (struct dirent *ent; r == 0 && (ent = fd_next_name(d, &unread));)
        r = copy_entry(c, from, to, ent->d_name, depth, e);
    closedir(d);
    return r == 0 && unread < 0 ? err_sys(e, unread, "cannot list what was unpacked") : r;
}

int tree_copy(struct tree_copy *c, int from, int to, struct err *e)
{
    return copy_dir(c, from, to, 0, e);
}
