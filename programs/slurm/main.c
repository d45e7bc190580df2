/* simbdp-slurm: steps of runs as jobs of a Slurm cluster (docs/cluster.md). The warden starts it. */
#include "end_rest.h"
#include "launcher.h"
#include "pilot.h"
#include "see.h"

#include "base/crash.h"
#include "base/log.h"

#include <stdio.h>
#include <string.h>

static const char usage[] =
    "usage: simbdp-slurm --serve --home HOME           serve a warden on descriptor 3\n"
    "       simbdp-slurm --end RUNTIME TAG CLAIM FILE  on a node: end what is left of a step, then make FILE\n"
    "       simbdp-slurm --pilot FILE --home HOME      on a node: start the runs that the launcher sends\n"
    "       simbdp-slurm --see FILE [HOST PORT]...     on a node: put what is in FILE into FILE.seen, and who cannot be reached\n"
    "Runs and instances as jobs of a Slurm cluster. A manager's warden starts it where a launcher is slurm.\n"
    "Exit: 0 done, 1 it could not, 2 usage.\n";

static int serve(const char *home)
{
    struct home h = {0};
    struct err e = {0};
    int r = home_open(&h, home, &e);
    if (r == 0)
        r = launcher_main(3, &h, &e);
    if (r < 0)
        log_error("start", NULL, NULL, "%s", e.msg);
    home_close(&h);
    return r < 0;
}

int main(int argc, char **argv)
{
    struct err e = {0};
    log_init("simbdp-slurm");
    crash_init();
    if (argc == 2 && !strcmp(argv[1], "--help"))
        return fputs(usage, stdout) < 0;
    if (argc == 6 && !strcmp(argv[1], "--end")) {
        int r = end_rest(argv[2], argv[3], argv[4], argv[5], &e);
        if (r < 0)
            fprintf(stderr, "simbdp-slurm: %s\n", e.msg);
        return r < 0;
    }
    if (argc >= 3 && argc % 2 && !strcmp(argv[1], "--see")) {
        int r = see(argv[2], argv + 3, (argc - 3) / 2, &e);
        if (r < 0)
            fprintf(stderr, "simbdp-slurm: %s\n", e.msg);
        return r < 0;
    }
    const char *home = home_take_arg(&argc, argv);
    if (argc == 3 && !strcmp(argv[1], "--pilot")) {
        int r = pilot_main(argv[2], home, &e);
        if (r < 0)
            fprintf(stderr, "simbdp-slurm: %s\n", e.msg);
        return r < 0;
    }
    if (argc != 2 || strcmp(argv[1], "--serve"))
        return fputs(usage, stderr), 2;
    return serve(home);
}
