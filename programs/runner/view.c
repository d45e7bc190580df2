/* The view of a run, in a mount namespace of its own:
 *
 *   /            the host's, read-only, without setuid and devices; or the spec's image, likewise, with what follows put on it
 *   /proc        of the run's own pid namespace
 *   /dev         null zero full random urandom, shm, fd
 *   /tmp /var/tmp /dev/shm   empty; parts of one tmpfs of tmp_bytes and tmp_inodes, which is the run's memory and goes with it
 *   /run /sys    empty but for what follows; /sys/fs/cgroup the run's own groups, for programs that size themselves by them
 *   <home>       empty but for what follows: where other tenants' files would be there is nothing
 *   spec.paths   what the manager lists: this run's input, scratch, kept output, its tenant's apps, the directory of the platform's
 *                public sockets, the profile's `mounts`
 *
 * It is made in two steps: what is the same for every run of a home can be made ahead, by a process that waits for its run
 * (view_prepare); what is the run's own is opened on the host's tree (view_open) and put in its place (view_finish). All sources
 * are held as detached clones (open_tree); where they go is made on the tmpfs by nobody but us, so that no path walked here can be
 * bent by a tenant. Needs Linux 5.12 (mount_setattr).
 *
 * With an image all of that is made just so, and then cloned onto another root (enter_image): an overlay of the image below and an
 * empty directory of our tmpfs above, in which the places are made that the image lacks. The image itself is never written to.
 * Its links are the tenant's: what stands in the way of a place and is no directory is hidden, never followed. */
#include "view.h"

#include "base/beneath.h"
#include "base/fd.h"
#include "base/mem.h"
#include "host/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { OWN_INODES = 256 }; /* of the tmpfs, for what we make there */

/* Where the tmpfs is while the view is made: /tmp exists everywhere, and is replaced last. */
#define BASE "/tmp"

struct view {
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

/* mkdir -p; the last part is made a directory or a file, as what is to be mounted over it. Existing parts stay as they are. */
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
    if (make_target(path, is_dir) < 0 || attach(mount, path) < 0)
        return failed(v, "mounting", path);
    return 0;
}

/* Puts a directory of the tmpfs at `path`. */
static int put_part(struct view *v, const char *part, const char *path, uint64_t flags)
{
    AUTO_FD int mount = clone_of(part, AT_RECURSIVE);
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
                 {BASE "/run", 0755},  {BASE "/sys", 0755},     {BASE "/home", 0755}};
    if (mount("tmpfs", BASE, "tmpfs", MS_NOSUID, "mode=0755") < 0)
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
        char path[64], host[64];
        snprintf(path, sizeof path, BASE "/dev/%s", nodes[i].name);
        if (mknod(path, S_IFCHR | 0666, makedev(1, nodes[i].minor)) == 0 && chmod(path, 0666) == 0)
            continue;
        /* mknod does not work in a user namespace: there the host's own nodes are mounted, which are still at their place
         * (close_host). */
        struct mount_attr open = {.attr_clr = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV};
        snprintf(host, sizeof host, "/dev/%s", nodes[i].name);
        AUTO_FD int node = clone_of(host, 0);
        if (node < 0 || mount_setattr(node, "", AT_EMPTY_PATH, &open, sizeof open) < 0 || make_target(path, false) < 0 ||
            attach(node, path) < 0)
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

static int close_host(struct view *v)
{
    struct mount_attr a = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, .propagation = MS_PRIVATE};
    return mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &a, sizeof a) < 0 ? failed(v, "making read-only", "/") : 0;
}

/* The run's own cgroups at /sys/fs/cgroup, by which the JVM, Go and others size themselves. Only in a cgroup namespace, since
 * without one other runs' groups would be seen. With v1 hierarchies this process is in the run's groups already. Best effort. */
static const unsigned long cgroup_flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;

static int make_cgroups(struct view *v)
{
    static const char *const v1[] = {"memory", "cpu", "cpuacct", "cpuset", "pids"};
    bool own[sizeof v1 / sizeof *v1];
    struct statfs fs;
    for (size_t i = 0; i < sizeof v1 / sizeof *v1; i++)
        own[i] = cgroup_is_runs(v1[i]);
    if (unshare(CLONE_NEWCGROUP) < 0)
        return failed(v, "making", "the cgroup namespace");
    if (statfs("/sys/fs/cgroup", &fs) < 0 || mkdir(BASE "/sys/fs", 0755) < 0 || mkdir(BASE "/sys/fs/cgroup", 0755) < 0)
        return 0;
    for (size_t i = 0; fs.f_type != CGROUP2_SUPER_MAGIC && i < sizeof v1 / sizeof *v1; i++) {
        char at[64];
        snprintf(at, sizeof at, BASE "/sys/fs/cgroup/%s", v1[i]);
        if (own[i] && mkdir(at, 0755) == 0 && mount("cgroup", at, "cgroup", cgroup_flags, v1[i]) < 0)
            rmdir(at);
    }
    return 0;
}

