#include "script.h"

#include "base/beneath.h"
#include "base/fd.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 256 }; /* BINPRM_BUF_SIZE: what the kernel looks at */

bool script_has_crlf(const char *path)
{
    char line[LINE_MAX_BYTES + 1];
    struct stat st;
    AUTO_FD int fd = path[0] == '/' ? beneath_root(path, O_RDONLY | O_NONBLOCK) : -1;
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return false;
    ssize_t n = pread(fd, line, LINE_MAX_BYTES, 0);
    if (n < 3 || line[0] != '#' || line[1] != '!')
        return false;
    line[n] = 0;
    const char *end = memchr(line, '\n', (size_t)n);
    return end && end[-1] == '\r';
}
