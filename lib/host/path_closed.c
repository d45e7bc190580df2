#include "path_closed.h"

#include "base/mem.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>

char *path_closed(const char *path)
{
    char real[PATH_MAX];
    if (!realpath(path, real))
        return NULL;
    for (char *p = real + 1; *p; p++) {
        struct stat st;
        if (*p != '/')
            continue;
        *p = 0;
        if (stat(real, &st) == 0 && !(st.st_mode & 0001))
            return xstrdup(real);
        *p = '/';
    }
    return NULL;
}