/* A v2 group can only be entered at birth, so that its namespace cannot be made ahead. */
static void finish_cgroups(void)
{
    if (access("/sys/fs/cgroup", F_OK) == 0 && access("/sys/fs/cgroup/memory", F_OK) < 0 && cgroup_is_runs(NULL) &&
        unshare(CLONE_NEWCGROUP) == 0)
        mount("cgroup2", "/sys/fs/cgroup", "cgroup2", cgroup_flags, NULL);
}

/* /dev, /run, /sys, /tmp and the empty home. */
static int put_parts(struct view *v, const char *home)
{
    AUTO_FD int cpus = clone_of("/sys/devices/system/cpu", AT_RECURSIVE), empty = clone_of(BASE "/home", 0);
    AUTO_FD int tmp = clone_of(BASE "/tmp", 0);
    if (empty < 0 || tmp < 0 || set_flags(empty, flags_of("w")) < 0 || set_flags(tmp, flags_of("wx")) < 0)
        return failed(v, "making", "/tmp");
    int r = put_part(v, BASE "/dev", "/dev", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
    if (r == 0)
        r = put_part(v, BASE "/run", "/run", flags_of("w"));
    if (r == 0)
        r = make_cgroups(v);
    if (r == 0)
        r = put_part(v, BASE "/sys", "/sys", flags_of("w"));
    if (r == 0 && cpus >= 0 && set_flags(cpus, flags_of("r")) == 0)
        r = put(v, cpus, "/sys/devices/system/cpu", true);
    if (r == 0)
        r = put_part(v, BASE "/vartmp", "/var/tmp", flags_of("wx"));
    if (r == 0)
        r = put(v, tmp, "/tmp", true); /* this hides BASE, of which everything is in place by now */
    return r == 0 ? put(v, empty, home, true) : r;
}

int view_prepare(const char *home, char *what, size_t what_size)
{
    struct view v = {.what = what, .what_size = what_size};
    int r = close_host(&v);
    if (r == 0)
        r = make_base(&v);
    if (r == 0)
        r = make_devices(&v);
    return r == 0 ? put_parts(&v, home) : r;
}

/* ---- what is the run's own ---- */

int view_scratch(const struct run_spec *s, int *ret_fd, char *what, size_t what_size)
{
    struct view v = {.what = what, .what_size = what_size};
    AUTO_FD int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
    const struct {
        const char *key;
        int64_t value;
    } options[] = {
        {"size", s->scratch_bytes}, {"nr_inodes", s->scratch_inodes + 1 /* its root */}, {"uid", s->uid}, {"gid", s->gid}};
    int r = fs < 0 ? -1 : fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0700", 0);
    if (r == 0) /* shown in the table of mounts, so that one can tell whose it is; device numbers are reused */
        r = fsconfig(fs, FSCONFIG_SET_STRING, "source", s->run_id, 0);
    for (size_t i = 0; r == 0 && i < sizeof options / sizeof *options; i++) {
        char text[24];
        snprintf(text, sizeof text, "%lld", (long long)options[i].value);
        if (options[i].value >= 0)
            r = fsconfig(fs, FSCONFIG_SET_STRING, options[i].key, text, 0);
    }
    if (r == 0)
        r = fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
    int fd = r < 0 ? -1 : fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    if (fd < 0)
        return failed(&v, "making a tmpfs for", "the working directory");
    *ret_fd = fd;
    return 0;
}

/* No part of the path is a link: what an image names is one directory, and stays it. */
static int open_image(const char *path)
{
    AUTO_FD int fd = beneath_root(path, O_PATH | O_DIRECTORY);
    if (fd < 0) {
        errno = -fd;
        return -1;
    }
    return open_tree(fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
}

int view_open(struct view_sources *ret, const struct run_spec *s, int scratch, char *what, size_t what_size)
{
    struct view v = {.what = what, .what_size = what_size};
    const struct run_pairs *p = &s->paths;
    AUTO_FREE char *hosts = xasprintf("%s/hosts", s->dir);
    AUTO_FREE char *app = xasprintf("%s/app", s->dir);
    *ret = (struct view_sources){.n = p->n, .hosts = s->own_network ? clone_of(hosts, 0) : -1, .resolv = -1, .image = -1};
    if (*s->image && (ret->image = open_image(s->image)) < 0) {
        ret->n = 0;
        return failed(&v, "opening the image", s->image);
    }
    if (*s->image && ret->hosts < 0) /* names resolve as they do without an image */
        ret->hosts = clone_of("/etc/hosts", 0);
    if (*s->image && !s->own_network)
        ret->resolv = clone_of("/etc/resolv.conf", 0);
    if (p->n > VIEW_MAX_PATHS) {
        errno = E2BIG;
        ret->n = 0;
        return failed(&v, "opening", "its paths");
    }
    for (size_t i = 0; i < p->n; i++)
        ret->fd[i] = -1;
    for (size_t i = 0; i < p->n; i++) {
        struct stat st;
        bool is_scratch = scratch >= 0 && !strcmp(p->v[i].name, app);
        ret->fd[i] = is_scratch ? fcntl(scratch, F_DUPFD_CLOEXEC, 0) : clone_of(p->v[i].name, AT_RECURSIVE);
        if (ret->fd[i] < 0 && errno == ENOENT)
            continue; /* a missing executable is left to exec, which says so in words */
        if (ret->fd[i] < 0 || fstat(ret->fd[i], &st) < 0 || set_flags(ret->fd[i], flags_of(p->v[i].value)) < 0)
            return failed(&v, "opening", p->v[i].name);
        ret->is_dir[i] = S_ISDIR(st.st_mode);
    }
    return 0;
}

static int put_paths(struct view *v, const struct view_sources *from, const struct run_spec *s, bool providers)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < from->n; i++)
        if (from->fd[i] >= 0 && (strchr(s->paths.v[i].value, 'p') != NULL) == providers)
            r = put(v, from->fd[i], s->paths.v[i].name, from->is_dir[i]);
    return r;
}

