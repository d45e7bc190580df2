/*   HOME/state/userns.json   {"uid": N, "subuid": N, "n_subuids": N, "gid": N, "subgid": N, "n_subgids": N}, ids of the host
 *
 * Only processes of one user namespace may look at and end one another's. So a later start joins the namespace in which its home's
 * processes live. It is found by them, so nothing has to keep it alive, and nothing is left when the last process has ended. When
 * several programs start at once, a lock (on the directory state/) makes sure that only one namespace is made. */
#include "userns.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "uid_block.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    MAX_TEXT = 1 << 20,
    MAX_ENVIRON = 4 << 20,
    TOOL_REFUSES = -EKEYREJECTED, /* newuidmap or newgidmap failed, as opposed to unshare. -ENOENT: they are not installed */
};

/* ---- what is mapped, and what was ---- */

static char *kept_path(const char *home)
{
    return xasprintf("%s/state/userns.json", home);
}

static int read_kept(const char *home, struct userns_map *ret, struct err *e)
{
    AUTO_FREE char *path = kept_path(home);
    AUTO_BUF struct buf b = {0};
    int r = fd_read_file(AT_FDCWD, path, &b, MAX_TEXT, NULL);
    if (r == -ENOENT)
        return r;
    AUTO_BSON bson_t *doc = r < 0 ? NULL : json_parse(b.p ? b.p : "", b.n, NULL);
    if (!doc)
        return err_set(e, r < 0 ? r : ERR_FORMAT, "%s cannot be used (%s); restore it from a backup", path,
                       err_text(r < 0 ? r : ERR_FORMAT));
    *ret = (struct userns_map){json_get_i64(doc, "uid", -1), json_get_i64(doc, "subuid", -1), json_get_i64(doc, "n_subuids", -1),
                               json_get_i64(doc, "gid", -1), json_get_i64(doc, "subgid", -1), json_get_i64(doc, "n_subgids", -1)};
    return 0;
}

static int keep(const char *home, const struct userns_map *m, struct err *e)
{
    AUTO_FREE char *path = kept_path(home);
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_i64(&b, "uid", m->uid);
    json_i64(&b, "subuid", m->subuid);
    json_i64(&b, "n_subuids", m->n_subuids);
    json_i64(&b, "gid", m->gid);
    json_i64(&b, "subgid", m->subgid);
    json_i64(&b, "n_subgids", m->n_subgids);
    json_end(&b, '}');
    buf_adds(&b, "\n");
    return fd_write_file(AT_FDCWD, path, b.p, b.n, 0600, e);
}

static bool same(const struct userns_map *a, const struct userns_map *b)
{
    return !memcmp(a, b, sizeof *a);
}

/* Checks one of a process' two maps: it must have the user's id and his range, and nothing else. */
static bool read_map(const char *pid, const char *name, int64_t *ret_id, int64_t *ret_first, int64_t *ret_n)
{
    char path[64];
    long long in[2], out[2], n[2];
    int end = 0;
    AUTO_BUF struct buf b = {0};
    snprintf(path, sizeof path, "/proc/%.20s/%s", pid, name);
    if (fd_read_file(AT_FDCWD, path, &b, 4096, NULL) < 0 || !b.n ||
        sscanf(b.p, "%lld %lld %lld %lld %lld %lld %n", &in[0], &out[0], &n[0], &in[1], &out[1], &n[1], &end) != 6 || b.p[end])
        return false;
    *ret_id = out[0];
    *ret_first = out[1];
    *ret_n = n[1];
    return in[0] == 0 && n[0] == 1 && in[1] == 1;
}

static bool has_map(const char *pid, const struct userns_map *m)
{
    struct userns_map now = {0};
    return read_map(pid, "uid_map", &now.uid, &now.subuid, &now.n_subuids) &&
           read_map(pid, "gid_map", &now.gid, &now.subgid, &now.n_subgids) && same(&now, m);
}

bool userns_is_inside(const char *path, struct userns_map *ret)
{
    return geteuid() == 0 && read_kept(path, ret, NULL) == 0 && has_map("self", ret);
}

int64_t userns_owner(const char *path)
{
    struct userns_map kept;
    return read_kept(path, &kept, NULL) == 0 ? kept.uid : -1;
}

int userns_admit(const char *path, struct err *e)
{
    struct userns_map kept;
    int r = geteuid() == 0 ? read_kept(path, &kept, e) : -ENOENT;
    if (r < 0 || has_map("self", &kept))
        return r == -ENOENT ? 0 : r;
    const struct passwd *pw = getpwuid((uid_t)kept.uid);
    return err_set(e, -EPERM,
                   "%s is run without root by uid %lld%s%s, and its files belong to that user's subordinate ids: use that user; or "
                   "make a new home with `mysimbdp init` and copy conf/, keys/ and apps/ into it",
                   path, (long long)kept.uid, pw ? ", " : "", pw ? pw->pw_name : "");
}

