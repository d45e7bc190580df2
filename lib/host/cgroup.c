#include "cgroup.h"
#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const controllers[] = {"cpu", "memory", "pids", ""};
static const char *const turn_on[] = {"+cpu", "+memory", "+pids", NULL}; /* v2 */

static int write_text(const char *dir, const char *file, const char *text)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    AUTO_FD int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

static int read_text(const char *dir, const char *file, struct buf *b)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    buf_add(b, "", 0);
    return fd_read_file(AT_FDCWD, path, b, 1 << 20, NULL);
}

static bool has_file(const char *dir, const char *file)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    return access(path, F_OK) == 0;
}

static bool has_word(const char *text, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = text; (p = strstr(p, word)); p += n)
        if ((p == text || strchr(" ,\n", p[-1])) && strchr(" ,\n", p[n]))
            return true;
    return false;
}

/* Finds where a v1 controller (or, with NULL, the v2 tree) is mounted. */
static bool find_mount(const char *controller, char *ret, size_t size)
{
    AUTO_BUF struct buf b = {0};
    if (fd_read_file(AT_FDCWD, "/proc/self/mounts", &b, 1 << 20, NULL) < 0)
        return false;
    for (char *save, *line = strtok_r(b.p, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char dir[512], type[64], options[1024];
        if (sscanf(line, "%*s %511s %63s %1023s", dir, type, options) != 3)
            continue;
        if (controller ? !strcmp(type, "cgroup") && has_word(options, controller) : !strcmp(type, "cgroup2")) {
            snprintf(ret, size, "%s", dir);
            return true;
        }
    }
    return false;
}

/* The path of this process' own cgroup in that hierarchy, from /proc/self/cgroup. */
static void own_path(const char *controller, char *ret, size_t size)
{
    AUTO_BUF struct buf b = {0};
    ret[0] = 0;
    if (fd_read_file(AT_FDCWD, "/proc/self/cgroup", &b, 1 << 20, NULL) < 0)
        return;
    for (char *save, *line = strtok_r(b.p, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL;
        if (!path)
            continue;
        *path++ = 0;
        list++;
        if (controller ? has_word(list, controller) : !*list)
            snprintf(ret, size, "%s", strcmp(path, "/") ? path : "");
    }
}

bool cgroup_is_runs(const char *controller)
{
    char own[512];
    own_path(controller, own, sizeof own);
    return strstr(own, "/mysimbdp-");
}

/* In the v2 tree runs have their groups beside that of the platform's programs, not below it. */
static void leave_supervisor(char *path)
{
    static const char end[] = "/" CGROUP_SUPERVISOR;
    size_t n = strlen(path), n_end = sizeof end - 1;
    if (n >= n_end && !strcmp(path + n - n_end, end))
        path[n - n_end] = 0;
}

/* Whether controllers can be given to the groups below. Where processes are, only those that can be had per thread are given out,
 * and the price is that no process may enter the groups below ("domain invalid": EOPNOTSUPP for us, and for what a service manager
 * wants to put there; cgroup-v2.rst, "Threads"). The root of the tree, which has no type, may have both. */
static bool may_enable(const char *parent)
{
    AUTO_BUF struct buf procs = {0};
    return !has_file(parent, "cgroup.type") || (read_text(parent, "cgroup.procs", &procs) == 0 && !procs.n);
}

/* Makes parent/mysimbdp-<tag> and checks that a child can be made in it. With a controller, also that the child has the file
 * `probe`. */
static int make_base(const char *parent, const char *tag, const char *enable, const char *probe, char *ret, size_t size)
{
    char base[512], child[600];
    int n = snprintf(base, sizeof base, "%s/mysimbdp-%s", parent, tag);
    if (n < 0 || (size_t)n >= sizeof base)
        return -ENAMETOOLONG;
    if (enable && !may_enable(parent))
        return -EBUSY;
    if (enable)
        write_text(parent, "cgroup.subtree_control", enable);
    if (mkdir(base, 0755) < 0 && errno != EEXIST)
        return -errno;
    if (enable && write_text(base, "cgroup.subtree_control", enable) < 0) {
        rmdir(base); /* unless another kind of limit has it in use */
        return -EBUSY;
    }
    snprintf(child, sizeof child, "%s/probe-%d", base, (int)getpid());
    if (mkdir(child, 0755) < 0)
        return -errno;
    bool ok = has_file(child, probe) && has_file(child, "cgroup.procs");
    rmdir(child);
    if (!ok)
        return -ENOTSUP;
    snprintf(ret, size, "%s", base);
    return 0;
}

/* Makes the directory at `parent` for the kinds that are v2's. How many of them it can have. */
static int probe_v2_at(struct cgroup_host *h, const char *parent, const char *tag)
{
    static const char *const files[] = {"cpu.max", "memory.max", "pids.max", "cgroup.kill"};
    int n = 0;
    for (int k = 0; k < CGROUP_N_KINDS; k++) {
        if (!h->v2[k])
            continue;
        int r = make_base(parent, tag, turn_on[k], files[k], h->base[k], sizeof h->base[k]);
        if (r < 0)
            snprintf(h->why[k], sizeof h->why[k], "%.200s%s: %s", parent, turn_on[k] ? " (controller)" : "", err_text(r));
        n += r == 0;
    }
    return n;
}

/* A process is in one group of the v2 tree, so all kinds are had in one place: below our own group, or where that gives less (it
 * has processes in it, as before systemd 254), at the top. */
static void probe_v2(struct cgroup_host *h, const char *tag)
{
    char mount[512], own[512], parent[1024];
    if (!find_mount(NULL, mount, sizeof mount)) {
        for (int k = 0; k < CGROUP_N_KINDS; k++)
            if (h->v2[k])
                snprintf(h->why[k], sizeof h->why[k], "no cgroup file system is mounted");
        return;
    }
    own_path(NULL, own, sizeof own);
    leave_supervisor(own);
    snprintf(parent, sizeof parent, "%s%s", mount, own);
    int n = 0;
    for (int k = 0; k < CGROUP_N_KINDS; k++)
        n += h->v2[k];
    struct cgroup_host top = *h;
    int n_own = probe_v2_at(h, parent, tag);
    if (n_own == n || !*own)
        return;
    int n_top = probe_v2_at(&top, mount, tag);
    char loser[1600];
    snprintf(loser, sizeof loser, "%s/mysimbdp-%s", n_top > n_own ? parent : mount, tag);
    rmdir(loser);
    if (n_top > n_own)
        *h = top;
}

void cgroup_probe(struct cgroup_host *h, const char *tag)
{
    static const char *const v1_files[] = {"cpu.cfs_quota_us", "memory.limit_in_bytes", "pids.max"};
    *h = (struct cgroup_host){0};
    for (int k = 0; k < CGROUP_TREE; k++) {
        char mount[512], own[512], parent[1024];
        if (!find_mount(controllers[k], mount, sizeof mount)) {
            h->v2[k] = true;
            continue;
        }
        own_path(controllers[k], own, sizeof own);
        snprintf(parent, sizeof parent, "%s%s", mount, own);
        int r = make_base(parent, tag, NULL, v1_files[k], h->base[k], sizeof h->base[k]);
        if (r < 0)
            snprintf(h->why[k], sizeof h->why[k], "%s: %s", parent, err_text(r));
    }
    h->v2[CGROUP_TREE] = true;
    probe_v2(h, tag);
    for (int k = 0; k < CGROUP_N_KINDS; k++)
        h->v2[k] = h->v2[k] && *h->base[k];
}

/* What is there already of such a directory. */
static bool find_base(const char *parent, const char *tag, char *ret, size_t size)
{
    char base[512];
    int n = snprintf(base, sizeof base, "%s/mysimbdp-%s", parent, tag);
    if (n < 0 || (size_t)n >= sizeof base || access(base, F_OK) < 0)
        return false;
    snprintf(ret, size, "%s", base);
    return true;
}

void cgroup_find(struct cgroup_host *h, const char *tag)
{
    *h = (struct cgroup_host){0};
    for (int k = 0; k < CGROUP_N_KINDS; k++) {
        const bool v1 = k < CGROUP_TREE;
        char mount[512], own[512], parent[1024];
        h->v2[k] = !v1 || !find_mount(controllers[k], mount, sizeof mount);
        if (h->v2[k] && !find_mount(NULL, mount, sizeof mount))
            continue;
        own_path(h->v2[k] ? NULL : controllers[k], own, sizeof own);
        if (h->v2[k])
            leave_supervisor(own);
        snprintf(parent, sizeof parent, "%s%s", mount, own);
        if (!find_base(parent, tag, h->base[k], sizeof h->base[k]) && h->v2[k])
            find_base(mount, tag, h->base[k], sizeof h->base[k]);
    }
}

static void run_dir(const struct cgroup_host *h, enum cgroup_kind kind, const char *name, char *ret, size_t size)
{
    snprintf(ret, size, "%s/%s", h->base[kind], name);
}

/* The parent may have been removed while it was empty (lib/run/leftovers.h). It is made again then. */
static int make_run_dir(const struct cgroup_host *h, enum cgroup_kind kind, const char *dir)
{
    if (mkdir(dir, 0755) == 0 || errno == EEXIST)
        return 0;
    if (errno != ENOENT)
        return -errno;
    if (mkdir(h->base[kind], 0755) < 0 && errno != EEXIST)
        return -errno;
    for (int k = 0; k < CGROUP_TREE; k++)
        if (h->v2[k] && !strcmp(h->base[k], h->base[kind]))
            write_text(h->base[k], "cgroup.subtree_control", turn_on[k]);
    return mkdir(dir, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

/* Controllers of one v2 hierarchy share a directory: the first of them stands for all. */
static bool is_own_dir(const struct cgroup_host *h, enum cgroup_kind kind)
{
    for (int k = 0; k < (int)kind; k++)
        if (!strcmp(h->base[k], h->base[kind]))
            return false;
    return *h->base[kind];
}

/* A v1 hierarchy costs a directory for each run. It is only used when it limits something, or counts something (memory: processes
 * that the kernel killed). */
static bool is_needed(const struct cgroup_host *h, enum cgroup_kind kind, const struct cgroup_limits *l)
{
    return h->v2[kind] || kind == CGROUP_MEMORY || (kind == CGROUP_CPU ? l->cpu_pct : l->pids) >= 0;
}

static int set_limit(const struct cgroup_host *h, enum cgroup_kind kind, const char *dir, const struct cgroup_limits *l)
{
    char text[64];
    int r = 0;
    if (kind == CGROUP_MEMORY && l->memory_bytes >= 0) {
        snprintf(text, sizeof text, "%lld", (long long)l->memory_bytes);
        r = write_text(dir, h->v2[kind] ? "memory.max" : "memory.limit_in_bytes", text);
        /* Swap would let a run pass its memory limit. The file is absent without swap accounting. */
        write_text(dir, h->v2[kind] ? "memory.swap.max" : "memory.memsw.limit_in_bytes", h->v2[kind] ? "0" : text);
        if (h->v2[kind]) /* all of it or nothing; with v1 the runner sees to that (cgroup_oom_kills) */
            write_text(dir, "memory.oom.group", "1");
        else /* socket buffers of the run's connections; v2 counts them by itself */
            write_text(dir, "memory.kmem.tcp.limit_in_bytes", text);
    } else if (kind == CGROUP_PIDS && l->pids >= 0) {
        snprintf(text, sizeof text, "%lld", (long long)l->pids);
        r = write_text(dir, "pids.max", text);
    }
    return r;
}

static int open_tree(const struct cgroup_host *h, const char *name)
{
    char dir[640];
    if (!*h->base[CGROUP_TREE])
        return -1;
    run_dir(h, CGROUP_TREE, name, dir, sizeof dir);
    return open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int cgroup_make(const struct cgroup_host *h, const char *name, const struct cgroup_limits *l, int ret_procs[CGROUP_N_KINDS],
                int *ret_tree, struct err *e)
{
    int r = 0;
    *ret_tree = -1;
    for (int k = 0; k < CGROUP_N_KINDS; k++)
        ret_procs[k] = -1;
    for (int k = 0; k < CGROUP_N_KINDS; k++) {
        char dir[640], procs[700];
        if (!*h->base[k] || !is_needed(h, k, l))
            continue;
        run_dir(h, k, name, dir, sizeof dir);
        if (is_own_dir(h, k) && (r = make_run_dir(h, k, dir)) < 0) {
            err_sys(e, r, "cannot make cgroup %s", dir);
            break;
        }
        r = set_limit(h, k, dir, l);
        if (r < 0) {
            err_sys(e, r, "cannot set the %s limit of cgroup %s", controllers[k], dir);
            break;
        }
        if (!is_own_dir(h, k))
            continue;
        snprintf(procs, sizeof procs, "%s/cgroup.procs", dir);
        ret_procs[k] = open(procs, O_WRONLY | O_CLOEXEC);
        if (ret_procs[k] < 0) {
            r = err_sys(e, -errno, "cannot open %s", procs);
            break;
        }
    }
    for (int k = 0; r < 0 && k < CGROUP_N_KINDS; k++)
        if (ret_procs[k] >= 0)
            close(fd_take(&ret_procs[k]));
    if (r == 0)
        *ret_tree = open_tree(h, name);
    return r;
}

int cgroup_limit_cpu(const struct cgroup_host *h, const char *name, const struct cgroup_limits *l, struct err *e)
{
    char dir[640], text[64];
    if (l->cpu_pct < 0 || !*h->base[CGROUP_CPU])
        return 0;
    int64_t quota = l->cpu_pct * 1000 < 1000 ? 1000 : l->cpu_pct * 1000;
    snprintf(text, sizeof text, h->v2[CGROUP_CPU] ? "%lld 100000" : "%lld", (long long)quota);
    run_dir(h, CGROUP_CPU, name, dir, sizeof dir);
    int r = write_text(dir, h->v2[CGROUP_CPU] ? "cpu.max" : "cpu.cfs_quota_us", text);
    return r < 0 ? err_sys(e, r, "cannot set the cpu limit of cgroup %s", dir) : 0;
}

static bool is_v1(const struct cgroup_host *h, int kind)
{
    return kind != CGROUP_TREE && *h->base[kind] && !h->v2[kind];
}

bool cgroup_must_move(const struct cgroup_host *h)
{
    bool any = false;
    for (int k = 0; k < CGROUP_N_KINDS; k++)
        any |= is_v1(h, k);
    return any && *h->base[CGROUP_TREE]; /* the v2 tree tells the run's processes from the standby's */
}

int cgroup_enter(const struct cgroup_host *h, const char *name, struct err *e)
{
    for (int k = 0; k < CGROUP_N_KINDS; k++) {
        char dir[640];
        if (!is_v1(h, k))
            continue;
        run_dir(h, k, name, dir, sizeof dir);
        int r = make_run_dir(h, k, dir);
        if (r == 0)
            r = write_text(dir, "cgroup.procs", "0");
        if (r < 0)
            return err_sys(e, r, "cannot enter cgroup %s", dir);
    }
    return 0;
}

int cgroup_adopt(const struct cgroup_host *h, const char *from, const char *name, const struct cgroup_limits *l, int *ret_tree,
                 struct err *e)
{
    struct cgroup_limits with_us = *l;
    with_us.pids += l->pids >= 0;
    *ret_tree = -1;
    for (int k = 0; k < CGROUP_N_KINDS; k++) {
        char old[640], dir[640];
        if (!*h->base[k])
            continue;
        run_dir(h, k, from, old, sizeof old);
        run_dir(h, k, name, dir, sizeof dir);
        int r = 0;
        if (is_v1(h, k))
            r = rename(old, dir) < 0 ? -errno : 0;
        else if (is_own_dir(h, k))
            r = make_run_dir(h, k, dir);
        if (r == 0)
            r = set_limit(h, k, dir, is_v1(h, k) ? &with_us : l);
        if (r < 0)
            return err_sys(e, r, "cannot make %s the run's cgroup", dir);
    }
    *ret_tree = open_tree(h, name);
    return *ret_tree < 0 ? err_sys(e, -errno, "cannot open the run's cgroup") : 0;
}

void cgroup_leave(const struct cgroup_host *h, const char *name, const struct cgroup_limits *l)
{
    for (int k = 0; k < CGROUP_N_KINDS; k++) {
        char dir[640];
        if (!is_v1(h, k))
            continue;
        write_text(h->base[k], "cgroup.procs", "0");
        run_dir(h, k, name, dir, sizeof dir);
        if (l && k == CGROUP_PIDS)
            set_limit(h, k, dir, l);
    }
}

void cgroup_join(const struct cgroup_host *h, const char *name, pid_t pid)
{
    char text[24];
    snprintf(text, sizeof text, "%d", (int)pid);
    for (int k = 0; k < CGROUP_N_KINDS; k++) {
        char dir[640];
        if (!is_own_dir(h, k))
            continue;
        run_dir(h, k, name, dir, sizeof dir);
        write_text(dir, "cgroup.procs", text);
    }
}

void cgroup_sweep(const struct cgroup_host *h, const char *prefix)
{
    for (int k = 0; k < CGROUP_N_KINDS; k++) {
        DIR *d = is_v1(h, k) ? opendir(h->base[k]) : NULL;
        for (struct dirent *ent; d && (ent = readdir(d));)
            if (!strncmp(ent->d_name, prefix, strlen(prefix)))
                unlinkat(dirfd(d), ent->d_name, AT_REMOVEDIR); /* rmdir is refused while a process is in it */
        if (d)
            closedir(d);
    }
}

bool cgroup_has_tree(const struct cgroup_host *h)
{
    return *h->base[CGROUP_TREE];
}

void cgroup_kill(const struct cgroup_host *h, const char *name)
{
    char dir[640];
    if (*h->base[CGROUP_TREE]) {
        run_dir(h, CGROUP_TREE, name, dir, sizeof dir);
        if (write_text(dir, "cgroup.kill", "1") == 0)
            return;
    }
    cgroup_signal(h, name, SIGKILL);
}

int cgroup_procs(const struct cgroup_host *h, const char *name, struct buf *ret)
{
    int r = -ENOENT;
    for (int k = CGROUP_TREE; k >= 0 && r < 0; k--) { /* who is in one hierarchy is in all */
        char dir[640];
        run_dir(h, k, name, dir, sizeof dir);
        r = *h->base[k] ? read_text(dir, "cgroup.procs", ret) : r;
    }
    return r;
}

void cgroup_signal(const struct cgroup_host *h, const char *name, int sig)
{
    for (int k = 0; k < CGROUP_N_KINDS; k++) {
        char dir[640];
        AUTO_BUF struct buf b = {0};
        if (!*h->base[k])
            continue;
        run_dir(h, k, name, dir, sizeof dir);
        if (read_text(dir, "cgroup.procs", &b) < 0)
            continue;
        for (char *p = b.p; *p; p += strspn(p, "\n")) {
            pid_t pid = (pid_t)strtol(p, &p, 10);
            if (pid > 1)
                kill(pid, sig);
        }
        if (k == CGROUP_TREE)
            return;
    }
}

bool cgroup_is_empty(const struct cgroup_host *h, const char *name)
{
    if (*h->base[CGROUP_TREE]) { /* who is in one hierarchy is in all, and this one counts */
        char dir[640];
        AUTO_BUF struct buf b = {0};
        run_dir(h, CGROUP_TREE, name, dir, sizeof dir);
        return read_text(dir, "cgroup.events", &b) < 0 || !strstr(b.p, "populated 1");
    }
    for (int k = 0; k < CGROUP_N_KINDS; k++) {
        char dir[640];
        AUTO_BUF struct buf b = {0};
        if (!*h->base[k])
            continue;
        run_dir(h, k, name, dir, sizeof dir);
        if (read_text(dir, "cgroup.procs", &b) == 0 && b.n)
            return false;
    }
    return true;
}

static int64_t counter(const char *dir, const char *file, const char *key)
{
    AUTO_BUF struct buf b = {0};
    if (read_text(dir, file, &b) < 0)
        return 0;
    size_t n = strlen(key);
    for (char *save, *line = strtok_r(b.p, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        if (!strncmp(line, key, n) && line[n] == ' ')
            return strtoll(line + n, NULL, 10);
    return 0;
}

int64_t cgroup_oom_kills(const struct cgroup_host *h, const char *name)
{
    char dir[640];
    if (!*h->base[CGROUP_MEMORY])
        return 0;
    run_dir(h, CGROUP_MEMORY, name, dir, sizeof dir);
    return counter(dir, h->v2[CGROUP_MEMORY] ? "memory.events" : "memory.oom_control", "oom_kill");
}

enum { LAST_CHARGE_BYTES = 2 << 20 }; /* a huge page: what did not fit may have been that much */

bool cgroup_met_memory_limit(const struct cgroup_host *h, const char *name)
{
    char dir[640];
    AUTO_BUF struct buf most = {0};
    AUTO_BUF struct buf limit = {0};
    if (!*h->base[CGROUP_MEMORY])
        return false;
    run_dir(h, CGROUP_MEMORY, name, dir, sizeof dir);
    if (h->v2[CGROUP_MEMORY])
        return counter(dir, "memory.events", "oom") > 0;
    /* memory.failcnt stays 0 where the limit is met by anonymous memory (6.18). */
    return read_text(dir, "memory.max_usage_in_bytes", &most) == 0 && read_text(dir, "memory.limit_in_bytes", &limit) == 0 &&
           strtoll(most.p, NULL, 10) >= strtoll(limit.p, NULL, 10) - LAST_CHARGE_BYTES;
}

int64_t cgroup_pids_refused(const struct cgroup_host *h, const char *name)
{
    char dir[640];
    if (!*h->base[CGROUP_PIDS])
        return 0;
    run_dir(h, CGROUP_PIDS, name, dir, sizeof dir);
    return counter(dir, "pids.events", "max");
}

void cgroup_remove(const struct cgroup_host *h, const char *name)
{
    for (int k = 0; k < CGROUP_N_KINDS; k++) {
        char dir[640];
        if (!is_own_dir(h, k))
            continue;
        run_dir(h, k, name, dir, sizeof dir);
        rmdir(dir);
    }
}

void cgroup_retire(const struct cgroup_host *h)
{
    for (int k = 0; k < CGROUP_N_KINDS; k++)
        if (*h->base[k])
            rmdir(h->base[k]); /* refused while something is in it */
}
