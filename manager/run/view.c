/* The view of a run, in a mount namespace of its own:
 *
 *   /            the host's, read-only, without setuid and devices; or the app's image
 *   /proc        of the run's own pid namespace
 *   /dev         null zero full random urandom, shm, fd
 *   /tmp /var/tmp /dev/shm   empty; parts of one tmpfs of tmp_bytes and tmp_inodes, which is the run's memory and goes with it
 *   /run /sys    empty but for what follows; /sys/fs/cgroup the run's own groups, for programs that size themselves by them
 *   <home>       empty but for what follows: where other tenants' files would be there is nothing
 *   spec.paths   what the manager lists: this run's input, scratch, kept output, its tenant's apps, the directory of the platform's
 *                public sockets, the profile's `mounts`
 *
 * All sources are held as detached clones (open_tree) before anything is put over the host's tree; where they go is made on the
 * tmpfs by nobody but us, so that no path walked here can be bent by a tenant. Needs Linux 5.12 (mount_setattr). */
#include "view.h"

#include "common/fd.h"
#include "common/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { MAX_PATHS = 64 };

/* Where the tmpfs is while the view is made: /tmp exists everywhere, and is replaced last. */
#define BASE "/tmp"

struct view {
    const struct run_spec *s;
    char root[sizeof BASE + 8]; /* "" where the host's root stays, else where the new one is made */
    int sources[MAX_PATHS];     /* detached clones of spec.paths; -1: it is not there */
    bool is_dir[MAX_PATHS];
    int nodes[5], cpus;
    char *what;
    size_t what_size;
};

static const struct {
    const char *name;
    unsigned minor;
} nodes[] = {{"null", 3}, {"zero", 5}, {"full", 7}, {"random", 8}, {"urandom", 9}};

static int failed(struct view *v, const char *what, const char *path)
{
    int r = -errno;
    snprintf(v->what, v->what_size, "%s %s", what, path);
    return r;
}

static int clone_of(const char *path, unsigned extra)
{
    return open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | extra);
}

static int set_flags(int mount, uint64_t set)
{
    struct mount_attr a = {.attr_set = set};
    return mount_setattr(mount, "", AT_EMPTY_PATH | AT_RECURSIVE, &a, sizeof a);
}

static int attach(int mount, const char *target)
{
    return move_mount(mount, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH);
}

static uint64_t flags_of(const char *mode)
{
    return MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (strchr(mode, 'w') ? 0 : MOUNT_ATTR_RDONLY) |
           (strchr(mode, 'x') ? 0 : MOUNT_ATTR_NOEXEC);
}

static int open_sources(struct view *v)
{
    const struct run_pairs *p = &v->s->paths;
    for (size_t i = 0; i < MAX_PATHS; i++)
        v->sources[i] = -1;
    if (p->n > MAX_PATHS) {
        errno = E2BIG;
        return failed(v, "opening", "its paths");
    }
    for (size_t i = 0; i < p->n; i++) {
        struct stat st;
        v->sources[i] = clone_of(p->v[i].name, AT_RECURSIVE);
        if (v->sources[i] < 0 && errno == ENOENT)
            continue; /* an app's executable that is missing is found out by exec, in words */
        if (v->sources[i] < 0 || fstat(v->sources[i], &st) < 0 || set_flags(v->sources[i], flags_of(p->v[i].value)) < 0)
            return failed(v, "opening", p->v[i].name);
        v->is_dir[i] = S_ISDIR(st.st_mode);
    }
    for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++) {
        char path[32];
        snprintf(path, sizeof path, "/dev/%s", nodes[i].name);
        v->nodes[i] = clone_of(path, 0);
    }
    v->cpus = clone_of("/sys/devices/system/cpu", AT_RECURSIVE);
    if (v->cpus >= 0)
        set_flags(v->cpus, flags_of("r"));
    return 0;
}

/* mkdir -p below the view's root, and the last part as what is to be put over it. Existing parts are taken as they are. */
static int make_target(const char *path, bool is_dir)
{
    AUTO_FREE char *copy = xstrdup(path);
    for (char *p = copy + 1; (p = strchr(p, '/')); *p++ = '/') {
        *p = 0;
        if (mkdir(copy, 0755) < 0 && errno != EEXIST && errno != EROFS)
            return -1;
    }
    if (is_dir)
        return mkdir(copy, 0755) < 0 && errno != EEXIST && errno != EROFS ? -1 : 0;
    AUTO_FD int fd = open(copy, O_RDONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0444);
    return fd < 0 && errno != EROFS && errno != ENXIO ? -1 : 0;
}

