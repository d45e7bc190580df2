#include "crash.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const names[] = {
#define X(name) #name,
    CRASH_POINTS(X)
#undef X
};
static int ordered = -1;
static char once[4096];

void crash_init(void)
{
    const char *at = getenv("SIMBDP_CRASH_AT"), *file = getenv("SIMBDP_CRASH_ONCE");
    if (!at || !file || strlen(file) >= sizeof once)
        return;
    strcpy(once, file);
    for (int i = 0; i < CRASH_N_POINTS; i++)
        if (!strcmp(at, names[i]))
            ordered = i;
}

const char *crash_file(void)
{
    return ordered < 0 ? NULL : once;
}

void crash_at(enum crash_point point)
{
    if ((int)point != ordered)
        return;
    int fd = open(once, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0)
        kill(getpid(), SIGKILL);
    ordered = -1;
}
