/* What this host gives, and what it does not: every limit of every profile, and what the platform relies on. Nothing is concluded
 * from versions: what is reported was tried. */
#include "cli.h"
#include "ledger.h"
#include "marks.h"
#include "mongo.h"
#include "table.h"

#include "base/beneath.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/space.h"
#include "base/spawn.h"
#include "host/cgroup.h"
#include "host/isolation.h"
#include "host/reach.h"
#include "host/uids.h"
#include "host/userns.h"
#include "run/remains.h"
#include "run/script.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

struct doctor {
    struct cli *c;
    struct home h;
    struct conf *conf;
    struct cgroup_host cg;
    struct isolation_host isolation;
    struct userns_map map; /* when the home has a user namespace: the ids mapped in it */
    bool has_map;
    sqlite3 *db;
    int n_bad;
    bool warns; /* quiet: only what is bad is printed, as warnings of `up` */
};

enum {
    WIDE = 120,
    FAR = 59,
    NARROW = 20
}; /* columns: terminals from which on texts stand to the right, and where; else where they stand below */

/* On a narrow terminal the text stands on lines below. */
static void print_beside(struct buf *b, size_t at, const char *text, size_t room)
{
    AUTO_FREE char *plain = table_plain(text);
    if (!room || at + table_width(plain) <= room || room >= WIDE) {
        table_fold(b, plain, at, FAR, room);
        return;
    }
    while (b->n && b->p[b->n - 1] == ' ')
        b->p[--b->n] = 0;
    buf_addf(b, "\n%*s", NARROW, "");
    table_fold(b, plain, NARROW, NARROW, room);
}

/* status: ok | enforced | emulated | unlimited | absent | failed | unknown. `absent` and `failed` are bad. remedy NULL: none is
 * needed. */
static void say(struct doctor *d, const char *area, const char *subject, const char *status, const char *reason, const char *remedy)
{
    bool bad = !strcmp(status, "absent") || !strcmp(status, "failed");
    d->n_bad += bad;
    if (d->warns) {
        if (bad)
            printf("mysimbdp up: warning: %s%s%s%s%s\n", subject, reason ? ": " : "", reason ? reason : "", remedy ? "; " : "",
                   remedy ? remedy : "");
        return;
    }
    if (d->c->json) {
        AUTO_BUF struct buf b = {0};
        json_begin(&b, NULL, '{');
        json_str(&b, "area", area);
        json_str(&b, "subject", subject);
        json_str(&b, "status", status);
        json_str(&b, "reason", reason);
        json_str(&b, "remedy", remedy);
        json_end(&b, '}');
        puts(b.p);
        return;
    }
    const size_t room = table_room();
    AUTO_BUF struct buf b = {0};
    buf_addf(&b, "%-9s %-9s %-38s ", status, area, subject);
    print_beside(&b, table_width(b.p), reason ? reason : "", room);
    if (remedy) {
        AUTO_FREE char *text = xasprintf("-> %s", remedy);
        buf_addf(&b, "\n%*s", room && room < WIDE ? NARROW : FAR, "");
        table_fold(&b, text, room && room < WIDE ? NARROW : FAR, (room && room < WIDE ? NARROW : FAR) + 3, room);
    }
    puts(b.p);
}

/* ---- limits ---- */

static void limit(struct doctor *d, const struct conf_profile *p, const char *key, int64_t value, const char *status,
                  const char *reason, const char *remedy)
{
    AUTO_FREE char *subject =
        value < 0 ? xasprintf("%s: %s", p->name, key) : xasprintf("%s: %s = %lld", p->name, key, (long long)value);
    if (value < 0)
        say(d, "limit", subject, "unlimited", NULL, NULL);
    else
        say(d, "limit", subject, status, reason, remedy);
}

