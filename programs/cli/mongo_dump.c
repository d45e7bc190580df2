/* mysimbdp mongo dump, mysimbdp mongo restore: which MongoDB is meant, and that it runs. simbdp-mongodump does the rest; it alone
 * has the driver, and gets the URL in its environment. */
#include "ledger.h"
#include "mongo_alone.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "term/progress.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

enum { MAX_URL_BYTES = 65536 };

struct move {
    struct cli *c;
    bool dumps, exact, own;
    const char *dir, *tenant, *url_file;
    struct home h;
    bool has_home;
    struct conf *conf;
    struct mongo_alone alone;
    bool is_alone, is_urls; /* the home is down; its MongoDB is not its own */
    char *url;
    char **argv;
    size_t n;
};

static void add(struct move *m, const char *arg)
{
    m->argv = xrealloc(m->argv, (m->n + 2) * sizeof *m->argv);
    m->argv[m->n++] = xstrdup(arg);
    m->argv[m->n] = NULL;
}

/* Beside this one; there need not be a home. */
static char *program_path(void)
{
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n < 0 ? 0 : n] = 0;
    char *slash = strrchr(exe, '/');
    return xasprintf("%.*ssimbdp-mongodump", slash ? (int)(slash + 1 - exe) : 0, exe);
}

/* ---- which MongoDB ---- */

static int url_of_file(struct move *m, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    int r = fd_read_file(AT_FDCWD, m->url_file, &b, MAX_URL_BYTES, e);
    if (r < 0)
        return r;
    buf_add(&b, "", 1);
    m->url = xstrndup(b.p, strcspn(b.p, " \t\r\n"));
    return *m->url ? 0 : err_set(e, ERR_FORMAT, "%s has no URL: its first line is to be one", m->url_file);
}

static int url_of_running(struct move *m, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    int r = fd_read_file(m->h.dirfd, "state/mongo.json", &b, MAX_URL_BYTES, e);
    AUTO_BSON bson_t *doc = r == 0 ? json_parse(b.n ? b.p : "", b.n, e) : NULL;
    if (!doc)
        return r < 0 ? r : ERR_FORMAT;
    m->is_urls = !strcmp(json_get_str(doc, "kind", ""), "url");
    if (m->own && m->is_urls)
        return err_set(e, ERR_REFUSED, "the platform runs with another MongoDB than the home's own; `mysimbdp down` first");
    m->url = xstrdup(json_get_str(doc, "url", NULL));
    return m->url ? 0 : err_set(e, ERR_FORMAT, "%s/state/mongo.json names no MongoDB", m->h.path);
}

static int find_url(struct move *m, struct err *e)
{
    const struct conf_tenant *t = m->tenant ? conf_tenant(m->conf, m->tenant) : NULL;
    if (m->url_file)
        return url_of_file(m, e);
    const bool runs = cli_is_running(&m->h);
    if (m->exact && runs)
        return err_set(e, ERR_REFUSED, "--exact deletes what is not in the dump, and the platform runs; `mysimbdp down` first");
    if (t && *t->mongo_url && !m->own) {
        m->url = xstrdup(t->mongo_url);
        return 0;
    }
    if (runs)
        return url_of_running(m, e);
    m->is_alone = true;
    int r = mongo_alone_start(&m->alone, &m->h, m->conf, m->own, e);
    if (r < 0)
        return r;
    m->url = xstrdup(m->alone.u.mongo.url);
    m->is_urls = !strcmp(m->alone.u.mongo.kind, "url");
    return 0;
}

/* ---- which databases ---- */

static void add_database(struct move *m, const char *name, size_t first)
{
    for (size_t i = first; i < m->n; i++)
        if (!strcmp(m->argv[i], name))
            return;
    add(m, name);
}

/* Of a MongoDB of the home's own all are meant. One that it was told of may have others' databases. */
static int add_databases(struct move *m, struct err *e)
{
    const size_t first = m->n;
    if (m->tenant) {
        add_database(m, conf_tenant(m->conf, m->tenant)->database, first);
        return 0;
    }
    for (size_t i = 0; m->dumps && !m->url_file && i < m->conf->n_tenants; i++) {
        const struct conf_tenant *t = &m->conf->tenants[i];
        if (*t->mongo_url)
            fprintf(
                stderr,
                "mysimbdp mongo dump: %s has a MongoDB of its own (mongo_url), which is not in the dump; --tenant %s dumps it\n",
                t->id, t->id);
        else if (m->is_urls)
            add_database(m, t->database, first);
    }
    return m->is_urls && m->dumps && m->n == first ? err_set(e, ERR_CONFIG, "no tenant has a database there") : 0;
}

/* ---- */

static int wait_for(struct move *m, pid_t pid, const sigset_t *signals, struct err *e)
{
    int status = 0, sig;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (m->is_alone && mongo_alone_has_died(&m->alone)) {
            fprintf(stderr, "mysimbdp mongo: the home's MongoDB ended; %s/logs/mongo.log says why\n", m->h.path);
            kill(pid, SIGTERM);
        }
        if (sigwait(signals, &sig) == 0 && sig != SIGCHLD)
            kill(pid, sig);
    }
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    return err_set(e, ERR_CLOSED, "it was stopped (signal %d) and is not done; say it again%s", WTERMSIG(status),
                   m->dumps ? "" : " to go on");
}

