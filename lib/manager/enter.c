#include "enter.h"

#include "base/address.h"
#include "base/crash.h"
#include "base/log.h"
#include "base/mem.h"
#include "sandbox/manager_sandbox.h"

#include <event2/event.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>

enum { ANSWER_MS = 50 };

/* Directories: a file in them may be replaced, and is to be seen then. */
struct outside {
    char **paths; /* ends with NULL */
    size_t n;
};

struct collect {
    const struct home *home;
    const struct outside *known; /* NULL: add all */
    struct outside *to;
};

static bool is_below(const char *path, const char *dir)
{
    size_t n = strlen(dir);
    return !strncmp(path, dir, n) && (path[n] == '/' || !path[n]);
}

static bool has(const struct outside *o, const char *path)
{
    for (size_t i = 0; i < o->n; i++)
        if (is_below(path, o->paths[i]))
            return true;
    return false;
}

/* The directory that an absolute path lies in; the path itself where that is the root. */
static void add(struct collect *c, const char *path)
{
    const char *slash = strrchr(path, '/');
    if (path[0] != '/' || is_below(path, c->home->path) || is_below(path, "/usr"))
        return;
    AUTO_FREE char *dir = slash == path ? xstrdup(path) : xstrndup(path, (size_t)(slash - path));
    struct outside *o = c->to;
    if ((c->known && has(c->known, dir)) || has(o, dir))
        return;
    o->paths = xrealloc(o->paths, (o->n + 2) * sizeof *o->paths);
    o->paths[o->n++] = xstrdup(dir);
    o->paths[o->n] = NULL;
}

static void add_socket(void *arg, const struct address *a, const char *path)
{
    (void)a;
    if (path)
        add(arg, path);
}

static void add_tenant(struct collect *c, const struct conf_tenant *t)
{
    const struct conf_batch *b = t->batch.v;
    const struct conf_stream_app *a = t->stream_apps.v;
    for (size_t i = 0; i < t->batch.n; i++) {
        add(c, b[i].exec);
        add(c, b[i].checker);
        add(c, b[i].image);
    }
    for (size_t i = 0; i < t->stream_apps.n; i++) {
        add(c, a[i].exec);
        add(c, a[i].checker);
        add(c, a[i].image);
    }
    address_of_mongo(t->mongo_url, add_socket, c);
}

static struct outside *collect(const struct home *h, const struct conf *conf, const struct outside *known)
{
    struct outside *o = xcalloc(1, sizeof *o);
    struct collect c = {.home = h, .known = known, .to = o};
    const char *env = getenv("MONGO_URL");
    o->paths = xcalloc(1, sizeof *o->paths);
    for (size_t i = 0; i < conf->n_tenants; i++)
        add_tenant(&c, &conf->tenants[i]);
    address_of_mongo(conf->platform.mongo_url, add_socket, &c);
    address_of_mongo(env ? env : "", add_socket, &c);
    return o;
}

int enter_room(struct home *h, const struct conf *c, enum uid_role role, struct outside **ret, struct err *e)
{
    static const char *const of_batchmgr[] = {"staging", "work", "done", "quarantine", "state", "logs", "runs", NULL};
    static const char *const of_streammgr[] = {"state", "logs/tenants", "runs", NULL};
    const uint64_t files = 1ULL << CAP_CHOWN | 1ULL << CAP_DAC_OVERRIDE | 1ULL << CAP_FOWNER;
    int64_t uid = uid_of_program(h, c->platform.uid_base, role);
    if (uid < 0)
        return 0;
    struct outside *o = collect(h, c, NULL);
    AUTO_FREE char *crash = xstrdup(crash_file()); /* a test's */
    char *slash = crash ? strrchr(crash, '/') : NULL;
    if (slash)
        *slash = 0;
    bool batch = role == UID_BATCHMGR;
    const uint64_t lease = 1ULL << CAP_LEASE; /* is somebody writing a file that is still a tenant's? */
    const struct room room = {.uid = uid,
                              .capabilities = files | (batch ? lease : 0),
                              .sees = (const char *const *)o->paths,
                              .scratch = crash,
                              .parts = batch ? of_batchmgr : of_streammgr,
                              .key = batch ? "keys/master.key" : NULL,
                              .moves = batch};
    int r = room_enter(h, &room, e);
    if (r < 0)
        outside_free(o);
    else
        *ret = o;
    return r;
}

void outside_leave(const struct outside *o, const struct home *h, const struct conf *c, struct event_base *base)
{
    if (!o)
        return;
    struct outside *more = collect(h, c, o);
    if (more->n) {
        log_info("restart", NULL, NULL,
                 "the configuration names places of the host that this process does not see: starting again");
        event_base_loopexit(base, &(struct timeval){0, ANSWER_MS * 1000});
    }
    outside_free(more);
}

void outside_free(struct outside *o)
{
    if (!o)
        return;
    for (size_t i = 0; i < o->n; i++)
        free(o->paths[i]);
    free(o->paths);
    free(o);
}
