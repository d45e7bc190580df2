/* mysimbdp backup, mysimbdp restore: hand over to simbdp-backup, which alone has libarchive and zstd. */
#include "cli.h"

#include "base/mem.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_ARGS = 16 };

struct call {
    const char *argv[MAX_ARGS];
    int n;
};

static void add(struct call *k, const char *arg)
{
    k->argv[k->n++] = arg;
}

static void add_opt(struct call *k, const char *name, const char *value)
{
    if (value) {
        add(k, name);
        add(k, value);
    }
}

static int execute(struct cli *c, struct call *k)
{
    char exe[PATH_MAX];
    struct err e = {0};
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n < 0 ? 0 : n] = 0;
    char *slash = strrchr(exe, '/');
    AUTO_FREE char *program = xasprintf("%.*ssimbdp-backup", slash ? (int)(slash + 1 - exe) : 0, exe);
    k->argv[0] = program;
    if (c->json)
        add(k, "--json");
    execv(program, (char **)k->argv);
    err_sys(&e, -errno, "cannot execute %s", program);
    return cli_fail(c, &e);
}

/* Digits, then perhaps K, M or G. -1: it is no such number, or 0. */
static int64_t amount(const char *text)
{
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    const int shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
    return errno || end == text || n < 1 || n > INT64_MAX >> 31 || end[shift ? 1 : 0] ? -1 : n << shift;
}

int verb_backup(struct cli *c)
{
    struct home h;
    struct call k = {.n = 1};
    const bool lists = cli_flag(c, "--list"), verifies = cli_flag(c, "--verify"), files = cli_flag(c, "--files");
    const char *keep = cli_opt(c, "--keep"), *rate = cli_opt(c, "--rate"), *point = cli_opt(c, "--point");
    int r = cli_args(c, 1, 1);
    if (r)
        return r;
    const bool takes = !lists && !verifies;
    if ((lists && verifies) || (!takes && (files || keep || rate)))
        return cli_usage(c, "--list and --verify look at backups that are there, and take no options of taking one");
    if (point && !verifies)
        return cli_usage(c, "--point goes with --verify, and with `mysimbdp restore`");
    if (!strcmp(c->argv[0], "-") && (!takes || keep))
        return cli_usage(c, "- is a backup on stdout: there is nothing else to look at or to keep");
    if (keep && (amount(keep) < 1 || strspn(keep, "0123456789") != strlen(keep)))
        return cli_usage(c, "--keep is how many backups are kept, 1 or more, and not \"%s\"", keep);
    if (rate && amount(rate) < 1)
        return cli_usage(c, "--rate is bytes a second (20M), and not \"%s\"", rate);
    AUTO_FREE char *bytes = rate ? xasprintf("%lld", (long long)amount(rate)) : NULL;
    add(&k, lists ? "list" : verifies ? "verify" : "take");
    if (takes && cli_home(c, &h))
        return CLI_FAILED;
    AUTO_FREE char *home = takes ? xstrdup(h.path) : NULL;
    if (takes) {
        add(&k, home);
        home_close(&h);
    }
    add(&k, c->argv[0]);
    if (files)
        add(&k, "--files");
    add_opt(&k, "--keep", keep);
    add_opt(&k, "--rate", bytes);
    add_opt(&k, "--point", point);
    return execute(c, &k);
}

int verb_restore(struct cli *c)
{
    struct call k = {.n = 1};
    const char *point = cli_opt(c, "--point");
    int r = cli_args(c, 2, 2);
    if (r)
        return r;
    if (point && !strcmp(c->argv[0], "-"))
        return cli_usage(c, "a stream has one point; --point is for a directory of backups");
    add(&k, "restore");
    add(&k, c->argv[0]);
    add(&k, c->argv[1]);
    add_opt(&k, "--point", point);
    return execute(c, &k);
}
