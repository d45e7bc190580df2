/* What this host gives, and what it does not: every limit of every profile, and what the platform relies on. Nothing is concluded
 * from versions: what is reported was tried. */
#include "doctor.h"
#include "ledger.h"
#include "marks.h"
#include "mongo.h"
#include "term/table.h"

#include "base/fd.h"
#include "base/mem.h"
#include "base/space.h"
#include "base/spawn.h"
#include "host/cgroup.h"
#include "host/isolation.h"
#include "host/userns.h"
#include "run/leftovers.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

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

void doctor_say(struct doctor *d, const char *area, const char *subject, const char *status, const char *reason, const char *remedy)
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

/* ---- file systems ---- */

static void leases(struct doctor *d)
{
    static const char probe[] = "staging/.incoming/.doctor";
    AUTO_FD int made = openat(d->h.dirfd, probe, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    AUTO_FD int fd = openat(d->h.dirfd, probe, O_RDONLY | O_CLOEXEC);
    if (made < 0 || fd < 0) {
        AUTO_FREE char *reason = xasprintf("cannot write below %s/staging: %s", d->h.path, strerror(errno));
        doctor_say(d, "files", "leases", "failed", reason, "run doctor as the user that runs the platform");
        return;
    }
    signal(SIGIO, SIG_IGN);
    bool refused = fcntl(fd, F_SETLEASE, F_RDLCK) < 0 && errno == EAGAIN; /* `made` is a writer */
    close(fd_take(&made));
    bool granted = fcntl(fd, F_SETLEASE, F_RDLCK) == 0;
    unlinkat(d->h.dirfd, probe, 0);
    if (refused && granted)
        doctor_say(d, "files", "leases", "ok", "writers are seen at once", NULL);
    else
        doctor_say(d, "files", "leases", "emulated",
                   "none on this file system: a file counts as complete when it is unchanged for 2 s",
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
        doctor_say(d, "files", subject, same ? "ok" : "emulated", how,
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
            doctor_say(d, "files", places[i], "failed", reason,
                       "free space, or lower platform.min_free_bytes or min_free_inodes: until then intake pauses");
        else
            doctor_say(d, "files", places[i], "ok", reason, NULL);
    }
}

/* ---- sockets and database ---- */

static void sockets(struct doctor *d)
{
    AUTO_FREE char *sock = home_socket(&d->h, "batchmgr.sock");
    struct rlimit l;
    if (strlen(sock) > 107)
        doctor_say(d, "sockets", "length of socket paths", "failed", sock, "set XDG_RUNTIME_DIR or TMPDIR to a shorter path");
    else
        doctor_say(d, "sockets", "length of socket paths", "ok", sock, NULL);
    if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
        AUTO_FREE char *reason = xasprintf("%lld descriptors: about as many runs at once", (long long)l.rlim_max);
        doctor_say(d, "sockets", "descriptors", l.rlim_max < 1024 ? "failed" : "ok", reason,
                   l.rlim_max < 1024 ? "raise `ulimit -Hn`" : NULL);
    }
}

static void print_probe(struct doctor *d, const char *where, const char *line)
{
    AUTO_BSON bson_t *doc = json_parse(line, strlen(line), NULL);
    bool up = doc && json_get_bool(doc, "ok", false), users = doc && json_get_bool(doc, "may_create_users", false);
    if (!up) {
        doctor_say(d, "mongodb", "answers", "failed", doc ? json_get_str(doc, "error", "") : "the probe failed",
                   "start it, or correct the URL");
        return;
    }
    AUTO_FREE char *reason = xasprintf("%s, version %s", where, json_get_str(doc, "version", "?"));
    doctor_say(d, "mongodb", "answers", "ok", reason, NULL);
    bool shared = d->conf->platform.allow_shared_credentials;
    if (users)
        doctor_say(d, "mongodb", "may create users", "ok", "each tenant gets a user limited to its database", NULL);
    else
        doctor_say(d, "mongodb", "may create users", shared ? "emulated" : "failed",
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
    doctor_say(arg, "mongodb", what, "failed", why, NULL);
}

/* Why the collection is not sharded as it should be, by batchmgr's word; NULL: nothing is known against it. */
static const char *not_sharded(const bson_t *databases, const char *tenant, const char *collection)
{
    bson_iter_t it;
    bson_t of, one;
    if (!bson_iter_init_find(&it, databases, tenant) || !json_iter_doc(&it, &of) || !json_get_iter(&of, "not_sharded", &it))
        return NULL;
    while (json_next_doc(&it, &one))
        if (!strcmp(json_get_str(&one, "collection", ""), collection))
            return json_get_str(&one, "why", "it is not known why");
    return NULL;
}

static void shards(struct doctor *d)
{
    AUTO_BUF struct buf b = {0};
    AUTO_BSON bson_t *doc =
        fd_read_file(d->h.dirfd, "state/databases.json", &b, 16 << 20, NULL) < 0 ? NULL : json_parse(b.p, b.n, NULL);
    for (size_t i = 0; i < d->conf->n_tenants; i++) {
        const struct conf_tenant *t = &d->conf->tenants[i];
        const struct conf_dataset *set = t->datasets.v;
        for (size_t k = 0; k < t->datasets.n; k++) {
            if (!set[k].shard.key.n)
                continue;
            AUTO_FREE char *what = xasprintf("shard key of %s/%s", t->id, set[k].name);
            const char *why = doc ? not_sharded(doc, t->id, set[k].collection) : NULL;
            doctor_say(d, "mongodb", what,
                       !doc  ? "unknown"
                       : why ? "absent"
                             : "ok",
                       doc ? why : "the platform was not started yet",
                       why ? "loads go on as ever; else mend it, or take `shard` out of the dataset" : NULL);
        }
    }
}

static void mongodb(struct doctor *d)
{
    shards(d);
    marks_each_lost(&d->h, say_lost, d);
    const char *env = getenv("MONGO_URL");
    const char *url = *d->conf->platform.mongo_url ? d->conf->platform.mongo_url : env && *env ? env : NULL;
    bson_t *doc = NULL;
    if (url) {
        probe(d, url, *d->conf->platform.mongo_url ? "platform.mongo_url" : "MONGO_URL");
        return;
    }
    if (cli_request_now(&d->h, "batchmgr.sock", "{\"op\":\"status\"}", &doc, NULL) < 0) {
        doctor_say(d, "mongodb", "answers", "unknown", "`mysimbdp up` starts it, and the platform is down", NULL);
        return;
    }
    bool up = !strcmp(json_get_str(doc, "database", ""), "up");
    doctor_say(d, "mongodb", "answers", up ? "ok" : "failed",
               up ? "started by `mysimbdp up`" : json_get_str(doc, "database_error", ""), up ? NULL : "look into logs/mongo.log");
    if (up)
        doctor_say(d, "mongodb", "tenants kept apart", "ok", "each connection opens its tenant's database only", NULL);
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
        doctor_say(d, "sockets", subject, "ok", fd >= 0 ? "in use by this home" : "free", NULL);
    else
        doctor_say(d, "sockets", subject, "failed", "in use by another program",
                   "`up` picks another when no run is live; `ss -ltnp` names the program");
}

/* What homes left behind that were killed and never started again, or removed; and what doctor's own trials made. */
static void remains(struct doctor *d, bool fix)
{
    int n = remains_others(&d->h, &d->cg, fix);
    AUTO_FREE char *reason = xasprintf(fix ? "%d could not be removed" : "%d of homes that do not run, and nobody is in them", n);
    if (n || fix)
        doctor_say(d, "host", "cgroups of other homes", "ok", reason, n ? "`mysimbdp doctor --fix` removes them" : NULL);
    remains_retire(&d->h, &d->cg);
}

/* Checks for `up`: what deserves a warning at the start. Quick, and without touching anything. */
static void warn(struct doctor *d)
{
    doctor_tenants(d);
    space(d);
}

static void examine(struct doctor *d, bool fix)
{
    AUTO_FREE char *n = xasprintf("%zu tenants, %zu profiles", d->conf->n_tenants, d->conf->profiles.n);
    doctor_say(d, "config", "files below conf/", "ok", n, NULL);
    cgroup_probe(&d->cg, d->h.tag);
    isolation_probe(&d->isolation, &d->h);
    doctor_limits(d);
    doctor_tenants(d);
    leases(d);
    same_file_system(d);
    space(d);
    sockets(d);
    ports(d);
    mongodb(d);
    doctor_slurm(d);
    doctor_kafka(d);
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
        doctor_say(d, "config", "files below conf/", "failed", line, "correct it; `mysimbdp check` says whether it is right");
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