static int put(struct view *v, int mount, const char *path, bool is_dir)
{
    AUTO_FREE char *target = xasprintf("%s%s", v->root, path);
    if (make_target(target, is_dir) < 0 || attach(mount, target) < 0)
        return failed(v, "mounting", path);
    return 0;
}

/* Puts a directory of the tmpfs at `path`. */
static int put_part(struct view *v, const char *part, const char *path, uint64_t flags)
{
    AUTO_FD int mount = clone_of(part, 0);
    if (mount < 0 || set_flags(mount, flags) < 0)
        return failed(v, "making", path);
    return put(v, mount, path, true);
}

static int make_base(struct view *v)
{
    static const struct {
        const char *path;
        mode_t mode;
    } parts[] = {{BASE "/tmp", 01777}, {BASE "/vartmp", 01777}, {BASE "/dev", 0755}, {BASE "/dev/shm", 01777},
                 {BASE "/run", 0755},  {BASE "/sys", 0755},     {BASE "/home", 0755}, {BASE "/root", 0755}};
    AUTO_FREE char *options = v->s->tmp_bytes < 0
                                  ? xasprintf("mode=0755,nr_inodes=%lld", (long long)(v->s->tmp_inodes < 0 ? 0 : v->s->tmp_inodes))
                                  : xasprintf("mode=0755,size=%lld,nr_inodes=%lld", (long long)v->s->tmp_bytes,
                                              (long long)(v->s->tmp_inodes < 0 ? 0 : v->s->tmp_inodes + 64));
    if (mount("tmpfs", BASE, "tmpfs", MS_NOSUID, options) < 0)
        return failed(v, "mounting a tmpfs at", BASE);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (mkdir(parts[i].path, 0755) < 0 || (parts[i].mode != 0755 && chmod(parts[i].path, parts[i].mode) < 0))
            return failed(v, "making", parts[i].path);
    return 0;
}

static int make_devices(struct view *v)
{
    static const char *const links[][2] = {
        {"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"}};
    for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++) {
        char path[64];
        snprintf(path, sizeof path, BASE "/dev/%s", nodes[i].name);
        if (mknod(path, S_IFCHR | 0666, makedev(1, nodes[i].minor)) == 0 && chmod(path, 0666) == 0)
            continue;
        /* Not in a user namespace: then the host's own. */
        if (v->nodes[i] < 0 || make_target(path, false) < 0 || attach(v->nodes[i], path) < 0)
            return failed(v, "making", path);
    }
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        char path[64];
        snprintf(path, sizeof path, BASE "/dev/%s", links[i][1]);
        if (symlink(links[i][0], path) < 0)
            return failed(v, "making", path);
    }
    return 0;
}

/* An image's root is put together on the tmpfs, entry by entry, so that there is room beside them for what is mounted. */
static int adopt_image(struct view *v)
{
    DIR *d = opendir(v->s->root);
    if (!d)
        return failed(v, "opening the image", v->s->root);
    int r = 0;
    for (struct dirent *ent; r == 0 && (ent = readdir(d));) {
        AUTO_FREE char *from = xasprintf("%s/%s", v->s->root, ent->d_name);
        AUTO_FREE char *to = xasprintf("/%s", ent->d_name);
        AUTO_FREE char *at = xasprintf("%s%s", v->root, to);
        char link[4096];
        struct stat st;
        if (!strcmp(ent->d_name, ".") || !strcmp(ent->d_name, "..") || lstat(from, &st) < 0)
            continue;
        if (S_ISLNK(st.st_mode)) {
            ssize_t n = readlink(from, link, sizeof link - 1);
            link[n < 0 ? 0 : n] = 0;
            if (symlink(link, at) < 0)
                r = failed(v, "making", to);
            continue;
        }
        AUTO_FD int mount = S_ISDIR(st.st_mode) || S_ISREG(st.st_mode) ? clone_of(from, 0) : -1;
        if (mount < 0)
            continue;
        r = set_flags(mount, flags_of("rx")) < 0 ? failed(v, "opening", from) : put(v, mount, to, S_ISDIR(st.st_mode));
    }
    closedir(d);
    return r;
}

static int close_host(struct view *v)
{
    struct mount_attr a = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, .propagation = MS_PRIVATE};
    return mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &a, sizeof a) < 0 ? failed(v, "making read-only", "/") : 0;
}

