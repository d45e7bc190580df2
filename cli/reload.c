#include "cli.h"

#include <stdio.h>

/* All or nothing: an error keeps the configuration in force and names file, line and key. */
int verb_reload(struct cli *c)
{
    struct home h;
    struct err e = {0};
    bson_t *doc = NULL;
    int r = cli_args(c, 0, 0);
    if (r || cli_home(c, &h))
        return r ? r : CLI_FAILED;
    r = cli_request(&h, "batchmgr.sock", "{\"op\":\"reload\"}", &doc, &e);
    if (r < 0)
        cli_fail(c, &e);
    if (doc)
        bson_destroy(doc);
    home_close(&h);
    return r < 0 ? CLI_FAILED : CLI_DONE;
}
