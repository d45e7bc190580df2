#include "cli.h"
#include "ledger.h"

#include <stdio.h>

static void print_count(const bson_t *answer)
{
    long long n = (long long)json_get_i64(answer, "n", 0);
    if (bson_has_field(answer, "n"))
        printf(n == 1 ? "%lld file is tried again\n" : "%lld files are tried again\n", n);
}

static int make_whole(struct cli *c)
{
    struct home h;
    if (cli_home(c, &h))
        return CLI_FAILED;
    int r = cli_whole_id(c, &h, false, (const char **)&c->argv[0]);
    home_close(&h);
    return r;
}

int verb_retry(struct cli *c)
{
    AUTO_BUF struct buf b = {0};
    const char *tenant = cli_opt(c, "--tenant");
    int r = cli_args(c, tenant ? 0 : 1, tenant ? 0 : 1);
    if (r || (!tenant && (r = make_whole(c))))
        return r;
    json_begin(&b, NULL, '{');
    json_str(&b, "op", "retry");
    json_str(&b, tenant ? "tenant_id" : "file_id", tenant ? tenant : c->argv[0]);
    json_end(&b, '}');
    return cli_order(c, "batchmgr.sock", b.p, print_count);
}
