#include "cli.h"

/* mysimbdp reload is all or nothing: after an error the old configuration stays in force, and file, line and key are named. */
int verb_reload(struct cli *c)
{
    struct home h;
    struct err e = {0};
    struct conf *conf = NULL;
    int r = cli_args(c, 0, 0);
    if (r || cli_home(c, &h))
        return r ? r : CLI_FAILED;
    r = cli_conf(c, &h, &conf); /* all errors are told here; batchmgr would only name the first */
    conf_free(conf);
    if (!r)
        r = cli_order(c, "batchmgr.sock", "{\"op\":\"reload\"}", NULL);
    if (!r && cli_tell_others(&h, "reload", &e) < 0)
        r = cli_fail(c, &e);
    home_close(&h);
    return r;
}
