#include "cli.h"

#include <stdio.h>

int verb_retry(struct cli *c)
{
    struct home h;
    struct err e = {0};
    bson_t *doc = NULL;
    AUTO_BUF struct buf b = {0};
    const char *tenant = cli_opt(c, "--tenant");
    int r = cli_args(c, tenant ? 0 : 1, tenant ? 0 : 1);
    if (r || cli_home(c, &h))
        return r ? r : CLI_FAILED;
    json_begin(&b, NULL, '{');
    json_str(&b, "op", "retry");
    json_str(&b, tenant ? "tenant" : "file_id", tenant ? tenant : c->argv[0]);
    json_end(&b, '}');
    r = cli_request(&h, "batchmgr.sock", b.p, &doc, &e);
    if (r < 0)
        cli_fail(c, &e);
    else if (tenant)
        printf("%lld files are tried again\n", (long long)json_get_i64(doc, "n", 0));
    if (doc)
        bson_destroy(doc);
    home_close(&h);
    return r < 0 ? CLI_FAILED : CLI_DONE;
}
