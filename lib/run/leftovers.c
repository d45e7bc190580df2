#include "leftovers.h"
#include "base/clk.h"
#include "base/fd.h"
#include "base/mem.h"
#include "tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

enum { OLD_S = 60, MAX_CLAIM = ID_SIZE + 16 };

#define PARENT "mysimbdp-"

/* A run's id, or that and its step. */
static bool is_claim(const char *name)
{
    char id[ID_SIZE];
    size_t n = strlen(name);
    if (n < ID_SIZE - 1 || n >= MAX_CLAIM || (n > ID_SIZE - 1 && name[ID_SIZE - 1] != '-'))
        return false;
    memcpy(id, name, ID_SIZE - 1);
    id[ID_SIZE - 1] = 0;
    return home_valid_id(id);
}

/* Whether a runner lives that made this claim its own. clear: else its lock and its socket go; a runner that is about to take the
 * lock sees that and makes another. */
static bool is_held(const char *runtime, const char *claim, bool clear)
{
    AUTO_FREE char *path = xasprintf("%s/%s.lock", runtime, claim);
    AUTO_FREE char *sock = xasprintf("%s/%s.sock", runtime, claim);
    AUTO_FD int fd = open(path, O_RDWR | (clear ? O_CREAT : 0) | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno != ENOENT;
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return true;
    if (clear) {
        unlink(sock);
        unlink(path);
    }
    return false;
}

static void clear_sockets(const char *runtime)
{
    DIR *d = fd_open_dir(AT_FDCWD, runtime);
    for (struct dirent *ent; d && (ent = readdir(d));) {
        char *dot = strrchr(ent->d_name, '.');
        if (!dot || (strcmp(dot, ".lock") != 0 && strcmp(dot, ".sock") != 0))
            continue;
        *dot = 0;
        if (is_claim(ent->d_name))
            is_held(runtime, ent->d_name, true);
    }
    if (d)
        closedir(d);
}

/* Cgroups that are made ahead of a run have the pid of their maker in their name (cgroup.c, the spawner's standby). */
static bool is_made_by_the_dead(const char *name)
{
    const char *dash = strchr(name, '-');
    long pid = dash ? strtol(dash + 1, NULL, 10) : 0;
    return pid > 1 && !tree_is_alive((pid_t)pid);
}

static bool is_old(int dir, const char *name)
{
    struct stat st;
    return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && clk_wall_ms() / 1000 - st.st_mtim.tv_sec > OLD_S;
}

/* Removes those directories of a parent that no process will enter any more. */
static void clear_groups(int parent, const char *runtime, bool only_old)
{
    DIR *d = fd_open_dir(parent, ".");
    for (struct dirent *ent; d && (ent = readdir(d));) {
        const char *name = ent->d_name;
        if (ent->d_type != DT_DIR || name[0] == '.' || (only_old && !is_old(parent, name)))
            continue;
        if (is_claim(name) ? !is_held(runtime, name, false) : is_made_by_the_dead(name))
            unlinkat(parent, name, AT_REMOVEDIR);
    }
    if (d)
        closedir(d);
}

static int open_parent(const char *path)
{
    return *path ? open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
}

void remains_clear(const struct home *h, const struct cgroup_host *cg)
{
    clear_sockets(h->runtime);
    for (int k = 0; k < CGROUP_N_KINDS; k++) {
        AUTO_FD int parent = open_parent(cg->base[k]);
        if (parent >= 0)
            clear_groups(parent, h->runtime, false);
    }
}

bool remains_retire(const struct home *h, const struct cgroup_host *cg)
{
    bool gone = true;
    remains_clear(h, cg);
    for (int k = 0; k < CGROUP_N_KINDS; k++)
        gone &= !*cg->base[k] || rmdir(cg->base[k]) == 0 || errno == ENOENT;
    return gone;
}

/* ---- of other homes ---- */

/* Whether any process is in it or in one of its directories, or may be about to enter. */
static bool is_populated(int parent)
{
    bool any = false;
    DIR *d = fd_open_dir(parent, ".");
    for (struct dirent *ent; d && !any && (ent = readdir(d));) {
        AUTO_FREE char *procs = xasprintf("%s/cgroup.procs", ent->d_name);
        AUTO_BUF struct buf b = {0};
        if (ent->d_type != DT_DIR || !strcmp(ent->d_name, ".."))
            continue;
        any = ent->d_name[0] != '.' && !is_old(parent, ent->d_name);
        any |= fd_read_file(parent, procs, &b, 1 << 20, NULL) == 0 && b.n;
    }
    if (d)
        closedir(d);
    return any;
}

static bool is_running(const char *runtime)
{
    static const char *const names[] = {"up", "batchmgr", "streammgr"};
    bool running = false;
    for (size_t i = 0; i < sizeof names / sizeof *names && !running; i++) {
        AUTO_FREE char *path = xasprintf("%s/%s.sock", runtime, names[i]);
        AUTO_FD int fd = fd_unix_connect(path, false);
        running = fd >= 0;
    }
    return running;
}

static bool is_other(const char *name, const char *tag)
{
    const size_t n = strlen(PARENT);
    return !strncmp(name, PARENT, n) && strlen(name + n) == strlen(tag) && strspn(name + n, "0123456789abcdef") == strlen(tag) &&
           strcmp(name + n, tag) != 0;
}

/* Counts 1 when it is (or, with fix, stays) a remain. */
static int look_at_other(int dir, const char *name, const char *runtimes, bool fix)
{
    struct stat st;
    AUTO_FREE char *runtime = xasprintf("%s/%s", runtimes, name);
    AUTO_FD int parent = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (parent < 0 || fstat(parent, &st) < 0 || st.st_uid != geteuid() || is_populated(parent) || is_running(runtime))
        return 0;
    if (!fix)
        return 1;
    clear_groups(parent, runtime, true);
    return unlinkat(dir, name, AT_REMOVEDIR) < 0 && errno != ENOENT;
}

static int look_beside(const char *base, const char *tag, const char *runtimes, bool fix)
{
    int n = 0;
    AUTO_FREE char *beside = xasprintf("%s/..", base);
    DIR *d = fd_open_dir(AT_FDCWD, beside);
    for (struct dirent *ent; d && (ent = readdir(d));)
        if (is_other(ent->d_name, tag))
            n += look_at_other(dirfd(d), ent->d_name, runtimes, fix);
    if (d)
        closedir(d);
    return n;
}

int remains_others(const struct home *h, const struct cgroup_host *cg, bool fix)
{
    AUTO_FREE char *runtimes = xstrdup(h->runtime), *own = xasprintf("/" PARENT "%s", h->tag);
    size_t n_runtimes = strlen(runtimes), n_own = strlen(own);
    int n = 0;
    if (n_runtimes < n_own || strcmp(runtimes + n_runtimes - n_own, own) != 0)
        return 0;
    runtimes[n_runtimes - n_own] = 0;
    for (int k = 0; k < CGROUP_N_KINDS; k++) {
        bool seen = !*cg->base[k];
        for (int i = 0; i < k; i++)
            seen |= !strcmp(cg->base[i], cg->base[k]);
        n += seen ? 0 : look_beside(cg->base[k], h->tag, runtimes, fix);
    }
    return n;
}
