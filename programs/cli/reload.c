#include "cli.h"

/* All or nothing: an error keeps the configuration in force and names file, line and key. */
int verb_reload(struct cli *c)
{
    struct home h;
    struct err e = {0};
    struct conf *conf = NULL;
    int r = cli_args(c, 0, 0);
    if (r || cli_home(c, &h))
        return r ? r : CLI_FAILED;
    r = cli_conf(c, &h, &conf); /* batchmgr would name the first error only */
    conf_free(conf);
    if (!r)
        r = cli_order(c, "batchmgr.sock", "{\"op\":\"reload\"}", NULL);
    if (!r && cli_tell_others(&h, "reload", &e) < 0)
        r = cli_fail(c, &e);
    home_close(&h);
    return r;
}
