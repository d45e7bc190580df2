#include "accept.h"
#include "account_change.h"
#include "cli.h"

#include "base/mem.h"

#include <unistd.h>

/* mysimbdp reload is all or nothing: after an error the old configuration stays in force, and file, line and key are named. */
int verb_reload(struct cli *c)
{
    struct home h;
    struct err e = {0};
    struct conf *conf = NULL;
    const char *by = cli_opt(c, "--by"); /* of `up`, which was asked by a signal */
    AUTO_FREE char *who = by ? xstrdup(by) : account_who();
    int r = cli_args(c, 0, 0);
    if (r || cli_home(c, &h))
        return r ? r : CLI_FAILED;
    int lock = accept_lock(&h, ACCEPT_WAIT_MS, &e);
    r = lock < 0 ? cli_fail(c, &e) : cli_conf(c, &h, &conf); /* all errors are told here; batchmgr would only name the first */
    conf_free(conf);
    if (!r && accept_reload(&h, who, by ? "SIGHUP" : "reload", true, &e) < 0)
        r = cli_fail(c, &e);
    if (lock >= 0)
        close(lock);
    home_close(&h);
    return r;
}