static bool has_providers(const struct run_spec *s)
{
    for (size_t i = 0; i < s->paths.n; i++)
        if (strchr(s->paths.v[i].value, 'p'))
            return true;
    return false;
}

/* The limits of the tmpfs, which all its parts share. */
static int set_size(struct view *v, const struct run_spec *s)
{
    char options[96];
    snprintf(options, sizeof options, "size=%lld,nr_inodes=%lld", (long long)(s->tmp_bytes < 0 ? 0 : s->tmp_bytes),
             (long long)(s->tmp_inodes < 0 ? 0 : s->tmp_inodes + OWN_INODES));
    return mount(NULL, "/tmp", NULL, MS_REMOUNT | MS_NOSUID, options) < 0 ? failed(v, "limiting", "/tmp") : 0;
}

/* ---- another root ---- */

/* Something that was put over the host's tree, and goes to the same path of the image. */
struct place {
    const char *path;
    bool is_dir;
    int fd;
};

static int by_length(const void *a, const void *b)
{
    size_t x = strlen(((const struct place *)a)->path), y = strlen(((const struct place *)b)->path);
    return (x > y) - (x < y);
}

static bool is_below(const char *path, const char *dir)
{
    size_t n = strlen(dir);
    return !strncmp(path, dir, n) && (path[n] == '/' || !path[n]);
}

/* The topmost places only: a clone of one brings along what lies below it. */
static size_t list_places(const struct view_sources *from, const struct run_spec *s, struct place *places)
{
    static const char *const always[] = {"/proc", "/dev", "/run", "/sys", "/tmp", "/var/tmp"};
    size_t n = 0, kept = 0;
    for (size_t i = 0; i < sizeof always / sizeof *always; i++)
        places[n++] = (struct place){always[i], true, -1};
    places[n++] = (struct place){s->home, true, -1};
    for (size_t i = 0; i < from->n; i++)
        if (from->fd[i] >= 0 && strchr(s->paths.v[i].value, 'p'))
            places[n++] = (struct place){s->paths.v[i].name, from->is_dir[i], -1};
    qsort(places, n, sizeof *places, by_length);
    for (size_t i = 0; i < n; i++) {
        bool comes_along = false;
        for (size_t k = 0; k < kept && !comes_along; k++)
            comes_along = is_below(places[i].path, places[k].path);
        if (!comes_along)
            places[kept++] = places[i];
    }
    return kept;
}