/* Best effort: what programs size themselves by. */
static void put_cgroups(struct view *v)
{
    static const char *const v1[] = {"memory", "cpu", "cpuacct", "cpuset", "pids"};
    const unsigned long flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
    AUTO_FREE char *base = xasprintf("%s/sys/fs/cgroup", v->root);
    if (unshare(CLONE_NEWCGROUP) < 0 || make_target(base, true) < 0 || mount("cgroup2", base, "cgroup2", flags, NULL) == 0)
        return;
    for (size_t i = 0; i < sizeof v1 / sizeof *v1; i++) {
        AUTO_FREE char *at = xasprintf("%s/%s", base, v1[i]);
        if (make_target(at, true) == 0)
            mount("cgroup", at, "cgroup", flags, v1[i]);
    }
}

static int put_system(struct view *v)
{
    AUTO_FREE char *proc = xasprintf("%s/proc", v->root);
    int r = make_devices(v);
    if (r == 0 && (make_target(proc, true) < 0 || mount("proc", proc, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0))
        r = failed(v, "mounting", "/proc");
    if (r == 0)
        r = put_part(v, BASE "/dev", "/dev", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
    if (r == 0)
        r = put_part(v, BASE "/run", "/run", flags_of("w"));
    if (r == 0)
        r = put_part(v, BASE "/sys", "/sys", flags_of("w"));
    if (r == 0 && v->cpus >= 0)
        r = put(v, v->cpus, "/sys/devices/system/cpu", true);
    if (r == 0)
        put_cgroups(v);
    return r;
}

static int put_rest(struct view *v)
{
    const struct run_pairs *p = &v->s->paths;
    AUTO_FD int home = clone_of(BASE "/home", 0), tmp = clone_of(BASE "/tmp", 0);
    if (home < 0 || tmp < 0 || set_flags(home, flags_of("w")) < 0 || set_flags(tmp, flags_of("wx")) < 0)
        return failed(v, "making", "/tmp");
    int r = put_part(v, BASE "/vartmp", "/var/tmp", flags_of("wx"));
    if (r == 0)
        r = put(v, tmp, "/tmp", true);
    for (size_t i = 0; r == 0 && i < p->n; i++) /* the provider's, under which the home may lie */
        if (v->sources[i] >= 0 && strchr(p->v[i].value, 'p'))
            r = put(v, v->sources[i], p->v[i].name, v->is_dir[i]);
    if (r == 0)
        r = put(v, home, v->s->home, true);
    for (size_t i = 0; r == 0 && i < p->n; i++)
        if (v->sources[i] >= 0 && !strchr(p->v[i].value, 'p'))
            r = put(v, v->sources[i], p->v[i].name, v->is_dir[i]);
    return r;
}

static int enter_image(struct view *v)
{
    if (chdir(v->root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return failed(v, "entering the image", v->s->root);
    return 0;
}

static int build(struct view *v)
{
    bool image = *v->s->root;
    int r = open_sources(v);
    if (r == 0)
        r = close_host(v);
    if (r == 0)
        r = make_base(v);
    if (r == 0 && image) {
        AUTO_FD int root = clone_of(BASE "/root", 0);
        strcpy(v->root, BASE "/root");
        if (root < 0 || attach(root, v->root) < 0)
            return failed(v, "mounting", v->root);
        r = adopt_image(v);
    }
    if (r == 0)
        r = put_system(v);
    if (r == 0)
        r = put_rest(v);
    return r == 0 && image ? enter_image(v) : r;
}

int view_build(const struct run_spec *s, char *what, size_t what_size)
{
    struct view v = {.s = s, .what = what, .what_size = what_size, .cpus = -1};
    int r = build(&v);
    for (size_t i = 0; i < MAX_PATHS; i++)
        if (v.sources[i] >= 0)
            close(v.sources[i]);
    for (size_t i = 0; i < sizeof v.nodes / sizeof *v.nodes; i++)
        if (v.nodes[i] >= 0)
            close(v.nodes[i]);
    if (v.cpus >= 0)
        close(v.cpus);
    return r;
}

const char *view_writable(const struct run_spec *s, size_t n)
{
    static const char *const always[] = {"/tmp", "/var/tmp", "/dev/shm", "/dev/null", "/dev/zero", "/dev/full", "/proc"};
    if (n < sizeof always / sizeof *always)
        return always[n];
    n -= sizeof always / sizeof *always;
    for (size_t i = 0; i < s->paths.n; i++)
        if (strchr(s->paths.v[i].value, 'w') && n-- == 0)
            return s->paths.v[i].name;
    return NULL;
}
