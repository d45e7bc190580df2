#include "move.h"

#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

bool kept_can_tell(const char *path)
{
    return !strchr(path, '\n');
}

int kept_each(int dirfd, const char *path, int (*fn)(void *arg, const char *path, int64_t size, int64_t mtime_ns, struct err *e),
              void *arg, struct err *e)
{
    AUTO_FD int fd = openat(dirfd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    FILE *f = fd < 0 ? NULL : fdopen(fcntl(fd, F_DUPFD_CLOEXEC, 0), "r");
    AUTO_FREE char *line = NULL;
    size_t room = 0;
    int r = f ? 0 : err_sys(e, -errno, "cannot read %s", path);
    for (ssize_t n; r == 0 && (n = getline(&line, &room, f)) > 0;) {
        int64_t size, mtime_ns;
        int at = 0;
        line[n - 1] = 0;
        if (sscanf(line, "%" SCNd64 " %" SCNd64 " %n", &size, &mtime_ns, &at) != 2 || !at)
            r = err_set(e, ERR_FORMAT, "its list of files that were brought ahead is damaged");
        else
            r = fn(arg, line + at, size, mtime_ns, e);
    }
    if (f)
        fclose(f);
    return r;
}
