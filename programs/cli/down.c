#include "cli.h"

int verb_down(struct cli *c)
{
    bool leave = cli_flag(c, "--leave-runs");
    int r = cli_args(c, 0, 0);
    return r ? r : cli_order(c, "up.sock", leave ? "{\"op\":\"down\",\"leave_runs\":true}" : "{\"op\":\"down\"}", NULL);
}
