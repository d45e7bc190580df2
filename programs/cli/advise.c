/* mysimbdp advise: the monitor's decision on figures from stdin. The program `monitor` makes it (monitor --advise); no home is
 * needed. */
#include "cli.h"

#include "base/mem.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int verb_advise(struct cli *c)
{
    struct err e = {0};
    char self[PATH_MAX];
    int r = cli_args(c, 0, 0);
    if (r)
        return r;
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0)
        return err_sys(&e, -errno, "cannot find the monitor"), cli_fail(c, &e);
    self[n] = 0;
    *strrchr(self, '/') = 0;
    AUTO_FREE char *program = xasprintf("%s/monitor", self);
    execl(program, program, "--advise", (char *)NULL);
    return err_sys(&e, -errno, "cannot run %s", program), cli_fail(c, &e);
}
