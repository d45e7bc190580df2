#include "pack.h"

#include "base/fd.h"
#include "base/mem.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { CHUNK = 1 << 16, MAX_DEPTH = 64 };

struct pack {
    struct archive *a;
    const char *root;
    char real[PATH_MAX]; /* the same without links */
    struct err *e;
};

static int failed(struct pack *p)
{
    return err_set(p->e, -EIO, "cannot pack %s: %s", p->root, archive_error_string(p->a));
}

/* Exactly as many bytes as its header says. */
static int add_bytes(struct pack *p, int fd, const char *name, int64_t size)
{
    AUTO_FREE char *chunk = xmalloc(CHUNK);
    for (int64_t left = size; left > 0;) {
        ssize_t n = read(fd, chunk, left < CHUNK ? (size_t)left : CHUNK);
        if (n <= 0)
            return n < 0 ? err_sys(p->e, -errno, "cannot read %s/%s", p->root, name)
                         : err_set(p->e, -EIO, "%s/%s became shorter while it was packed", p->root, name);
        if (archive_write_data(p->a, chunk, (size_t)n) != n)
            return failed(p);
        left -= n;
    }
    return 0;
}

static int add_header(struct pack *p, const char *name, const struct stat *st)
{
    struct archive_entry *entry = archive_entry_new();
    if (!entry)
        mem_exhausted();
    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, st->st_mode & S_IFMT);
    archive_entry_set_perm(entry, st->st_mode & 0755);
    archive_entry_set_size(entry, S_ISREG(st->st_mode) ? st->st_size : 0);
    archive_entry_set_mtime(entry, st->st_mtime, 0);
    int r = archive_write_header(p->a, entry) == ARCHIVE_OK ? 0 : failed(p);
    archive_entry_free(entry);
    return r;
}

static int add_directory(struct pack *p, int dirfd, const char *name, int depth);

static int add_file(struct pack *p, int dirfd, const char *last, const char *name)
{
    struct stat st;
    AUTO_FD int fd = openat(dirfd, last, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(p->e, -errno, "cannot read %s/%s", p->root, name);
    if (!S_ISREG(st.st_mode))
        return err_set(p->e, -EINVAL, "%s/%s is another file now", p->root, name);
    int r = add_header(p, name, &st);
    return r < 0 ? r : add_bytes(p, fd, name, st.st_size);
}

/* The platform takes no links: the file that it leads to, where that is in the directory, too. */
static int add_linked(struct pack *p, const char *name)
{
    struct stat st;
    char to[PATH_MAX];
    AUTO_FREE char *path = xasprintf("%s/%s", p->real, name);
    size_t n = strlen(p->real);
    if (!realpath(path, to))
        return err_sys(p->e, -errno, "%s/%s is a link", p->root, name);
    if (strncmp(to, p->real, n) != 0 || to[n] != '/')
        return err_set(p->e, ERR_REFUSED, "%s/%s is a link that leads out of it; put a copy of the file there", p->root, name);
    if (lstat(to, &st) < 0 || !S_ISREG(st.st_mode))
        return err_set(p->e, ERR_REFUSED, "%s/%s is a link to what is no file; put a copy there", p->root, name);
    return add_file(p, AT_FDCWD, to, name);
}

static int add(struct pack *p, int dirfd, const char *last, const char *name, int depth)
{
    struct stat st;
    if (fstatat(dirfd, last, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_sys(p->e, -errno, "%s/%s", p->root, name);
    if (S_ISREG(st.st_mode))
        return add_file(p, dirfd, last, name);
    if (S_ISLNK(st.st_mode))
        return add_linked(p, name);
    if (!S_ISDIR(st.st_mode))
        return err_set(p->e, -EINVAL, "%s/%s is neither file, directory nor link; leave it out", p->root, name);
    int r = add_header(p, name, &st);
    AUTO_FD int fd = openat(dirfd, last, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (r == 0 && fd < 0)
        r = err_sys(p->e, -errno, "cannot read %s/%s", p->root, name);
    return r < 0 ? r : add_directory(p, fd, name, depth + 1);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_wanted(const struct dirent *d)
{
    return strcmp(d->d_name, ".") && strcmp(d->d_name, "..") && strcmp(d->d_name, ".git");
}

static int add_directory(struct pack *p, int dirfd, const char *name, int depth)
{
    struct dirent **all = NULL;
    int r = depth > MAX_DEPTH ? err_set(p->e, ERR_LIMIT, "%s/%s lies too deep", p->root, name) : 0;
    int n = r < 0 ? 0 : scandirat(dirfd, ".", &all, is_wanted, by_name);
    if (n < 0)
        r = err_sys(p->e, -errno, "cannot read %s/%s", p->root, name);
    for (int i = 0; i < n; i++) {
        AUTO_FREE char *path = *name ? xasprintf("%s/%s", name, all[i]->d_name) : xstrdup(all[i]->d_name);
        if (r == 0)
            r = add(p, dirfd, all[i]->d_name, path, depth);
        free(all[i]);
    }
    free(all);
    return r;
}

/* A gzip header has a time, too: it is left out. */
static int begin(struct pack *p, int fd)
{
    return archive_write_set_format_pax_restricted(p->a) == ARCHIVE_OK && archive_write_add_filter_gzip(p->a) == ARCHIVE_OK &&
                   archive_write_set_filter_option(p->a, "gzip", "timestamp", NULL) == ARCHIVE_OK &&
                   archive_write_open_fd(p->a, fd) == ARCHIVE_OK
               ? 0
               : failed(p);
}

/* Below TMPDIR, since it may be large. */
static int nameless_file(struct err *e)
{
    const char *dir = getenv("TMPDIR");
    int fd = open(dir && *dir ? dir : "/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        fd = memfd_create("app", MFD_CLOEXEC);
    return fd < 0 ? err_sys(e, -errno, "cannot make a temporary file (TMPDIR)") : fd;
}

int pack_directory(const char *path, struct err *e)
{
    AUTO_FD int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return err_sys(e, -errno, "cannot read %s", path);
    AUTO_FD int fd = nameless_file(e);
    if (fd < 0)
        return fd;
    struct pack p = {.a = archive_write_new(), .root = path, .e = e};
    if (!p.a)
        mem_exhausted();
    int r = realpath(path, p.real) ? begin(&p, fd) : err_sys(e, -errno, "%s", path);
    if (r == 0)
        r = add_directory(&p, dir, "", 0);
    if (r == 0 && archive_write_close(p.a) != ARCHIVE_OK)
        r = failed(&p);
    archive_write_free(p.a);
    return r < 0 ? r : fd_take(&fd);
}
