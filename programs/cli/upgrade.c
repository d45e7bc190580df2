#include "cli.h"

#include "base/mem.h"
#include "conf/conf.h"
#include "db/versions.h"

#include <stdio.h>

static void print_done(const bson_t *answer)
{
    printf("upgraded: %lld programs run as they are installed now; runs and instances went on\n",
           (long long)json_get_i64(answer, "n", 0));
}

/* What is installed now must know what the databases are, and take the configuration, before anything is stopped. */
int verb_upgrade(struct cli *c)
{
    struct home h;
    struct conf *conf = NULL;
    AUTO_BUF struct buf all = {0};
    struct err e = {0};
    int r = cli_args(c, 0, 0);
    if (r)
        return r;
    if (cli_home(c, &h))
        return CLI_FAILED;
    r = versions_check(&h, &e);
    const bool newer = r < 0;
    if (r == 0)
        r = conf_load_all(h.path, &all, &conf, &e);
    home_close(&h);
    conf_free(conf);
    if (newer) {
        err_context(&e, "nothing was stopped");
        return cli_fail(c, &e);
    }
    if (r < 0) {
        fprintf(stderr, "%s", all.n ? all.p : "");
        err_context(&e, "nothing was stopped: this version does not take the configuration");
        return cli_fail(c, &e);
    }
    return cli_order(c, "up.sock", "{\"op\":\"upgrade\"}", print_done);
}