/* ---- making one ---- */

static int run_tool(const char *tool, pid_t pid, int64_t id, int64_t first, int64_t n)
{
    AUTO_FREE char *target = xasprintf("%d", (int)pid), *own = xasprintf("%lld", (long long)id);
    AUTO_FREE char *from = xasprintf("%lld", (long long)first), *count = xasprintf("%lld", (long long)n);
    char *argv[] = {(char *)tool, target, "0", own, "1", "1", from, count, NULL};
    posix_spawn_file_actions_t fa;
    pid_t child;
    int status;
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_addopen(&fa, 2, "/dev/null", O_WRONLY, 0); /* its message is replaced by ours */
    int r = spawn_start(argv, environ, &fa, POSIX_SPAWN_SETSIGDEF, &child);
    if (r < 0)
        return -ENOENT; /* or we may not execute it */
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : TOOL_REFUSES;
}

/* The child that stays outside of the namespace for a moment: newuidmap and newgidmap can only write our map from there. Its exit
 * code is an errno. */
static _Noreturn void write_map(int go, pid_t pid, const struct userns_map *m)
{
    char byte;
    int r = read(go, &byte, 1) == 1 ? 0 : -ECANCELED;
    if (r == 0)
        r = run_tool("newuidmap", pid, m->uid, m->subuid, m->n_subuids);
    if (r == 0)
        r = run_tool("newgidmap", pid, m->gid, m->subgid, m->n_subgids);
    _exit(-r);
}

static int make(const struct userns_map *m)
{
    int go[2], status = 0;
    if (pipe2(go, O_CLOEXEC) < 0)
        return -errno;
    const pid_t self = getpid(), helper = fork();
    if (helper == 0) {
        close(go[1]);
        write_map(go[0], self, m);
    }
    close(go[0]);
    int r = helper < 0 || unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0 ? -errno : 0;
    if (r == 0 && write(go[1], "+", 1) < 0)
        r = -errno;
    close(go[1]);
    while (helper > 0 && waitpid(helper, &status, 0) < 0 && errno == EINTR) {
    }
    return r < 0 ? r : WIFEXITED(status) ? -WEXITSTATUS(status) : -ECANCELED;
}

/* ---- what the host gives ---- */

/* A child tries it, since a process cannot leave the namespace again. m NULL: without subordinate ids. */
static int attempt(const struct userns_map *m)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        int r = m ? make(m) : unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0 ? -errno : 0;
        if (r == 0 && m && setresuid(1, 1, 1) < 0) /* AppArmor may let us create the namespace, and then forbid everything in it */
            r = -errno;
        _exit(-r);
    }
    if (pid < 0)
        return -errno;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? -WEXITSTATUS(status) : -ECANCELED;
}

/* The largest range that the file (/etc/subuid, say) gives the user, by name or number. */
static bool find_range(const char *file, const char *name, int64_t uid, int64_t *ret_first, int64_t *ret_n)
{
    AUTO_BUF struct buf b = {0};
    AUTO_FREE char *number = xasprintf("%lld", (long long)uid);
    *ret_first = *ret_n = 0;
    if (fd_read_file(AT_FDCWD, file, &b, 16 * MAX_TEXT, NULL) < 0)
        return false;
    for (char *rest = b.p, *line; (line = strsep(&rest, "\n"));) {
        char *owner = strsep(&line, ":"), *first = strsep(&line, ":"), *n = line;
        if (!n || (strcmp(owner, name) != 0 && strcmp(owner, number) != 0) || strtoll(n, NULL, 10) <= *ret_n)
            continue;
        *ret_first = strtoll(first, NULL, 10);
        *ret_n = strtoll(n, NULL, 10);
    }
    return *ret_n > 0;
}

static void __attribute__((format(printf, 4, 5)))
conclude(struct userns_host *h, enum userns_kind kind, const char *remedy, const char *fmt, ...)
{
    va_list ap;
    h->kind = kind;
    snprintf(h->remedy, sizeof h->remedy, "%s", remedy);
    va_start(ap, fmt);
    vsnprintf(h->why, sizeof h->why, fmt, ap);
    va_end(ap);
}

