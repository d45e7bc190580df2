/* The power goes: DURABLE/after becomes what a disk has then. */
#include "badfs.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/xattr.h>
#include <unistd.h>

static void number(const struct node *n, int dir, const char *name)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "/proc/self/fd/%d/%s", dir, name);
    if (lsetxattr(path, "trusted.badfs", &n->id, sizeof n->id, 0) < 0)
        abort();
}

static void make_file(const char *name, const struct node *n, int dir)
{
    char path[64], made[64];
    snprintf(path, sizeof path, "obj/%llu", (unsigned long long)n->id);
    snprintf(made, sizeof made, "made/%llu", (unsigned long long)n->id);
    if (linkat(durable, made, dir, name, 0) == 0) /* another name of it was there before */
        return;
    int fd = openat(durable, path, O_RDWR | (n->has_object ? 0 : O_CREAT | O_TRUNC) | O_CLOEXEC, 0600);
    if (fd < 0 || fchown(fd, n->st.st_uid, n->st.st_gid) < 0 || fchmod(fd, n->st.st_mode & 07777) < 0 ||
        renameat(durable, path, durable, made) < 0 || linkat(durable, made, dir, name, 0) < 0)
        abort();
    close(fd);
}

static void make(const char *name, struct node *n, int dir)
{
    if (S_ISDIR(n->st.st_mode)) {
        int below = mkdirat(dir, name, 0700) == 0 ? openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
        if (below < 0)
            abort();
        journal_each(n->id, make, below);
        if (fchown(below, n->st.st_uid, n->st.st_gid) < 0 || fchmod(below, n->st.st_mode & 07777) < 0)
            abort();
        close(below);
    } else if (S_ISLNK(n->st.st_mode)) {
        if (symlinkat(n->link ? n->link : "", dir, name) < 0 ||
            fchownat(dir, name, n->st.st_uid, n->st.st_gid, AT_SYMLINK_NOFOLLOW) < 0)
            abort();
    } else if (S_ISREG(n->st.st_mode)) {
        make_file(name, n, dir);
    } else if (mknodat(dir, name, n->st.st_mode, n->st.st_rdev) < 0) {
        abort();
    }
    number(n, dir, name);
}

_Noreturn void cut(const char *path)
{
    struct stat st;
    fprintf(stderr, "cut %s sync %lld, of %s\n", control->after ? "behind" : "at", (long long)control->n_syncs, path);
    if (control->keep_seed) {
        journal_keep_some();
        nodes_each(node_keep_some);
    }
    if (fstat(live, &st) < 0 || mkdirat(durable, "made", 0700) < 0)
        abort();
    make("after", node_of_live(st.st_ino), durable);
    control->is_cut = 1;
    _exit(0);
}
