#include "cli.h"

int verb_stop(struct cli *c)
{
    AUTO_BUF struct buf b = {0};
    int r = cli_args(c, 1, 1);
    if (r)
        return r;
    json_begin(&b, NULL, '{');
    json_str(&b, "op", "stop");
    json_str(&b, "run_id", c->argv[0]);
    json_end(&b, '}');
    return cli_order(c, "batchmgr.sock", b.p, NULL);
}
