#include "manager_sandbox.h"
#include "base/clk.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/privs.h"
#include "confine.h"
#include "seccomp_install.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define BASE "/tmp" /* where the new root is while it is made; it exists everywhere */

enum { MAX_PLACES = 128 };

/* A clone of what is at `path`, held until it is put there on the new root. */
struct place {
    const char *path;
    int fd;
    bool is_dir;
};

struct build {
    struct place places[MAX_PLACES];
    size_t n;
    char what[256]; /* failed */
};

static int failed(struct build *b, const char *what, const char *path)
{
    int r = -errno;
    snprintf(b->what, sizeof b->what, "%s %s", what, path);
    return r;
}

static const uint64_t closed = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
static const uint64_t opened = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;

/* 0 also when there is nothing at the path. */
static int take(struct build *b, const char *path, uint64_t flags)
{
    struct mount_attr a = {.attr_set = flags, .propagation = MS_SLAVE};
    struct stat st;
    AUTO_FD int fd = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return 0;
    if (fd < 0 || fstat(fd, &st) < 0 || mount_setattr(fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &a, sizeof a) < 0)
        return failed(b, "cloning", path);
    if (b->n == MAX_PLACES) {
        errno = E2BIG;
        return failed(b, "remembering", path);
    }
    b->places[b->n++] = (struct place){path, fd_take(&fd), S_ISDIR(st.st_mode)};
    return 0;
}

static int make_parents(char *path)
{
    for (char *p = path + strlen(BASE) + 1; (p = strchr(p, '/')); *p++ = '/') {
        *p = 0;
        if (mkdir(path, 0755) < 0 && errno != EEXIST && errno != EROFS)
            return -1;
    }
    return 0;
}

static int put(struct build *b, int fd, const char *path, bool is_dir)
{
    AUTO_FREE char *at = xasprintf(BASE "%s", path);
    struct stat st;
    if (make_parents(at) < 0)
        return failed(b, "making", path);
    if (fstatat(AT_FDCWD, at, &st, AT_SYMLINK_NOFOLLOW) < 0 && (is_dir ? mkdir(at, 0755) : mknod(at, S_IFREG | 0444, 0)) < 0)
        return failed(b, "making", path);
    return move_mount(fd, "", AT_FDCWD, at, MOVE_MOUNT_F_EMPTY_PATH) < 0 ? failed(b, "mounting", path) : 0;
}

/* What programs link to and ask for names. /lib and the like are links on most hosts. */
static int take_host(struct build *b, const struct room *room)
{
    static const char *const paths[] = {
        "/usr",          "/etc/ld.so.cache", "/etc/resolv.conf",       "/etc/hosts",         "/etc/nsswitch.conf", "/etc/host.conf",
        "/etc/gai.conf", "/etc/services",    "/etc/protocols",         "/etc/localtime",     "/etc/timezone",      "/etc/passwd",
        "/etc/group",    "/etc/ssl/certs",   "/etc/ssl/openssl.cnf",   "/etc/pki/tls/certs", "/dev/null",          "/dev/zero",
        "/dev/random",   "/dev/urandom",     "/sys/devices/system/cpu"};
    int r = 0;
    for (size_t i = 0; r == 0 && i < sizeof paths / sizeof *paths; i++) {
        bool device = !strncmp(paths[i], "/dev/", 5);
        if (device || !room->bare)
            r = take(b, paths[i], device ? MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC : closed);
    }
    for (size_t i = 0; r == 0 && room->sees[i]; i++)
        r = take(b, room->sees[i], closed);
    return r == 0 && room->scratch ? take(b, room->scratch, opened) : r;
}

