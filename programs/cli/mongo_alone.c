#include "mongo_alone.h"

#include "base/fd.h"
#include "base/mem.h"
#include "db/versions.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

/* `up` was told of another one by MONGO_URL, which nobody gives now: the home's own would be the wrong one. */
static int check_environment(const struct home *h, const struct conf *conf, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    const char *env = getenv("MONGO_URL");
    if (*conf->platform.mongo_url || (env && *env) || fd_read_file(h->dirfd, "state/mongo.json", &b, 65536, NULL) < 0)
        return 0;
    AUTO_BSON bson_t *doc = json_parse(b.n ? b.p : "", b.n, NULL);
    if (!doc || strcmp(json_get_str(doc, "kind", ""), "url") != 0)
        return 0;
    return err_set(e, ERR_CONFIG,
                   "the home ran with a MongoDB that MONGO_URL named, and it is not set now: set it, or say --own for the home's "
                   "own one");
}

int mongo_alone_start(struct mongo_alone *a, const struct home *h, struct conf *conf, bool own, struct err *e)
{
    *a = (struct mongo_alone){
        .u = {.home = *h, .conf = conf, .sigfd = -1, .listener = -1, .mongo = {.listener = -1}, .stopping = true},
        .lock = home_lock(h, "up", 0, e)};
    if (a->lock == -EWOULDBLOCK)
        return err_set(e, -EWOULDBLOCK,
                       "the platform is starting or stopping, or another `mongo dump` or `restore` has its MongoDB; try again");
    if (a->lock < 0)
        return a->lock;
    int r = versions_check(h, e);
    if (r == 0)
        r = home_mend(h, e);
    if (own) {
        xstr_set(&conf->platform.mongo_url, "");
        unsetenv("MONGO_URL");
    } else if (r == 0) {
        r = check_environment(h, conf, e);
    }
    if (r == 0)
        r = mongo_plan(h, conf, &a->u.mongo, e);
    if (r < 0 || !a->u.mongo.argv)
        return r;
    struct program *p = &a->u.programs[a->u.n++];
    *p = (struct program){.name = "mongo", .leash = -1, .listener = a->u.mongo.listener, .argv = a->u.mongo.argv};
    up_start(&a->u, p);
    return p->pid ? 0 : err_set(e, ERR_DATABASE, "the home's MongoDB cannot be started; %s/logs/mongo.log says why", h->path);
}

bool mongo_alone_has_died(struct mongo_alone *a)
{
    if (!a->u.n || !a->u.programs[0].pid || waitpid(a->u.programs[0].pid, NULL, WNOHANG) <= 0)
        return false;
    a->u.programs[0].pid = 0;
    return true;
}

void mongo_alone_stop(struct mongo_alone *a)
{
    if (a->u.n)
        up_stop_program(&a->u, &a->u.programs[0]);
    if (a->u.n && a->u.programs[0].leash >= 0)
        close(a->u.programs[0].leash);
    mongo_plan_free(&a->u.mongo);
    if (a->lock >= 0)
        close(a->lock);
    a->lock = -1;
}
