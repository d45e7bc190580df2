#include "cli.h"

/* All or nothing: an error keeps the configuration in force and names file, line and key. */
int verb_reload(struct cli *c)
{
    struct home h;
    struct err e = {0};
    int r = cli_args(c, 0, 0);
    if (r)
        return r;
    r = cli_order(c, "batchmgr.sock", "{\"op\":\"reload\"}", NULL);
    if (r || cli_home(c, &h))
        return r ? r : CLI_FAILED;
    if (cli_tell_others(&h, "reload", &e) < 0)
        r = cli_fail(c, &e);
    home_close(&h);
    return r;
}
