#include "privs.h"

#include <errno.h>
#include <grp.h>
#include <sys/prctl.h>
#include <unistd.h>

int privs_become(int64_t uid)
{
    const uid_t u = (uid_t)uid;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    if (uid < 0)
        return 0;
    return setgroups(0, NULL) < 0 || setresgid(u, u, u) < 0 || setresuid(u, u, u) < 0 ? -errno : 0;
}

static bool is_manager;

void privs_set_manager(void)
{
    is_manager = true;
}

bool privs_is_root(void)
{
    return is_manager || geteuid() == 0;
}
