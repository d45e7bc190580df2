/* stamp FIFO [pause]: says when its main began, as CLOCK_MONOTONIC nanoseconds and its pid; the smallest app there is.
 * Other arguments are for whom it stands in. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct timespec now;
    char line[64];
    clock_gettime(CLOCK_MONOTONIC, &now);
    int fd = argc > 1 ? open(argv[1], O_WRONLY | O_NONBLOCK) : -1;
    int n = snprintf(line, sizeof line, "%lld %d\n", now.tv_sec * 1000000000LL + now.tv_nsec, (int)getpid());
    if (fd >= 0 && write(fd, line, (size_t)n) < 0)
        return 1;
    if (argc > 2 && !strcmp(argv[2], "pause"))
        pause();
    return 0;
}