static void conclude_failure(struct userns_host *h, int r)
{
    static const struct {
        const char *file, *bad, *name, *good;
    } switches[] = {
        {"/proc/sys/user/max_user_namespaces", "0\n", "user.max_user_namespaces", "15000"},
        {"/proc/sys/kernel/unprivileged_userns_clone", "0\n", "kernel.unprivileged_userns_clone", "1"},
        {"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n", "kernel.apparmor_restrict_unprivileged_userns", "0"},
    };
    if (r == -ENOENT) {
        conclude(h, USERNS_NO_IDS, "install newuidmap and newgidmap (Debian: package uidmap)", "newuidmap or newgidmap is missing");
        return;
    }
    if (r == TOOL_REFUSES) {
        conclude(h, USERNS_NO_IDS,
                 "/etc/subuid and /etc/subgid must give them to the user, newuidmap and newgidmap be setuid root, and this process "
                 "be free to gain privileges (NoNewPrivileges=no)",
                 "newuidmap or newgidmap refuses them");
        return;
    }
    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++) {
        AUTO_BUF struct buf b = {0};
        if (fd_read_file(AT_FDCWD, switches[i].file, &b, 64, NULL) < 0 || !b.n || strcmp(b.p, switches[i].bad) != 0)
            continue;
        AUTO_FREE char *remedy = xasprintf("as root: `sysctl -w %s=%s`", switches[i].name, switches[i].good);
        conclude(h, USERNS_NONE, remedy, "no user namespaces here: %s forbids them", switches[i].name);
        return;
    }
    conclude(h, USERNS_NONE, "let it make user namespaces (a container or a security module forbids them), or run as root",
             "no user namespaces here: %s", err_text(r));
}

void userns_look(struct userns_host *ret)
{
    *ret = (struct userns_host){.kind = USERNS_ROOT};
    struct userns_map *m = &ret->map;
    const struct passwd *pw = getpwuid(geteuid());
    if (geteuid() == 0)
        return;
    int r = attempt(NULL);
    if (r < 0) {
        conclude_failure(ret, r);
        return;
    }
    AUTO_FREE char *name = pw ? xstrdup(pw->pw_name) : xasprintf("%u", (unsigned)geteuid());
    m->uid = geteuid();
    m->gid = getegid();
    bool uids = find_range("/etc/subuid", name, m->uid, &m->subuid, &m->n_subuids);
    bool gids = find_range("/etc/subgid", name, m->uid, &m->subgid, &m->n_subgids);
    AUTO_FREE char *add =
        xasprintf("as root: `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s`, with a range that "
                  "nobody else has there",
                  name);
    if (!pw)
        conclude(ret, USERNS_NO_IDS, "give it an account: newuidmap asks for one", "uid %lld has no account", (long long)m->uid);
    else if (!uids || !gids)
        conclude(ret, USERNS_NO_IDS, add, "%s has no subordinate ids in %s", name, uids ? "/etc/subgid" : "/etc/subuid");
    else if (m->n_subuids < UID_BLOCK_SIZE || m->n_subgids < UID_BLOCK_SIZE)
        conclude(ret, USERNS_NO_IDS, add, "%s has only %lld subordinate uids and %lld gids (in one range); a home needs %d", name,
                 (long long)m->n_subuids, (long long)m->n_subgids, UID_BLOCK_SIZE);
    else if ((r = attempt(m)) < 0)
        conclude_failure(ret, r);
    else
        ret->kind = USERNS_THERE;
}

/* ---- entering ---- */

static bool holds_path(const char *pid, const char *file, const char *home)
{
    char path[64];
    const size_t n = strlen(home);
    AUTO_BUF struct buf b = {0};
    snprintf(path, sizeof path, "/proc/%.20s/%s", pid, file);
    if (fd_read_file(AT_FDCWD, path, &b, MAX_ENVIRON, NULL) < 0 || !b.n)
        return false;
    for (const char *p = b.p, *end = b.p + b.n; (p = memmem(p, (size_t)(end - p), home, n)); p++)
        if (p[n] == 0 || p[n] == '/')
            return true;
    return false;
}

/* Programs, and the inits of runs, have the home in their command line. Tenants' processes have it in their environment (HOME is
 * the scratch directory). */
static bool is_of_home(int proc, const char *pid, const char *home, const struct userns_map *m, bool own)
{
    struct stat st;
    return isdigit((unsigned char)*pid) && fstatat(proc, pid, &st, 0) == 0 && (st.st_uid == m->uid) == own && has_map(pid, m) &&
           (holds_path(pid, "cmdline", home) || holds_path(pid, "environ", home));
}

