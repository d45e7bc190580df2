#include "cli.h"

/* All or nothing: an error keeps the configuration in force and names file, line and key. */
int verb_reload(struct cli *c)
{
    int r = cli_args(c, 0, 0);
    return r ? r : cli_order(c, "batchmgr.sock", "{\"op\":\"reload\"}", NULL);
}
