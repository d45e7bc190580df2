#include "node.h"

#include "base/fd.h"
#include "base/mem.h"
#include "run/spec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int node_runtime(const char *path, struct err *e)
{
    struct stat st;
    if (mkdir(path, 0711) < 0 && errno != EEXIST)
        return err_sys(e, -errno, "cannot make %s", path);
    if (lstat(path, &st) < 0)
        return err_sys(e, -errno, "cannot look at %s", path);
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022))
        return err_set(e, ERR_REFUSED, "%s is not a directory of our own; somebody put it there: remove it", path);
    return 0;
}

static const char *told(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return value && *value && strlen(value) < 200 ? value : otherwise;
}

void node_name(bool cluster, char *ret, size_t size)
{
    const char *name = cluster ? told("SLURMD_NODENAME", NULL) : NULL;
    memset(ret, 0, size);
    if (name)
        memcpy(ret, name, strnlen(name, size - 1));
    else
        gethostname(ret, size - 1);
}

int node_sign(int dirfd, struct err *e)
{
    char node[256];
    node_name(true, node, sizeof node);
    AUTO_FREE char *text = xasprintf("%s %s %s\n", node, told("SLURM_JOB_ID", "0"), told("SLURM_RESTART_COUNT", "0"));
    return fd_write_file(dirfd, RUN_HOLDER, text, strlen(text), 0600, e);
}
