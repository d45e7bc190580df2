#include "cli.h"

int verb_stop(struct cli *c)
{
    struct home h;
    struct err e = {0};
    bson_t *doc = NULL;
    AUTO_BUF struct buf b = {0};
    int r = cli_args(c, 1, 1);
    if (r || cli_home(c, &h))
        return r ? r : CLI_FAILED;
    json_begin(&b, NULL, '{');
    json_str(&b, "op", "stop");
    json_str(&b, "run_id", c->argv[0]);
    json_end(&b, '}');
    r = cli_request(&h, "batchmgr.sock", b.p, &doc, &e);
    if (r < 0)
        cli_fail(c, &e);
    if (doc)
        bson_destroy(doc);
    home_close(&h);
    return r < 0 ? CLI_FAILED : CLI_DONE;
}
