#include "cli.h"
#include "listing.h"

int verb_runs(struct cli *c)
{
    static const struct listing l = {&records_runs,
                                     {{"--tenant", "tenant=?"}, {"--file", RECORDS_RUNS_OF_FILE("?")}, {"--state", "state=?"}}};
    return cli_listing(c, &l);
}