/* A /proc that hides other users' processes; where that is not to be had (in a container, say), the host's. */
static int take_proc(struct build *b)
{
    AUTO_FD int fs = fsopen("proc", FSOPEN_CLOEXEC);
    int r = fs < 0 ? -1 : fsconfig(fs, FSCONFIG_SET_STRING, "hidepid", "invisible", 0);
    if (r == 0)
        r = fsconfig(fs, FSCONFIG_SET_STRING, "subset", "pid", 0);
    if (r == 0)
        r = fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
    int fd = r < 0 ? -1 : fsmount(fs, FSMOUNT_CLOEXEC, closed | MOUNT_ATTR_NOEXEC);
    if (fd < 0)
        return take(b, "/proc", closed);
    if (b->n == MAX_PLACES) {
        close(fd);
        errno = E2BIG;
        return failed(b, "remembering", "/proc");
    }
    b->places[b->n++] = (struct place){"/proc", fd, true};
    return 0;
}

static int put_libraries(struct build *b)
{
    static const char *const names[] = {"lib", "lib32", "lib64", "libx32", "bin", "sbin"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char from[16], to[32], link[256];
        snprintf(from, sizeof from, "/%s", names[i]);
        snprintf(to, sizeof to, BASE "/%s", names[i]);
        ssize_t n = readlink(from, link, sizeof link - 1);
        link[n < 0 ? 0 : n] = 0;
        if (n > 0 && symlink(link, to) < 0)
            return failed(b, "making", from);
    }
    return 0;
}

/* ---- the home ---- */

static const struct part {
    const char *name;
    enum { READ_ONLY, OWN_MOUNT /* so that nobody can rename it */, IF_CHANGED /* else it is as what it lies in */, HIDDEN } how;
} parts[] = {
    {"conf", READ_ONLY},
    {"apps", READ_ONLY},
    {"bin", READ_ONLY},
    {"keys", HIDDEN},
    {"state", OWN_MOUNT},
    {"logs", OWN_MOUNT},
    {"logs/tenants", IF_CHANGED},
    {"runs", OWN_MOUNT},
    {"state/uids.json", READ_ONLY},
    {"state/home.json", READ_ONLY},
    {"state/mongo.json", READ_ONLY},
    {"state/broker.mark", READ_ONLY},
    {"state/userns.json", READ_ONLY},
    {"state/warden", READ_ONLY},
    {"state/images", READ_ONLY},
    {"state/jobs", READ_ONLY},
    {"state/configurations", HIDDEN}, /* root goes back to what is there */
    {"state/broker", HIDDEN},
    {"state/mongo", HIDDEN},
};
enum { N_PARTS = sizeof parts / sizeof *parts };

/* An empty directory of the new root's tmpfs; for keys/ with the one key in it that the program needs. */
static int hide(struct build *b, const struct home *h, const struct room *room, const char *part)
{
    struct mount_attr a = {.attr_set = closed};
    AUTO_FREE char *key = room->key ? home_path(h, room->key) : NULL;
    bool keys = key && !strcmp(part, "keys");
    const char *at = keys ? BASE "/.keys" : BASE "/.empty";
    if (mkdir(at, 0700) < 0 && errno != EEXIST)
        return failed(b, "making", at);
    AUTO_FD int fd = open_tree(AT_FDCWD, at, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (fd < 0 || (!keys && mount_setattr(fd, "", AT_EMPTY_PATH, &a, sizeof a) < 0))
        return failed(b, "hiding", part);
    AUTO_FREE char *path = xasprintf("%s/%s", h->path, part);
    int r = put(b, fd, path, true);
    for (size_t i = 0; r == 0 && keys && i < b->n; i++)
        if (!strcmp(b->places[i].path, key))
            r = put(b, b->places[i].fd, key, false);
    AUTO_FREE char *target = xasprintf(BASE "%s", path);
    if (r == 0 && keys && mount_setattr(AT_FDCWD, target, 0, &a, sizeof a) < 0)
        r = failed(b, "closing", path);
    return r;
}

static bool is_put(const char *path)
{
    AUTO_FREE char *at = xasprintf(BASE "%s", path);
    return access(at, F_OK) == 0;
}

static int put_home(struct build *b, const struct home *h, const struct room *room, char *const *paths, const int fds[N_PARTS])
{
    int r = 0;
    struct stat st;
    for (size_t i = 0; r == 0 && i < N_PARTS; i++) {
        if (parts[i].how == HIDDEN)
            r = is_put(paths[i]) ? hide(b, h, room, parts[i].name) : 0;
        else if (fds[i] >= 0)
            r = fstat(fds[i], &st) < 0 ? failed(b, "reading", paths[i]) : put(b, fds[i], paths[i], S_ISDIR(st.st_mode));
    }
    return r;
}

static bool is_changed(const struct room *room, const char *part)
{
    for (size_t i = 0; room->parts[i]; i++)
        if (!strcmp(room->parts[i], part))
            return true;
    return false;
}

static int take_parts(struct build *b, const struct room *room, char *const *paths, int fds[N_PARTS])
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < N_PARTS; i++) {
        size_t n = b->n;
        bool changed = parts[i].how != READ_ONLY && is_changed(room, parts[i].name);
        if (parts[i].how != HIDDEN && (changed || parts[i].how != IF_CHANGED))
            r = take(b, paths[i], changed ? opened : closed);
        if (b->n > n)
            fds[i] = fd_take(&b->places[--b->n].fd);
    }
    return r;
}

