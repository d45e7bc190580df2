#include "account_change.h"
#include "cli.h"

#include "base/fd.h"
#include "base/mem.h"
#include "host/userns.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>

/* The first account: somebody has to make the others. */
static int add_operator(const char *path, char ret_password[ACCOUNT_MADE_SIZE], struct err *e)
{
    AUTO_FD int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO_FREE char *who = account_who();
    AUTO_ACCOUNTS struct accounts *a = NULL;
    char hash[ACCOUNT_HASH_SIZE];
    if (fd < 0 || sodium_init() < 0)
        return err_sys(e, fd < 0 ? -errno : -EIO, "cannot open %s", path);
    int r = accounts_open(&(struct home){.path = (char *)path, .dirfd = fd}, &a, e);
    if (r == 0)
        r = account_make_password(ret_password, hash, e);
    if (r == 0)
        r = audit_add(fd, &(struct audit_record){who, "local", "init", NULL, "operator", "ok"}, e);
    return r == 0 ? accounts_user_add(a, "operator", ROLE_operator, NULL, hash, e) : r;
}

static void tell_host(struct cli *c, const char *path)
{
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
}

int verb_init(struct cli *c)
{
    struct err e = {0};
    char password[ACCOUNT_MADE_SIZE];
    int r = cli_args(c, c->home_arg ? 0 : 1, 1);
    if (r)
        return r;
    const char *path = c->argc ? c->argv[0] : c->home_arg;
    if (home_init(path, &e) < 0 || add_operator(path, password, &e) < 0)
        return cli_fail(c, &e);
    printf("made %s\nnext: `mysimbdp tenant add NAME --home %s`, then `mysimbdp up --home %s`\n", path, path, path);
    printf("over HTTP (platform.http) the user operator has the password %s, not shown again; `mysimbdp user passwd operator` sets "
           "another\n",
           password);
    sodium_memzero(password, sizeof password);
    tell_host(c, path);
    return CLI_DONE;
}
