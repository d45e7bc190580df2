#include "cli.h"
#include "listing.h"

int verb_files(struct cli *c)
{
    static const struct listing l = {&records_files,
                                     {{"--tenant", "tenant=?"}, {"--dataset", "dataset=?"}, {"--state", "state=?"}}};
    return cli_listing(c, &l);
}