/* Whether a child of ours can be given the limit. */
static bool rlimit_works(int resource, int64_t value, int64_t *ret_hard)
{
    struct rlimit now, want;
    if (getrlimit(resource, &now) < 0)
        return false;
    *ret_hard = now.rlim_max == RLIM_INFINITY ? -1 : (int64_t)now.rlim_max;
    if (*ret_hard >= 0 && value > *ret_hard)
        value = *ret_hard;
    pid_t pid = fork();
    if (pid == 0) {
        want.rlim_cur = want.rlim_max = (rlim_t)value;
        _exit(setrlimit(resource, &want) < 0 || getrlimit(resource, &now) < 0 || now.rlim_cur != want.rlim_cur);
    }
    int status = 1;
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static void rlimits(struct doctor *d, const struct conf_profile *p)
{
    const struct {
        const char *key;
        int resource;
        int64_t value;
    } all[] = {
        {"rlimits.cpu_s", RLIMIT_CPU, p->rlimits.cpu_s},
        {"rlimits.as_bytes", RLIMIT_AS, p->rlimits.as_bytes},
        {"rlimits.nofile", RLIMIT_NOFILE, p->rlimits.nofile},
        {"rlimits.nproc", RLIMIT_NPROC, p->rlimits.nproc},
        {"rlimits.fsize_bytes", RLIMIT_FSIZE, p->rlimits.fsize_bytes},
        {"rlimits.core_bytes", RLIMIT_CORE, p->rlimits.core_bytes},
        {"rlimits.stack_bytes", RLIMIT_STACK, p->rlimits.stack_bytes},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        int64_t hard = -1;
        bool works = all[i].value < 0 || rlimit_works(all[i].resource, all[i].value, &hard);
        bool lower = works && (geteuid() != 0 || d->has_map) && hard >= 0 && all[i].value > hard;
        AUTO_FREE char *reason =
            lower ? xasprintf("at %lld: the hard limit of this process, which only root may raise", (long long)hard) : NULL;
        if (!lower && all[i].resource == RLIMIT_NPROC && geteuid() != 0)
            reason = xstrdup("counts all processes of your uid, which all tenants share");
        limit(d, p, all[i].key, all[i].value, works ? "enforced" : "absent", works ? reason : "setrlimit refuses it",
              works ? NULL : "choose another value");
    }
}

static void cgroups(struct doctor *d, const struct conf_profile *p)
{
    static const char *const keys[] = {"cgroup.cpu_pct", "cgroup.memory_bytes", "cgroup.pids"};
    static const char *const remedy = "run as root on a host with cgroups (a container needs them writable), set it to -1, or set "
                                      "platform.allow_missing_limits";
    const int64_t values[] = {p->cgroup.cpu_pct, p->cgroup.memory_bytes, p->cgroup.pids};
    const bool stand_in[] = {false, p->rlimits.as_bytes >= 0, p->rlimits.nproc >= 0 && geteuid() == 0};
    static const char *const by[] = {"", "only by rlimits.as_bytes, for each process",
                                     "only by rlimits.nproc, for the tenant's uid"};
    for (int k = 0; k < 3; k++) {
        bool there = *d->cg.base[k];
        AUTO_FREE char *how = xasprintf("cgroup v%d in %s", d->cg.v2[k] ? 2 : 1, d->cg.base[k]);
        AUTO_FREE char *why =
            xasprintf("%s%s%s", stand_in[k] ? by[k] : "nothing holds a run to it", *d->cg.why[k] ? ": " : "", d->cg.why[k]);
        limit(d, p, keys[k], values[k],
              there         ? "enforced"
              : stand_in[k] ? "emulated"
                            : "absent",
              there ? how : why, there ? NULL : remedy);
    }
}

static void isolation(struct doctor *d, const struct conf_profile *p)
{
    static const char *const remedy =
        "run as root on Linux 5.12 or newer where namespaces can be made, or set isolation = \"basic\"";
    AUTO_FREE char *subject = xasprintf("%s: isolation = %s", p->name, conf_isolation_name(p->isolation));
    AUTO_FREE char *network = xasprintf("%s: network", p->name);
    bool wanted = p->isolation == ISOLATION_full, full = wanted && d->isolation.full;
    AUTO_FREE char *how =
        xasprintf("namespaces, a view of its own, system calls filtered%s", d->isolation.landlock ? ", Landlock" : "");
    AUTO_FREE char *why = xasprintf("a uid and limits are all that holds a run: %s", d->isolation.why);
    say(d, "limit", subject,
        full     ? "enforced"
        : wanted ? "absent"
                 : "unlimited",
        full     ? how
        : wanted ? why
                 : NULL,
        wanted && !full ? remedy : NULL);
    if (!wanted || conf_network_has(p, CONF_NET_HOST))
        say(d, "limit", network, "unlimited", "every address is reachable", NULL);
    else if (full)
        say(d, "limit", network, "enforced", "a network namespace, and a relay to what it lists", NULL);
    else
        say(d, "limit", network, "absent", "every address is reachable", remedy);
    const char *status = full ? "enforced" : wanted ? "absent" : "unlimited";
    const char *tmp = full ? "a tmpfs of its own" : "/tmp is the host's";
    limit(d, p, "tmp_bytes", p->tmp_bytes, status, tmp, wanted && !full ? remedy : NULL);
    limit(d, p, "tmp_inodes", p->tmp_inodes, status, tmp, wanted && !full ? remedy : NULL);
    bool memory = full && p->scratch == SCRATCH_memory;
    const char *scratch = memory ? "a tmpfs of that size" : "the runner looks every 2 s, and sooner when it fills quickly";
    limit(d, p, "scratch_bytes", p->scratch_bytes, memory ? "enforced" : "emulated", scratch, NULL);
    limit(d, p, "scratch_inodes", p->scratch_inodes, memory ? "enforced" : "emulated", scratch, NULL);
}

static void profiles(struct doctor *d)
{
    const struct conf_profile *p = d->conf->profiles.v;
    for (size_t i = 0; i < d->conf->profiles.n; i++) {
        limit(d, &p[i], "wall_s", p[i].wall_s, "enforced", "by the runner's clock", NULL);
        limit(d, &p[i], "grace_s", p[i].grace_s, "enforced", "by the runner's clock", NULL);
        limit(d, &p[i], "output_bytes", p[i].output_bytes, "enforced", "by the runner, which reads all output", NULL);
        rlimits(d, &p[i]);
        cgroups(d, &p[i]);
        isolation(d, &p[i]);
    }
    if (cgroup_has_tree(&d->cg))
        say(d, "limit", "end of the whole tree", "enforced", "cgroup.kill and cgroup.events", NULL);
    else
        say(d, "limit", "end of the whole tree", "emulated", "by subreaper and the run's id in the processes' environment", NULL);
}

/* ---- users and reach ---- */

static int64_t uid_of(struct doctor *d, const char *tenant)
{
    sqlite3_stmt *s = NULL;
    int64_t uid = -1;
    if (d->db && sqlite3_prepare_v2(d->db, "SELECT uid FROM tenants WHERE id=?1", -1, &s, NULL) == SQLITE_OK) {
        sqlite3_bind_text(s, 1, tenant, -1, SQLITE_STATIC);
        if (sqlite3_step(s) == SQLITE_ROW)
            uid = sqlite3_column_int64(s, 0);
    }
    sqlite3_finalize(s);
    return uid;
}

/* Tries it with the tenant's uid, in a child. 0 or -errno. */
static int reaches(int64_t uid, const char *path, int mode)
{
    pid_t pid = fork();
    if (pid == 0) {
        if (geteuid() == 0 && uid >= 0 &&
            (setgroups(0, NULL) < 0 || setresgid((gid_t)uid, (gid_t)uid, (gid_t)uid) < 0 ||
             setresuid((uid_t)uid, (uid_t)uid, (uid_t)uid) < 0))
            _exit(EPERM);
        _exit(access(path, mode) < 0 ? errno : 0);
    }
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        return -EAGAIN;
    return -WEXITSTATUS(status);
}

/* Whether the tenant can reach the path. False: that was reported. */
static bool reach(struct doctor *d, const char *tenant, int64_t uid, const char *what, const char *path, int mode)
{
    AUTO_FREE char *subject = xasprintf("%s: %s", tenant, what);
    int r = reaches(uid, path, mode);
    if (r == 0) {
        say(d, "reach", subject, "ok", path, NULL);
        return true;
    }
    AUTO_FREE char *closed = reach_closed(path);
    struct stat st;
    bool is_file = stat(path, &st) == 0 && S_ISREG(st.st_mode);
    AUTO_FREE char *reason = xasprintf("%s: %s (as uid %lld)", path, err_text(r), (long long)(uid >= 0 ? uid : (int64_t)geteuid()));
    AUTO_FREE char *remedy = r == -ENOENT ? xstrdup("copy it there")
                                          : xasprintf("`chmod o+x %s`%s", closed ? closed : path,
                                                      is_file ? ", and the executable itself must have r and x for others" : "");
    say(d, "reach", subject, "failed", reason, remedy);
    return false;
}

static void executable(struct doctor *d, const char *tenant, int64_t uid, const char *name, const char *path)
{
    if (!reach(d, tenant, uid, name, path, X_OK) || !script_has_crlf(path))
        return;
    AUTO_FREE char *subject = xasprintf("%s: %s", tenant, name), *remedy = xasprintf("`sed -i 's/\\r$//' %s`", path);
    say(d, "reach", subject, "failed", "its first line ends with CRLF: no interpreter has a name that ends with a carriage return",
        remedy);
}

/* An app's image, and whether there is something to unpack it. */
static void image(struct doctor *d, const struct conf_tenant *t, const char *name, const char *value)
{
    const char *tag;
    AUTO_FREE char *path = home_image(&d->h, t->id, value, &tag), *umoci = spawn_find("umoci");
    AUTO_FREE char *subject = xasprintf("%s: image of %s", t->id, name);
    AUTO_FD int fd = beneath_root(path, O_PATH | O_DIRECTORY);
    if (fd < 0)
        say(d, "reach", subject, "failed", path, "put a directory or an OCI layout there; no part of the path may be a link");
    else if (!umoci && faccessat(fd, "oci-layout", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        say(d, "reach", subject, "failed", "umoci is not there, which unpacks it", "apt-get install umoci");
    else
        say(d, "reach", subject, "ok", path, NULL);
}

/* An app's executable and what else it needs. */
static void app(struct doctor *d, const struct conf_tenant *t, int64_t uid, const char *name, const char *exec, const char *root,
                const struct cfg_list *secrets)
{
    const struct conf_secret *s = secrets->v;
    AUTO_FREE char *path = home_exec(&d->h, t->id, exec);
    if (*root)
        image(d, t, name, root);
    if (*exec && strncmp(exec, "builtin:", 8) && (!*root || exec[0] != '/')) /* else it is in the image */
        executable(d, t->id, uid, name, path);
    for (size_t k = 0; k < secrets->n; k++) {
        AUTO_FREE char *file = home_secret(&d->h, t->id, s[k].file);
        AUTO_FREE char *what = xasprintf("%s: secret %s", t->id, s[k].name);
        if (access(file, R_OK) < 0)
            say(d, "reach", what, "failed", file, "put the file there, readable for the platform");
    }
}

static void tenant(struct doctor *d, const struct conf_tenant *t)
{
    const struct conf_batch *b = t->batch.v;
    int64_t uid = uid_of(d, t->id);
    AUTO_FREE char *subject = xasprintf("%s: uid %lld", t->id, (long long)uid);
    const struct passwd *pw = uid >= 0 ? getpwuid((uid_t)(d->has_map ? d->map.subuid + uid - 1 : uid)) : NULL;
    if (geteuid() == 0 && uid < 0)
        say(d, "users", t->id, "unknown", "it gets its uid when the platform first starts", NULL);
    else if (geteuid() == 0 && pw) {
        AUTO_FREE char *reason = xasprintf("is also user %s of this host", pw->pw_name);
        say(d, "users", subject, "failed", reason, "choose another platform.uid_base for a new home");
    } else if (geteuid() == 0)
        say(d, "users", subject, "ok", "its own", NULL);
    if (geteuid() == 0 && uid < 0)
        uid = ids_tenant_begin(d->conf->platform.uid_base); /* no tenant has one yet: any serves for the trial */
    if (!reach(d, t->id, uid, "home", d->h.path, X_OK) && d->warns)
        return; /* then nothing else of the tenant is checked */
    const struct conf_stream_app *a = t->stream_apps.v;
    for (size_t i = 0; i < t->batch.n; i++) {
        AUTO_FREE char *checker = home_exec(&d->h, t->id, b[i].checker);
        app(d, t, uid, b[i].app, b[i].exec, b[i].image, &b[i].secrets);
        if (*b[i].checker && (!*b[i].image || b[i].checker[0] != '/'))
            executable(d, t->id, uid, "checker", checker);
    }
    for (size_t i = 0; i < t->stream_apps.n; i++) {
        AUTO_FREE char *checker = home_exec(&d->h, t->id, a[i].checker);
        app(d, t, uid, a[i].app, a[i].exec, a[i].image, &a[i].secrets);
        if (*a[i].checker)
            executable(d, t->id, uid, "checker", checker);
    }
}

/* The block of uids (lib/host/uids.h). One that another home has was refused by conf_load. */
static void block(struct doctor *d)
{
    const long long base = d->conf->platform.uid_base, n = d->conf->platform.n_uids;
    AUTO_FREE char *range = xasprintf("%lld to %lld for inspectors and tenants, from %lld on for the platform's programs", base,
                                      base + n - 1, base + IDS_PROGRAMS);
    if (geteuid() == 0)
        say(d, "users", "uids of this home", "ok", range, NULL);
}

/* What a user other than root has: subordinate ids, none of them, or no user namespaces at all. */
static void user_namespace(struct doctor *d)
{
    struct userns_host host;
    AUTO_FREE char *ids =
        xasprintf("%lld subordinate uids from %lld on, %lld gids from %lld on, in a user namespace", (long long)d->map.n_subuids,
                  (long long)d->map.subuid, (long long)d->map.n_subgids, (long long)d->map.subgid);
    if (d->has_map)
        say(d, "users", "isolation of tenants", "ok", ids, NULL);
    if (geteuid() == 0)
        return;
    userns_look(&host);
    const bool several = d->conf->n_tenants > 1;
    AUTO_FREE char *reason =
        xasprintf("not root, and %s%s", host.why, several ? ": all tenants share your uid" : "; but there is no second tenant");
    say(d, "users", "isolation of tenants", several ? "absent" : "ok", reason, host.remedy);
}

static void tenants(struct doctor *d)
{
    block(d);
    user_namespace(d);
    for (size_t i = 0; i < d->conf->n_tenants; i++)
        tenant(d, &d->conf->tenants[i]);
}

/* ---- file systems ---- */

static void leases(struct doctor *d)
{
    static const char probe[] = "staging/.incoming/.doctor";
    AUTO_FD int made = openat(d->h.dirfd, probe, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    AUTO_FD int fd = openat(d->h.dirfd, probe, O_RDONLY | O_CLOEXEC);
    if (made < 0 || fd < 0) {
        AUTO_FREE char *reason = xasprintf("cannot write below %s/staging: %s", d->h.path, strerror(errno));
        say(d, "files", "leases", "failed", reason, "run doctor as the user that runs the platform");
        return;
    }
    signal(SIGIO, SIG_IGN);
    bool refused = fcntl(fd, F_SETLEASE, F_RDLCK) < 0 && errno == EAGAIN; /* `made` is a writer */
    close(fd_take(&made));
    bool granted = fcntl(fd, F_SETLEASE, F_RDLCK) == 0;
    unlinkat(d->h.dirfd, probe, 0);
    if (refused && granted)
        say(d, "files", "leases", "ok", "writers are seen at once", NULL);
    else
        say(d, "files", "leases", "emulated", "none on this file system: a file counts as complete when it is unchanged for 2 s",
            "have writers rename complete files into staging");
}

static void same_file_system(struct doctor *d)
{
    static const char *const others[][2] = {{"staging", "claimed"}, {"done", "filed"}, {"quarantine", "filed"}};
    struct stat a, b;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (fstatat(d->h.dirfd, others[i][0], &a, 0) < 0 || fstatat(d->h.dirfd, "work", &b, 0) < 0)
            continue;
        bool same = a.st_dev == b.st_dev;
        AUTO_FREE char *subject = xasprintf("%s and work", others[i][0]);
        AUTO_FREE char *how =
            xasprintf("%sfiles are %s by %s", same ? "" : "on different file systems: ", others[i][1], same ? "rename" : "copying");
        say(d, "files", subject, same ? "ok" : "emulated", how,
            same ? NULL : "put both on one file system, which costs nothing a file");
    }
}

static void space(struct doctor *d)
{
    static const char *const places[] = {"staging", "state", "logs", "runs", "work"};
    const int64_t min_bytes = d->conf->platform.min_free_bytes, min_inodes = d->conf->platform.min_free_inodes;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        AUTO_FREE char *path = home_path(&d->h, places[i]);
        struct space s;
        if (space_of(path, &s) < 0)
            continue;
        AUTO_FREE char *reason = space_text(&s, min_bytes, min_inodes);
        if (space_is_low(&s, min_bytes, min_inodes))
            say(d, "files", places[i], "failed", reason,
                "free space, or lower platform.min_free_bytes or min_free_inodes: until then intake pauses");
        else
            say(d, "files", places[i], "ok", reason, NULL);
    }
}

/* ---- sockets and database ---- */

static void sockets(struct doctor *d)
{
    AUTO_FREE char *sock = home_socket(&d->h, "batchmgr.sock");
    struct rlimit l;
    if (strlen(sock) > 107)
        say(d, "sockets", "length of socket paths", "failed", sock, "set XDG_RUNTIME_DIR or TMPDIR to a shorter path");
    else
        say(d, "sockets", "length of socket paths", "ok", sock, NULL);
    if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
        AUTO_FREE char *reason = xasprintf("%lld descriptors: about as many runs at once", (long long)l.rlim_max);
        say(d, "sockets", "descriptors", l.rlim_max < 1024 ? "failed" : "ok", reason,
            l.rlim_max < 1024 ? "raise `ulimit -Hn`" : NULL);
    }
}

static void print_probe(struct doctor *d, const char *where, const char *line)
{
    AUTO_BSON bson_t *doc = json_parse(line, strlen(line), NULL);
    bool up = doc && json_get_bool(doc, "ok", false), users = doc && json_get_bool(doc, "may_create_users", false);
    if (!up) {
        say(d, "mongodb", "answers", "failed", doc ? json_get_str(doc, "error", "") : "the probe failed",
            "start it, or correct the URL");
        return;
    }
    AUTO_FREE char *reason = xasprintf("%s, version %s", where, json_get_str(doc, "version", "?"));
    say(d, "mongodb", "answers", "ok", reason, NULL);
    bool shared = d->conf->platform.allow_shared_credentials;
    if (users)
        say(d, "mongodb", "may create users", "ok", "each tenant gets a user limited to its database", NULL);
    else
        say(d, "mongodb", "may create users", shared ? "emulated" : "failed",
            shared ? "it may not: tenants share the platform's credentials" : json_get_str(doc, "users_error", "it may not"),
            "give the platform a URL whose user has userAdminAnyDatabase");
}

/* simbdp-load asks MongoDB, so that the command line need not be linked with the driver. */
static void probe(struct doctor *d, const char *url, const char *where)
{
    AUTO_FREE char *program = home_program(&d->h, "simbdp-load");
    AUTO_FREE char *env_url = xasprintf("MONGO_URL=%s", url);
    char *argv[] = {program, "--probe", NULL};
    char *envp[] = {env_url, "MONGOC_DISABLE_SHM=1", NULL};
    AUTO_BUF struct buf b = {0};
    buf_add(&b, "", 0);
    spawn_output(argv, envp, &b, 65536, NULL, NULL);
    print_probe(d, where, b.p);
}

static void say_lost(void *arg, const char *tenant, const char *why)
{
    AUTO_FREE char *what = xasprintf("is the one that %s had", tenant);
    say(arg, "mongodb", what, "failed", why, NULL);
}

static void mongodb(struct doctor *d)
{
    marks_each_lost(&d->h, say_lost, d);
    const char *env = getenv("MONGO_URL");
    const char *url = *d->conf->platform.mongo_url ? d->conf->platform.mongo_url : env && *env ? env : NULL;
    bson_t *doc = NULL;
    if (url) {
        probe(d, url, *d->conf->platform.mongo_url ? "platform.mongo_url" : "MONGO_URL");
        return;
    }
    if (cli_request_now(&d->h, "batchmgr.sock", "{\"op\":\"status\"}", &doc, NULL) < 0) {
        say(d, "mongodb", "answers", "unknown", "`mysimbdp up` starts it, and the platform is down", NULL);
        return;
    }
    bool up = !strcmp(json_get_str(doc, "database", ""), "up");
    say(d, "mongodb", "answers", up ? "ok" : "failed", up ? "started by `mysimbdp up`" : json_get_str(doc, "database_error", ""),
        up ? NULL : "look into logs/mongo.log");
    if (up)
        say(d, "mongodb", "tenants kept apart", "ok", "each connection opens its tenant's database only", NULL);
    bson_destroy(doc);
}

static void ports(struct doctor *d)
{
    int port = home_kept_port(&d->h, "mongo");
    if (!port)
        return;
    AUTO_FD int fd = cli_connect(&d->h, "batchmgr.sock", NULL);
    AUTO_FREE char *subject = xasprintf("port %d of the home's MongoDB", port);
    if (fd >= 0 || mongo_port_is_free(port))
        say(d, "sockets", subject, "ok", fd >= 0 ? "in use by this home" : "free", NULL);
    else
        say(d, "sockets", subject, "failed", "in use by another program",
            "`up` picks another when no run is live; `ss -ltnp` names the program");
}

/* What homes left behind that were killed and never started again, or removed; and what doctor's own trials made. */
static void remains(struct doctor *d, bool fix)
{
    int n = remains_others(&d->h, &d->cg, fix);
    AUTO_FREE char *reason = xasprintf(fix ? "%d could not be removed" : "%d of homes that do not run, and nobody is in them", n);
    if (n || fix)
        say(d, "host", "cgroups of other homes", "ok", reason, n ? "`mysimbdp doctor --fix` removes them" : NULL);
    remains_retire(&d->h, &d->cg);
}

/* Checks for `up`: what deserves a warning at the start. Quick, and without touching anything. */
static void warn(struct doctor *d)
{
    tenants(d);
    space(d);
}

static void examine(struct doctor *d, bool fix)
{
    AUTO_FREE char *n = xasprintf("%zu tenants, %zu profiles", d->conf->n_tenants, d->conf->profiles.n);
    say(d, "config", "files below conf/", "ok", n, NULL);
    cgroup_probe(&d->cg, d->h.tag);
    isolation_probe(&d->isolation, &d->h);
    profiles(d);
    tenants(d);
    leases(d);
    same_file_system(d);
    space(d);
    sockets(d);
    ports(d);
    mongodb(d);
    remains(d, fix);
    if (!d->c->json)
        printf(d->n_bad ? "%d of these need attention\n" : "all is well\n", d->n_bad);
}

/* Reports each error of the configuration by itself. */
static int read_conf(struct doctor *d)
{
    AUTO_BUF struct buf all = {0};
    struct err e = {0};
    if (conf_load_all(d->h.path, &all, &d->conf, &e) == 0)
        return 0;
    char *rest = NULL;
    for (char *line = strtok_r(all.n ? all.p : e.msg, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        say(d, "config", "files below conf/", "failed", line, "correct it; `mysimbdp check` says whether it is right");
    return CLI_FAILED;
}

int verb_doctor(struct cli *c)
{
    struct doctor d = {.c = c};
    bool none;
    bool fix = cli_flag(c, "--fix");
    d.warns = cli_flag(c, "--warn");
    int r = cli_args(c, 0, 0);
    if (r || cli_enter(c, &d.h))
        return r ? r : CLI_FAILED;
    if (read_conf(&d)) {
        home_close(&d.h);
        return CLI_FAILED;
    }
    d.has_map = userns_is_inside(d.h.path, &d.map);
    d.db = cli_ledger(c, &d.h, &none);
    if (d.warns)
        warn(&d);
    else
        examine(&d, fix);
    sqlite3_close(d.db);
    conf_free(d.conf);
    home_close(&d.h);
    return d.n_bad ? CLI_FAILED : CLI_DONE;
}
