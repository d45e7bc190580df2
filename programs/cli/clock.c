/* mysimbdp clock: the time that retention goes by, after the host's clock leapt (lib/host/retention_clock.h). */
#include "base/mem.h"
#include "cli.h"

#include <stdio.h>
#include <string.h>

static const char *const programs[] = {"batchmgr", "broker"};

static bool show(const struct home *h, const char *program, bool json)
{
    AUTO_FREE char *socket_name = xasprintf("%s.sock", program);
    AUTO_BSON bson_t *doc = NULL;
    struct err e = {0};
    if (cli_request_now(h, socket_name, "{\"op\":\"status\"}", &doc, &e) < 0)
        return false;
    int64_t ahead_s = json_get_i64(doc, "clock_ahead_s", 0);
    if (json)
        printf("{\"program\":\"%s\",\"clock_ahead_s\":%lld}\n", program, (long long)ahead_s);
    else if (ahead_s)
        printf(
            "%-9s the clock is %lld s ahead of the time that has passed; nothing is removed by it (`mysimbdp clock trust` if it is "
            "right)\n",
            program, (long long)ahead_s);
    else
        printf("%-9s retention goes by the clock\n", program);
    return true;
}

int verb_clock(struct cli *c)
{
    struct home h;
    struct err e = {0};
    int r = cli_args(c, 0, 1);
    if (r)
        return r;
    if (c->argc && strcmp(c->argv[0], "trust") != 0)
        return cli_usage(c, "`clock` or `clock trust`");
    bool trust = c->argc > 0;
    if (cli_home(c, &h))
        return CLI_FAILED;
    for (size_t i = 0; r == 0 && i < sizeof programs / sizeof *programs; i++) {
        AUTO_FREE char *socket_name = xasprintf("%s.sock", programs[i]);
        if (trust && cli_tell(&h, socket_name, "trust_clock", NULL, &e) < 0)
            r = cli_fail(c, &e);
        else if (!show(&h, programs[i], c->json))
            r = cli_fail(c,
                         (err_set(&e, ERR_REFUSED, "%s does not answer (logs/%s.log may say why)", programs[i], programs[i]), &e));
    }
    home_close(&h);
    return r;
}
