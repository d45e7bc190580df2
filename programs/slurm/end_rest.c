#include "end_rest.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/mem.h"
#include "host/cgroup.h"
#include "host/home.h"
#include "run/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

enum { TICK_MS = 50, GIVE_UP_MS = 240000 };

/* A runner that lives may start the app yet, and ends it by itself: this node's slurmd ends the runner, whose job is over. */
static bool has_runner(const char *runtime, const char *claim)
{
    AUTO_FREE char *path = xasprintf("%s/%s.lock", runtime, claim);
    AUTO_FD int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? errno != ENOENT : flock(fd, LOCK_EX | LOCK_NB) < 0;
}

int end_rest(const char *runtime, const char *tag, const char *claim, const char *gone, struct err *e)
{
    struct cgroup_host cg;
    char run_id[ID_SIZE];
    int64_t until = clk_now_ms() + GIVE_UP_MS;
    snprintf(run_id, sizeof run_id, "%s", claim);
    if (!home_valid_id(run_id))
        return err_set(e, ERR_USAGE, "%s is no run's", claim);
    cgroup_probe(&cg, tag);
    for (bool over = false; !over;) {
        cgroup_kill(&cg, claim);
        int marked = tree_signal_marked("SIMBDP_RUN_ID", run_id, SIGKILL);
        over = marked <= 0 && cgroup_is_empty(&cg, claim) && !has_runner(runtime, claim);
        if (!over && clk_now_ms() > until)
            return err_set(e, ERR_REFUSED, "processes of run %s do not end", run_id);
        if (!over)
            poll(NULL, 0, TICK_MS);
    }
    cgroup_remove(&cg, claim);
    cgroup_retire(&cg);
    return fd_write_file(AT_FDCWD, gone, "", 0, 0600, e);
}
