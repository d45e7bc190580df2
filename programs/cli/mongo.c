#include "mongo.h"
#include "base/beneath.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"
#include "conf/mongo_users.h"
#include "host/uid_block.h"

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

enum { LISTEN_BACKLOG = 4096 };

/* Listens on `port` (0: any). A descriptor or -errno; the port may be taken. */
static int listen_on(int port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    AUTO_FD int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof sa) < 0 || listen(fd, LISTEN_BACKLOG) < 0)
        return -errno;
    return fd_take(&fd);
}

static int port_of(int fd)
{
    struct sockaddr_in sa = {0};
    socklen_t n = sizeof sa;
    return getsockname(fd, (struct sockaddr *)&sa, &n) < 0 ? -errno : ntohs(sa.sin_port);
}

bool mongo_port_is_free(int port)
{
    AUTO_FD int fd = listen_on(port);
    return fd >= 0;
}

/* Whether a runner of this home lives: it would go on with the old port. */
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

/* Listens on the port that the home kept, or on a new one. */
static int choose_port(const struct home *h, struct err *e)
{
    int kept = home_kept_port(h, "mongo");
    /* After an `up` that was killed, its MongoDB may be about to end. */
    for (int i = 0; kept > 0 && i < 40; i++) {
        int fd = listen_on(kept);
        if (fd >= 0)
            return fd;
        poll(NULL, 0, 50);
    }
    if (kept > 0 && has_live_runs(h))
        return err_set(e, -EADDRINUSE,
                       "port %d of this home's MongoDB is in use by another program, and runs that know it "
                       "are going; free the port (`ss -ltnp | grep %d` names the program), or end the runs",
                       kept, kept);
    int fd = listen_on(0);
    if (fd < 0)
        return err_sys(e, fd, "no port can be bound on 127.0.0.1");
    int r = home_keep_port(h, "mongo", port_of(fd), e);
    if (r < 0)
        close(fd);
    return r < 0 ? r : fd;
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

/* The directory state/mongo, with a file for each database. Earlier versions had one file for all. */
static int data_directory(const struct home *h, int64_t uid, struct err *e)
{
    int r = fd_mkdirs(h->dirfd, "state/mongo", 0700);
    AUTO_FD int fd = r < 0 ? -1 : openat(h->dirfd, "state/mongo", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (r == 0 && fd < 0)
        r = -errno;
    if (r == 0 && renameat(h->dirfd, "state/mongo.mv", fd, "all.old") < 0 && errno != ENOENT)
        r = -errno;
    if (r == 0 && uid >= 0)
        r = beneath_give(fd, uid);
    return r < 0 ? err_sys(e, r, "cannot use %s/state/mongo", h->path) : 0;
}

/* The directory mongo/ of the run-time directory, where the server listens for relays, beside its port. It belongs to the server's
 * uid, and only relays may enter it. */
static int socket_directory(const struct home *h, int64_t uid, int64_t relay, struct err *e)
{
    AUTO_FD int runtime = open(h->runtime, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int r = runtime < 0 ? -errno : fd_mkdirs(runtime, "mongo", 0710);
    AUTO_FD int fd = r < 0 ? -1 : openat(runtime, "mongo", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (r == 0 && (fd < 0 || (uid >= 0 && fchown(fd, (uid_t)uid, (gid_t)relay) < 0) || fchmod(fd, 0710) < 0))
        r = -errno;
    return r < 0 ? err_sys(e, r, "cannot use %s/mongo", h->runtime) : 0;
}

static int plan_embedded(const struct home *h, const struct conf *c, struct mongo_plan *p, struct err *e)
{
    AUTO_FREE char *jars = xasprintf("%s/embedded-mongo/lib", h->bin);
    const int64_t uid = geteuid() == 0 ? uid_in_block(c->platform.uid_base, UID_MONGO) : -1;
    char *java = on_path("java");
    if (!java || access(jars, R_OK) < 0) {
        free(java);
        return err_set(e, -ENOENT,
                       "no MongoDB: MONGO_URL is not set, no mongod is on PATH, and the embedded one is not "
                       "installed (%s); run scripts/setup",
                       java ? jars : "java is missing");
    }
    p->kind = "embedded";
    add_arg(p, home_program(h, "simbdp-mongo"));
    add_arg(p, xstrdup(h->path));
    add_arg(p, xasprintf("%lld", (long long)uid));
    add_arg(p, java);
    add_arg(p, home_path(h, "state/mongo"));
    add_arg(p, home_path(h, "keys/mongo"));
    add_arg(p, xasprintf("%s/embedded-mongo", h->bin));
    add_arg(p, xasprintf("%s/mongo", h->runtime));
    int r = data_directory(h, uid, e);
    if (r == 0)
        r = socket_directory(h, uid, uid_in_block(c->platform.uid_base, UID_RELAY), e);
    return r < 0 ? r : mongo_users_url(h, port_of(p->listener), "*", "*", &p->url, e);
}

/* mongod binds its port itself. */
static int plan_mongod(const struct home *h, char *mongod, struct mongo_plan *p, struct err *e)
{
    const int port = port_of(p->listener);
    char secret[MONGO_USERS_SECRET_SIZE];
    int r = mongo_users_secret(h, "mongo", "*", secret, e);
    if (r == 0)
        r = fd_mkdirs(h->dirfd, "state/mongod", 0700);
    if (r < 0)
        return r;
    p->kind = "mongod";
    close(fd_take(&p->listener));
    add_arg(p, mongod);
    const char *flags[] = {"--auth", "--bind_ip", "127.0.0.1", "--quiet", "--dbpath"};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        add_arg(p, xstrdup(flags[i]));
    add_arg(p, home_path(h, "state/mongod"));
    add_arg(p, xstrdup("--port"));
    add_arg(p, xasprintf("%d", port));
    p->url = xasprintf("mongodb://%s:%s@127.0.0.1:%d/?authSource=admin", MONGO_USERS_PLATFORM, secret, port);
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
    *ret = (struct mongo_plan){.listener = -1};
    const char *url = *c->platform.mongo_url ? c->platform.mongo_url : env && *env ? env : NULL;
    if (url) {
        ret->kind = "url";
        ret->url = xstrdup(url);
        return write_state(h, ret, e);
    }
    ret->listener = choose_port(h, e);
    if (ret->listener < 0)
        return ret->listener;
    char *mongod = on_path("mongod");
    int r = mongod ? plan_mongod(h, mongod, ret, e) : plan_embedded(h, c, ret, e);
    if (r == 0)
        r = mongo_users_write(h, c, e);
    return r < 0 ? r : write_state(h, ret, e);
}

void mongo_plan_free(struct mongo_plan *p)
{
    for (char **a = p->argv; a && *a; a++)
        free(*a);
    free(p->argv);
    free(p->url);
    if (p->listener >= 0)
        close(p->listener);
    *p = (struct mongo_plan){.listener = -1};
}
