#include "cli.h"

#include <stdio.h>

int verb_down(struct cli *c)
{
    struct home h;
    struct err e = {0};
    bson_t *doc = NULL;
    bool leave = cli_flag(c, "--leave-runs");
    int r = cli_args(c, 0, 0);
    if (r || cli_home(c, &h))
        return r ? r : CLI_FAILED;
    r = cli_request(&h, "up.sock", leave ? "{\"op\":\"down\",\"leave_runs\":true}" : "{\"op\":\"down\"}", &doc, &e);
    if (r < 0)
        cli_fail(c, &e);
    if (doc)
        bson_destroy(doc);
    home_close(&h);
    return r < 0 ? CLI_FAILED : CLI_DONE;
}