static int enter_root(struct build *b)
{
    struct mount_attr a = {.attr_set = closed};
    AUTO_FD int root = open(BASE, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return failed(b, "entering", "the new root");
    return mount_setattr(AT_FDCWD, "/", 0, &a, sizeof a) < 0 ? failed(b, "closing", "the new root") : 0;
}

/* Of a bare room the parts only: the home around them is empty directories of the new root. */
static int take_home(struct build *b, const struct home *h, const struct room *room, char *bare[])
{
    if (!room->bare)
        return take(b, h->path, room->moves ? opened : closed);
    int r = 0;
    for (size_t i = 0; r == 0 && room->parts[i]; i++)
        r = take(b, bare[i] = home_path(h, room->parts[i]), opened);
    return r;
}

#ifdef __SANITIZE_ADDRESS__ /* which looks for leaks there */
static const bool needs_proc = true;
#else
static const bool needs_proc = false;
#endif

static int make_view(struct build *b, const struct home *h, const struct room *room)
{
    char *paths[N_PARTS], *bare[N_PARTS] = {0};
    int fds[N_PARTS];
    AUTO_FREE char *key = room->key ? home_path(h, room->key) : NULL;
    for (size_t i = 0; i < N_PARTS; i++) {
        paths[i] = home_path(h, parts[i].name);
        fds[i] = -1;
    }
    int r = unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0
                ? failed(b, "making", "a mount namespace")
                : 0;
    if (r == 0 && key)
        r = take(b, key, closed);
    size_t first = b->n;
    if (r == 0)
        r = take_host(b, room);
    if (r == 0 && (!room->bare || needs_proc))
        r = take_proc(b);
    if (r == 0)
        r = take(b, h->runtime, opened);
    if (r == 0)
        r = take_home(b, h, room, bare);
    if (r == 0 && !room->bare)
        r = take_parts(b, room, paths, fds);
    if (r == 0 && mount("tmpfs", BASE, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m") < 0)
        r = failed(b, "mounting a tmpfs at", BASE);
    if (r == 0 && !room->bare)
        r = put_libraries(b);
    for (size_t i = first; r == 0 && i < b->n; i++)
        r = put(b, b->places[i].fd, b->places[i].path, b->places[i].is_dir);
    if (r == 0 && !room->bare)
        r = put_home(b, h, room, paths, fds);
    if (r == 0)
        r = enter_root(b);
    for (size_t i = 0; i < N_PARTS; i++) {
        free(paths[i]);
        free(bare[i]);
        if (fds[i] >= 0)
            close(fds[i]);
    }
    for (size_t i = 0; i < b->n; i++)
        close(b->places[i].fd);
    return r;
}

/* A process that fails halfway cannot go back, so a child tries it first. 0, or negative with what failed in b->what. */
static int try_view(struct build *b, const struct home *h, const struct room *room)
{
    int pair[2], r = -EIO;
    for (size_t i = 0; i < N_PARTS; i++) {
        struct stat st;
        if (fstatat(h->dirfd, parts[i].name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode)) {
            errno = ELOOP;
            return failed(b, "a part of the home is a link:", parts[i].name);
        }
    }
    if (pipe2(pair, O_CLOEXEC) < 0)
        return failed(b, "making", "a pipe");
    pid_t pid = fork();
    if (pid == 0) {
        r = make_view(b, h, room);
        if (write(pair[1], &r, sizeof r) < 0 || write(pair[1], b->what, sizeof b->what) < 0)
            _exit(1);
        _exit(0);
    }
    close(pair[1]);
    if (read(pair[0], &r, sizeof r) != (ssize_t)sizeof r || read(pair[0], b->what, sizeof b->what) != (ssize_t)sizeof b->what)
        snprintf(b->what, sizeof b->what, "trying");
    close(pair[0]);
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
    return r;
}

static int enter_view(struct home *h, const struct room *room, struct err *e)
{
    struct build b = {0};
    int r = try_view(&b, h, room);
    if (r < 0) {
        log_warn("room", NULL, NULL, "this program sees the host's files, since a view of its own cannot be made (%s: %s)", b.what,
                 err_text(r));
        return 0;
    }
    r = make_view(&b, h, room);
    if (r < 0)
        return err_sys(e, r, "cannot make this program's view of the file system: %s", b.what);
    close(fd_take(&h->dirfd));
    h->dirfd = open(h->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return h->dirfd < 0 ? err_sys(e, -errno, "cannot open %s", h->path) : 0;
}

/* Makes the directories that are to be closed: one that does not exist yet could be made by whoever comes first. */
static void make_closed(const struct home *h)
{
    fd_mkdirs(h->dirfd, "state/warden", 0700);
    fd_mkdirs(h->dirfd, "state/images", 0700);
    fd_mkdirs(h->dirfd, "state/jobs", 0700);
    fd_mkdirs(h->dirfd, "state/configurations", 0700);
}

/* ---- rights ---- */

static int keep(const struct room *room)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[2] = {0};
    for (int i = 0; i < 2; i++)
        sets[i].effective = sets[i].permitted = (uint32_t)(room->capabilities >> (32 * i));
    int r = confine_capabilities();
    if (r == 0 && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
        r = -errno;
    if (r == 0)
        r = privs_become(room->uid);
    if (r == 0 && syscall(SYS_capset, &header, sets) < 0)
        r = -errno;
    if (r == 0)
        privs_set_manager();
    return r;
}

static int close_files(const struct home *h, const struct room *room)
{
    enum { MAX = 24 };
    const char *writable[MAX] = {h->runtime, "/dev/null"};
    char *made[MAX];
    size_t n = 2, n_made = 0;
    if (room->scratch)
        writable[n++] = room->scratch;
    for (size_t i = 0; room->parts[i] && n < MAX; i++)
        writable[n++] = made[n_made++] = home_path(h, room->parts[i]);
    int r = confine_files(writable, n);
    while (n_made)
        free(made[--n_made]);
    return r;
}

int room_enter(struct home *h, const struct room *room, struct err *e)
{
    make_closed(h);
    clk_boot_id(); /* which that view does not have */
    int r = enter_view(h, room, e);
    if (r < 0)
        return r;
    r = close_files(h, room);
    if (r == 0)
        r = keep(room);
#ifdef __SANITIZE_ADDRESS__ /* which looks for leaks with ptrace */
    if (r == 0 && prctl(PR_SET_DUMPABLE, 1) < 0)
        r = -errno;
#else
    if (r == 0)
        r = seccomp_install();
#endif
    return r < 0 ? err_sys(e, r, "cannot give up rights") : 0;
}