/* The exit code, or negative. Signals reach the program that works, so that the MongoDB is stopped behind it. */
static int execute(struct move *m, struct err *e)
{
    pid_t pid;
    sigset_t signals, before;
    posix_spawn_file_actions_t actions;
    sigemptyset(&signals);
    const int all[] = {SIGINT, SIGTERM, SIGHUP, SIGCHLD};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        sigaddset(&signals, all[i]);
    sigprocmask(SIG_BLOCK, &signals, &before);
    setenv("MONGO_URL", m->url, 1);
    posix_spawn_file_actions_init(&actions);
    fflush(stdout);
    int r = spawn_start(m->argv, environ, &actions, 0, &pid);
    if (r < 0)
        return err_sys(e, r, "cannot execute %s", m->argv[0]);
    r = wait_for(m, pid, &signals, e);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return r;
}

/* What was written while the collections were read may be in the dump in part. */
static void say_loads(struct move *m, int64_t began_wall_ms)
{
    static const char sql[] = "SELECT (SELECT count(*) FROM runs WHERE state<>'ended' OR ended_at>=?1), "
                              "(SELECT count(*) FROM streams.instances WHERE state<>'ended' OR ended_at>=?1)";
    bool none;
    sqlite3 *db = cli_ledger(m->c, &m->h, &none);
    sqlite3_stmt *s = NULL;
    if (db && sqlite3_prepare_v2(db, sql, -1, &s, NULL) == SQLITE_OK && sqlite3_bind_int64(s, 1, began_wall_ms) == SQLITE_OK &&
        sqlite3_step(s) == SQLITE_ROW && sqlite3_column_int64(s, 0) + sqlite3_column_int64(s, 1))
        fprintf(stderr,
                "mysimbdp mongo dump: %lld runs and %lld instances of stream apps went on meanwhile: what they stored after a "
                "collection was read is not in it. For a move, `mysimbdp down` first\n",
                (long long)sqlite3_column_int64(s, 0), (long long)sqlite3_column_int64(s, 1));
    sqlite3_finalize(s);
    sqlite3_close(db);
}

static int run(struct move *m, struct err *e)
{
    const int64_t began = clk_wall_ms();
    AUTO_FREE char *program = program_path();
    add(m, program);
    add(m, m->dumps ? "dump" : "restore");
    add(m, m->dir);
    if (m->dumps && m->has_home && !m->url_file) {
        add(m, "--home");
        add(m, m->h.path);
    }
    if (m->exact)
        add(m, "--exact");
    if (m->c->json)
        add(m, "--json");
    else if (progress_is_quiet())
        add(m, "--quiet");
    int r = find_url(m, e);
    if (r == 0)
        r = add_databases(m, e);
    if (r == 0)
        r = execute(m, e);
    if (r == 0 && m->dumps && m->has_home && !m->url_file)
        say_loads(m, began);
    if (m->is_alone)
        mongo_alone_stop(&m->alone);
    return r;
}

static int open_home(struct move *m)
{
    if (m->url_file && !m->tenant)
        return 0;
    if (cli_enter(m->c, &m->h))
        return CLI_FAILED;
    m->has_home = true;
    if (cli_conf(m->c, &m->h, &m->conf))
        return CLI_FAILED;
    if (m->tenant && !conf_tenant(m->conf, m->tenant)) {
        fprintf(stderr, "mysimbdp mongo: there is no tenant %s\n", m->tenant);
        return CLI_FAILED;
    }
    return 0;
}

int verb_mongo(struct cli *c)
{
    struct move m = {.c = c, .exact = cli_flag(c, "--exact"), .own = cli_flag(c, "--own"), .alone = {.lock = -1}};
    struct err e = {0};
    m.tenant = cli_opt(c, "--tenant");
    m.url_file = cli_opt(c, "--url-file");
    int r = cli_args(c, 2, 2);
    if (r)
        return r;
    m.dumps = !strcmp(c->argv[0], "dump");
    m.dir = c->argv[1];
    if (!m.dumps && strcmp(c->argv[0], "restore") != 0)
        return cli_usage(c, "there is `mongo dump` and `mongo restore`, and no `mongo %s`", c->argv[0]);
    if (m.dumps && m.exact)
        return cli_usage(c, "--exact goes with `mongo restore`");
    if (m.own && m.url_file)
        return cli_usage(c, "--own is the home's own MongoDB, --url-file another: give one of them");
    r = open_home(&m);
    if (r == 0)
        r = run(&m, &e);
    if (r < 0)
        r = cli_fail(c, &e);
    for (size_t i = 0; i < m.n; i++)
        free(m.argv[i]);
    free(m.argv);
    free(m.url);
    conf_free(m.conf);
    if (m.has_home)
        home_close(&m.h);
    return r;
}
