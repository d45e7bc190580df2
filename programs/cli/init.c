#include "cli.h"
#include "host/userns.h"

#include <stdio.h>

int verb_init(struct cli *c)
{
    struct err e = {0};
    int r = cli_args(c, c->home_arg ? 0 : 1, 1);
    if (r)
        return r;
    const char *path = c->argc ? c->argv[0] : c->home_arg;
    if (home_init(path, &e) < 0)
        return cli_fail(c, &e);
    printf("made %s\nnext: `mysimbdp tenant add NAME --home %s`, then `mysimbdp up --home %s`\n", path, path, path);
    struct userns_host host;
    userns_look(&host);
    if (host.kind == USERNS_THERE)
        printf("not root, but with %lld subordinate uids: each tenant gets one of its own, in a user namespace\n",
               (long long)host.map.n_subuids);
    else if (host.kind != USERNS_ROOT)
        printf("not root, and %s: tenants would share your uid. Remedy: %s\n", host.why, host.remedy);
    if (host.kind != USERNS_ROOT)
        printf("cgroup limits may be missing, so conf/mysimbdp.conf has allow_missing_limits = true\n");
    if (host.kind == USERNS_ROOT || host.kind == USERNS_THERE)
        cli_warn_reach(c, path);
    return CLI_DONE;
}