/* A directory of the overlay (or an empty file), whatever the image has there; O_PATH, or -1. */
static int make_entry(int at, const char *name, bool is_dir)
{
    for (int tries = 0; tries < 2; tries++) {
        struct stat st;
        if ((is_dir ? mkdirat(at, name, 0755) : mknodat(at, name, S_IFREG | 0444, 0)) < 0 && errno != EEXIST)
            return -1;
        AUTO_FD int fd = openat(at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
            return -1;
        if (is_dir ? S_ISDIR(st.st_mode) : S_ISREG(st.st_mode))
            return fd_take(&fd);
        if (unlinkat(at, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) < 0)
            return -1;
    }
    errno = EBUSY;
    return -1;
}

static int put_on_image(struct view *v, int root, const struct place *p)
{
    AUTO_FREE char *copy = xstrdup(p->path);
    AUTO_FD int at = fcntl(root, F_DUPFD_CLOEXEC, 0);
    char *save, *part = strtok_r(copy, "/", &save);
    while (part && at >= 0) {
        char *next = strtok_r(NULL, "/", &save);
        int fd = make_entry(at, part, next || p->is_dir);
        close(at);
        at = fd;
        part = next;
    }
    if (at < 0 || move_mount(p->fd, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
        return failed(v, "mounting on the image", p->path);
    return 0;
}

/* At BASE/root; the run's /tmp is cloned already and gives the base free. */
static int mount_image(struct view *v, int image)
{
    static const char options[] = "userxattr,lowerdir=" BASE "/lower,upperdir=" BASE "/upper,workdir=" BASE "/work";
    static const char *const dirs[] = {BASE "/lower", BASE "/upper", BASE "/work", BASE "/root"};
    if (umount2(BASE, MNT_DETACH) < 0)
        return failed(v, "baring", BASE);
    for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++)
        if (mkdir(dirs[i], 0755) < 0)
            return failed(v, "making", dirs[i]);
    /* How an overlay notes what hides the image's: only the host's root may set such attributes of its own, and needs no others. */
    bool trusted = setxattr(BASE "/upper", "trusted.simbdp", "", 0, 0) == 0;
    if (set_flags(image, flags_of("x")) < 0 || attach(image, BASE "/lower") < 0 ||
        mount("overlay", BASE "/root", "overlay", MS_NOSUID | MS_NODEV, options + (trusted ? strlen("userxattr,") : 0)) < 0)
        return failed(v, "mounting", "the image (an overlay)");
    return 0;
}

static int put_places(struct view *v, int root, const struct view_sources *from, const struct place *places, size_t n)
{
    const struct place files[] = {{"/etc/hosts", false, from->hosts}, {"/etc/resolv.conf", false, from->resolv}};
    struct mount_attr only_read = {.attr_set = MOUNT_ATTR_RDONLY};
    int r = 0;
    for (size_t i = 0; r == 0 && i < n; i++)
        r = put_on_image(v, root, &places[i]);
    for (size_t i = 0; r == 0 && i < sizeof files / sizeof *files; i++)
        if (files[i].fd >= 0)
            r = set_flags(files[i].fd, flags_of("r")) < 0 ? failed(v, "limiting", files[i].path) : put_on_image(v, root, &files[i]);
    if (r == 0 && mount_setattr(root, "", AT_EMPTY_PATH, &only_read, sizeof only_read) < 0)
        r = failed(v, "making read-only", "the image");
    return r;
}

static int enter_image(struct view *v, const struct view_sources *from, const struct run_spec *s)
{
    struct place places[VIEW_MAX_PATHS + 7];
    size_t n = list_places(from, s, places), opened = 0;
    int r = 0;
    umask(0022); /* what is made here is for the tenant to pass; the app gets another */
    for (; r == 0 && opened < n; opened++)
        if ((places[opened].fd = clone_of(places[opened].path, AT_RECURSIVE)) < 0)
            r = failed(v, "cloning", places[opened].path);
    if (r == 0)
        r = mount_image(v, from->image);
    AUTO_FD int root = r < 0 ? -1 : open(BASE "/root", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (r == 0)
        r = put_places(v, root, from, places, n);
    while (opened)
        if (places[--opened].fd >= 0)
            close(places[opened].fd);
    /* The old root comes to lie on the new one, and goes with all that was mounted there. */
    if (r == 0 && (fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0))
        r = failed(v, "entering", "the image");
    return r;
}

int view_finish(const struct view_sources *from, const struct run_spec *s, char *what, size_t what_size)
{
    struct view v = {.what = what, .what_size = what_size};
    int r = set_size(&v, s);
    if (r == 0 && mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        r = failed(&v, "mounting", "/proc");
    if (r == 0)
        finish_cgroups();
    if (r == 0 && has_providers(s)) { /* the home may lie below one of them, and goes over it */
        AUTO_FD int home = clone_of(s->home, 0);
        r = home < 0 ? failed(&v, "opening", s->home) : put_paths(&v, from, s, true);
        if (r == 0)
            r = put(&v, home, s->home, true);
    }
    if (r == 0)
        r = put_paths(&v, from, s, false);
    if (r == 0 && from->image >= 0)
        return enter_image(&v, from, s);
    if (r == 0 && from->hosts >= 0 && (set_flags(from->hosts, flags_of("r")) < 0 || attach(from->hosts, "/etc/hosts") < 0))
        r = failed(&v, "mounting", "/etc/hosts");
    return r;
}

void view_close(struct view_sources *s)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->fd[i] >= 0)
            close(s->fd[i]);
    const int others[] = {s->hosts, s->resolv, s->image};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (others[i] >= 0)
            close(others[i]);
    s->n = 0;
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
