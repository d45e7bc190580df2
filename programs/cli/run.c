#include "cli.h"

#include <stdio.h>
#include <string.h>

static void print_count(const bson_t *answer)
{
    printf("%lld files go\n", (long long)json_get_i64(answer, "n", 0));
}

int verb_run(struct cli *c)
{
    AUTO_BUF struct buf b = {0};
    int r = cli_args(c, 1, 1);
    char *slash = r ? NULL : strchr(c->argv[0], '/');
    if (r || !slash || slash == c->argv[0] || !slash[1])
        return r ? r : cli_usage(c, "%s is not TENANT/APP", c->argv[0]);
    *slash = 0;
    json_begin(&b, NULL, '{');
    json_str(&b, "op", "run");
    json_str(&b, "tenant_id", c->argv[0]);
    json_str(&b, "app", slash + 1);
    json_end(&b, '}');
    return cli_order(c, "batchmgr.sock", b.p, print_count);
}