/* own: found by a process of the user's own. One found only by a tenant's process, which may name any home, is second best. */
static int open_living(const char *home, const struct userns_map *m, bool own)
{
    int found = -1;
    DIR *d = opendir("/proc");
    for (struct dirent *ent; found < 0 && d && (ent = readdir(d));) {
        char path[64];
        if (!is_of_home(dirfd(d), ent->d_name, home, m, own))
            continue;
        snprintf(path, sizeof path, "/proc/%.20s/ns/user", ent->d_name);
        found = open(path, O_RDONLY | O_CLOEXEC); /* -1: the process has just ended */
    }
    if (d)
        closedir(d);
    return found;
}

/* Whether another program of the platform, except the command line, works on the home outside of the namespace. It, or a run of
 * its, cannot be taken along. */
static bool is_in_use(const char *home)
{
    char own[PATH_MAX] = "", exe[PATH_MAX], path[64];
    ssize_t n = readlink("/proc/self/exe", own, sizeof own - 1);
    const size_t dir = n > 0 ? (size_t)(strrchr(own, '/') - own) + 1 : 0;
    bool found = false;
    DIR *d = opendir("/proc");
    for (struct dirent *ent; !found && d && (ent = readdir(d));) {
        if (!isdigit((unsigned char)*ent->d_name) || atoi(ent->d_name) == getpid())
            continue;
        snprintf(path, sizeof path, "/proc/%.20s/exe", ent->d_name);
        n = readlink(path, exe, sizeof exe - 1);
        found = n > (ssize_t)dir && !strncmp(exe, own, dir) && strncmp(exe + dir, "mysimbdp", strlen("mysimbdp")) != 0 &&
                holds_path(ent->d_name, "cmdline", home);
    }
    if (d)
        closedir(d);
    return found;
}

static int join(int fd)
{
    return setns(fd, CLONE_NEWUSER) < 0 || unshare(CLONE_NEWNS) < 0 ? -errno : 0;
}

/* Without its ids none of the tenants' files could be read, and new tenants would get the ids of others. */
static int refuse_lost(const char *path, const struct userns_map *kept, const struct userns_host *host, struct err *e)
{
    return err_set(
        e, -EPERM,
        "%s needs the subordinate ids that it was first started with (uids %lld to %lld, gids %lld to %lld of uid %lld), "
        "and they cannot be had: %s. Remedy: %s; or make a new home with `mysimbdp init` and copy conf/, keys/ and apps/ into it",
        path, (long long)kept->subuid, (long long)(kept->subuid + kept->n_subuids - 1), (long long)kept->subgid,
        (long long)(kept->subgid + kept->n_subgids - 1), (long long)kept->uid, host->why, host->remedy);
}

static int refuse_roots(const char *path, struct err *e)
{
    return err_set(
        e, -EPERM,
        "%s was run by root, with uids of its own for tenants: run it as root; or make a new home with `mysimbdp init` and "
        "copy conf/, keys/ and apps/ into it",
        path);
}

static int enter_again(const char *path, const struct userns_map *kept, struct err *e)
{
    struct userns_host host = {0};
    AUTO_FD int living = open_living(path, kept, true);
    if (living < 0)
        living = open_living(path, kept, false);
    int r = living < 0 ? make(kept) : join(living);
    if (r == 0 || living >= 0)
        return r < 0 ? err_sys(e, r, "cannot enter the user namespace that %s runs in", path) : 0;
    conclude_failure(&host, r);
    return refuse_lost(path, kept, &host, e);
}

static int enter_first(const char *path, struct err *e)
{
    struct userns_host host;
    AUTO_FREE char *uids = xasprintf("%s/state/uids.json", path);
    userns_look(&host);
    if (host.kind != USERNS_THERE)
        return 0; /* then there is one uid for all, if the configuration allows it */
    if (access(uids, F_OK) == 0)
        return refuse_roots(path, e);
    if (is_in_use(path)) {
        log_warn("user_namespace", NULL, NULL,
                 "programs or runs of %s go on with one uid for all: so does this; tenants get uids of their own when it starts "
                 "while none is there",
                 path);
        return 0;
    }
    int r = make(&host.map);
    return r < 0 ? err_sys(e, r, "cannot make the user namespace of %s", path) : keep(path, &host.map, e);
}

int userns_enter(const char *path, struct err *e)
{
    struct userns_map kept;
    AUTO_FREE char *state = xasprintf("%s/state", path);
    if (geteuid() == 0)
        return 0;
    AUTO_FD int lock = open(state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock < 0)
        return err_sys(e, -errno, "cannot open %s", state);
    while (flock(lock, LOCK_EX) < 0 && errno == EINTR) {
    }
    int r = read_kept(path, &kept, e);
    return r == 0 ? enter_again(path, &kept, e) : r == -ENOENT ? enter_first(path, e) : r;
}
