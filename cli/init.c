#include "cli.h"
#include "common/mem.h"
#include "common/userns.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* A tenant's uid must be able to walk down to the home. */
static void warn_reach(const char *path)
{
    char real[PATH_MAX];
    if (!realpath(path, real))
        return;
    for (char *p = real + 1; *p; p++) {
        struct stat st;
        if (*p != '/')
            continue;
        *p = 0;
        if (stat(real, &st) == 0 && !(st.st_mode & 0001))
            fprintf(stderr,
                    "mysimbdp init: warning: tenants' apps cannot reach a home below %s (mode %03o); `chmod o+x %s`, "
                    "or make the home elsewhere\n",
                    real, st.st_mode & 0777, real);
        *p = '/';
    }
}

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
        warn_reach(path);
    return CLI_DONE;
}
