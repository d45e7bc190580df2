#include "mongo.h"
#include "common/access.h"
#include "common/fd.h"
#include "common/json.h"
#include "common/mem.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>

static const char admin_user[] = "simbdp";

/* A port that can be bound now: `port`, or with 0 any. Negative when it is taken. */
static int bindable(int port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof sa;
    int on = 1;
    AUTO_FD int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof sa) < 0 || listen(fd, 1) < 0)
        return -errno;
    return getsockname(fd, (struct sockaddr *)&sa, &n) < 0 ? -errno : ntohs(sa.sin_port);
}

bool mongo_port_is_free(int port)
{
    return bindable(port) == port;
}

/* True when a runner of this home lives: it would go on with the old port. */
static bool has_live_runs(const struct home *h)
{
    bool live = false;
    DIR *d = opendir(h->runtime);
    for (struct dirent *ent; d && !live && (ent = readdir(d));) {
        size_t n = strlen(ent->d_name);
        if (n < 26 || strcmp(ent->d_name + n - 5, ".lock"))
            continue;
        AUTO_FD int fd = openat(dirfd(d), ent->d_name, O_RDWR | O_CLOEXEC);
        live = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0;
    }
    if (d)
        closedir(d);
    return live;
}

static int choose_port(const struct home *h, struct err *e)
{
    int kept = home_kept_port(h, "mongo");
    /* An `up` that was killed leaves a MongoDB that is about to end. */
    for (int i = 0; kept > 0 && i < 40; i++) {
        if (bindable(kept) == kept)
            return kept;
        poll(NULL, 0, 50);
    }
    if (kept > 0 && has_live_runs(h))
        return err_set(e, -EADDRINUSE,
                       "port %d of this home's MongoDB is in use by another program, and runs that know it "
                       "are going; free the port (`ss -ltnp | grep %d` names the program), or end the runs",
                       kept, kept);
    int port = bindable(0);
    if (port < 0)
        return err_sys(e, port, "no port can be bound on 127.0.0.1");
    int r = home_keep_port(h, "mongo", port, e);
    return r < 0 ? r : port;
}

static void add_arg(struct mongo_plan *p, char *arg)
{
    size_t n = 0;
    while (p->argv && p->argv[n])
        n++;
    p->argv = xrealloc(p->argv, (n + 2) * sizeof *p->argv);
    p->argv[n] = arg;
    p->argv[n + 1] = NULL;
}

static char *on_path(const char *name)
{
    const char *path = getenv("PATH");
    AUTO_FREE char *copy = xstrdup(path ? path : "/usr/local/bin:/usr/bin:/bin");
    for (char *save, *dir = strtok_r(copy, ":", &save); dir; dir = strtok_r(NULL, ":", &save)) {
        char *full = xasprintf("%s/%s", dir, name);
        if (access(full, X_OK) == 0)
            return full;
        free(full);
    }
    return NULL;
}

static int plan_embedded(const struct home *h, int port, struct mongo_plan *p, struct err *e)
{
    AUTO_FREE char *jars = xasprintf("%s/embedded-mongo/lib", h->bin);
    char *java = on_path("java");
    if (!java || access(jars, R_OK) < 0) {
        free(java);
        return err_set(e, -ENOENT,
                       "no MongoDB: MONGO_URL is not set, no mongod is on PATH, and the embedded one is not "
                       "installed (%s); run scripts/setup",
                       java ? jars : "java is missing");
    }
    p->kind = "embedded";
    const char *jvm[] = {"-Xms64m", "-Xmx2g", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-cp"};
    add_arg(p, java);
    for (size_t i = 0; i < sizeof jvm / sizeof *jvm; i++)
        add_arg(p, xstrdup(jvm[i]));
    add_arg(p, xasprintf("%s/embedded-mongo/classes:%s/*", h->bin, jars));
    add_arg(p, xstrdup("EmbeddedMongo"));
    add_arg(p, xstrdup("--home"));
    add_arg(p, xstrdup(h->path));
    add_arg(p, xstrdup("--port"));
    add_arg(p, xasprintf("%d", port));
    add_arg(p, xstrdup("--data"));
    add_arg(p, home_path(h, "state/mongo.mv"));
    add_arg(p, xstrdup("--access"));
    add_arg(p, home_path(h, "keys/mongo-access"));
    return access_embedded_url(h, port, "*", "*", &p->url, e);
}

static int plan_mongod(const struct home *h, int port, char *mongod, struct mongo_plan *p, struct err *e)
{
    char secret[ACCESS_SECRET_SIZE];
    int r = access_secret(h, "mongo", "*", secret, e);
    if (r == 0)
        r = fd_mkdirs(h->dirfd, "state/mongod", 0700);
    if (r < 0)
        return r;
    p->kind = "mongod";
    add_arg(p, mongod);
    const char *flags[] = {"--auth", "--bind_ip", "127.0.0.1", "--quiet", "--dbpath"};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        add_arg(p, xstrdup(flags[i]));
    add_arg(p, home_path(h, "state/mongod"));
    add_arg(p, xstrdup("--port"));
    add_arg(p, xasprintf("%d", port));
    p->url = xasprintf("mongodb://%s:%s@127.0.0.1:%d/?authSource=admin", admin_user, secret, port);
    return 0;
}

static int write_state(const struct home *h, const struct mongo_plan *p, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_str(&b, "kind", p->kind);
    json_str(&b, "url", p->url);
    json_end(&b, '}');
    buf_adds(&b, "\n");
    return fd_write_file(h->dirfd, "state/mongo.json", b.p, b.n, 0600, e);
}

int mongo_plan(const struct home *h, const struct conf *c, struct mongo_plan *ret, struct err *e)
{
    const char *env = getenv("MONGO_URL");
    *ret = (struct mongo_plan){0};
    const char *url = *c->platform.mongo_url ? c->platform.mongo_url : env && *env ? env : NULL;
    if (url) {
        ret->kind = "url";
        ret->url = xstrdup(url);
        return write_state(h, ret, e);
    }
    int port = choose_port(h, e);
    if (port < 0)
        return port;
    char *mongod = on_path("mongod");
    int r = mongod ? plan_mongod(h, port, mongod, ret, e) : plan_embedded(h, port, ret, e);
    if (r == 0)
        r = access_write_mongo(h, c, e);
    return r < 0 ? r : write_state(h, ret, e);
}

void mongo_plan_free(struct mongo_plan *p)
{
    for (char **a = p->argv; a && *a; a++)
        free(*a);
    free(p->argv);
    free(p->url);
    *p = (struct mongo_plan){0};
}
