/* simbdp-move: what `mysimbdp tenant export`, `import` and `move` execute. A program of its own, so that the command line does not
 * load libarchive and zstd. Which home may do what, and in which order, is the command line's (programs/cli/tenant_move.c).
 *
 *     simbdp-move export HOME TENANT MOVE_ID [--ahead] [--documents]    writes the stream to stdout
 *     simbdp-move receive HOME                                          reads it from stdin; prints its tenant.json
 *     simbdp-move lay HOME TENANT UID
 *     simbdp-move accounts HOME TENANT [--check]
 *
 * Exit code 0: done; 1: not, which stderr says; 2: usage. */
#include "move.h"

#include "base/crash.h"
#include "base/log.h"
#include "base/mem.h"
#include "term/args.h"

#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char usage_text[] =
    "usage: simbdp-move export HOME TENANT MOVE [--ahead] [--documents] | receive HOME | lay HOME TENANT UID | "
    "accounts HOME TENANT [--check]\n"
    "`mysimbdp tenant export`, `import` and `move` start it, with their options.\n";

static int usage(void)
{
    fputs(usage_text, stderr);
    return 2;
}

static int receive(const struct home *h, struct err *e)
{
    AUTO_FREE char *manifest = NULL;
    int r = receive_tenant(h, STDIN_FILENO, &manifest, e);
    if (r == 0)
        puts(manifest);
    return r;
}

static int run(const struct home *h, int argc, char **argv, struct err *e)
{
    struct order o = {.home = h, .tenant = argc > 2 ? argv[2] : "", .id = argc > 3 ? argv[3] : ""};
    o.ahead = args_flag(&argc, argv, "--ahead");
    o.documents = args_flag(&argc, argv, "--documents");
    const bool check = args_flag(&argc, argv, "--check");
    if (!strcmp(argv[0], "export") && argc == 4)
        return export_tenant(&o, STDOUT_FILENO, e);
    if (!strcmp(argv[0], "receive") && argc == 2)
        return receive(h, e);
    if (!strcmp(argv[0], "lay") && argc == 4)
        return lay_tenant(h, argv[2], strtoll(argv[3], NULL, 10), e);
    if (!strcmp(argv[0], "accounts") && argc == 3)
        return rows_take_accounts(h, argv[2], check, e);
    return 2;
}

int main(int argc, char **argv)
{
    struct err e = {0};
    struct home h = {.dirfd = -1};
    log_init("mysimbdp");
    if (argc == 2 && !strcmp(argv[1], "--help"))
        return fputs(usage_text, stdout) < 0;
    crash_init();
    signal(SIGPIPE, SIG_IGN); /* a pipe that ended is an error that is told */
    if (argc < 3 || sodium_init() < 0)
        return usage();
    umask(0077);
    int r = home_open(&h, argv[2], &e);
    if (r == 0)
        r = run(&h, argc - 1, argv + 1, &e);
    if (h.dirfd >= 0)
        home_close(&h);
    if (r < 0)
        fprintf(stderr, "mysimbdp tenant: %s\n", e.msg);
    return r == 2 ? usage() : r < 0;
}
