/* mysimbdp publish: finds the broker and hands over to simbdp-publish, which alone has libzmq. */
#include "cli.h"

#include "base/mem.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static int hand_over(struct cli *c, const struct home *h, bool csv, struct err *e)
{
    AUTO_FREE char *program = home_program(h, "simbdp-publish"), *path = home_socket(h, "broker.ipc"),
                   *endpoint = xasprintf("ipc://%s", path);
    AUTO_FREE const char **argv = xcalloc((size_t)c->argc + 6, sizeof *argv);
    size_t n = 0;
    if (access(path, F_OK) < 0)
        return err_set(e, ERR_REFUSED, "no broker is running in %s; start it with `mysimbdp up`", h->path);
    argv[n++] = program;
    if (csv)
        argv[n++] = "--csv";
    if (c->json)
        argv[n++] = "--json";
    argv[n++] = "--";
    argv[n++] = endpoint;
    for (int i = 0; i < c->argc; i++)
        argv[n++] = c->argv[i];
    execv(program, (char **)argv);
    return err_sys(e, -errno, "cannot execute %s", program);
}

int verb_publish(struct cli *c)
{
    struct home h;
    struct err e = {0};
    bool csv = cli_flag(c, "--csv");
    int r = cli_args(c, 1, -1);
    if (r)
        return r;
    if (!strchr(c->argv[0], '/'))
        return cli_usage(c, "\"%s\" is not TENANT/STREAM", c->argv[0]);
    if (cli_home(c, &h))
        return CLI_FAILED;
    hand_over(c, &h, csv, &e);
    cli_fail(c, &e);
    home_close(&h);
    return CLI_FAILED;
}
