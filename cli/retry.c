#include "cli.h"

#include <stdio.h>

static void print_count(const bson_t *answer)
{
    if (bson_has_field(answer, "n"))
        printf("%lld files are tried again\n", (long long)json_get_i64(answer, "n", 0));
}

int verb_retry(struct cli *c)
{
    AUTO_BUF struct buf b = {0};
    const char *tenant = cli_opt(c, "--tenant");
    int r = cli_args(c, tenant ? 0 : 1, tenant ? 0 : 1);
    if (r)
        return r;
    json_begin(&b, NULL, '{');
    json_str(&b, "op", "retry");
    json_str(&b, tenant ? "tenant" : "file_id", tenant ? tenant : c->argv[0]);
    json_end(&b, '}');
    return cli_order(c, "batchmgr.sock", b.p, print_count);
}
