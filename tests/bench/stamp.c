/* The smallest app there is: says when its main began, as CLOCK_MONOTONIC nanoseconds and its pid, into a FIFO, in one write.
 *   stamp FIFO            and ends
 *   stamp FIFO pause      and stays
 *   stamp FIFO fail MS    and fails after a while
 * Under another name (as a supervisor's service, which gets no arguments) it takes the FIFO from STAMP_FIFO and stays. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct timespec now;
    char line[64];
    clock_gettime(CLOCK_MONOTONIC, &now);
    const char *slash = strrchr(argv[0], '/'), *name = slash ? slash + 1 : argv[0];
    int service = strcmp(name, "stamp") != 0;
    const char *fifo = service ? getenv("STAMP_FIFO") : argc > 1 ? argv[1] : NULL;
    int fd = fifo ? open(fifo, O_WRONLY | O_NONBLOCK) : -1;
    int n = snprintf(line, sizeof line, "%lld %d\n", now.tv_sec * 1000000000LL + now.tv_nsec, (int)getpid());
    if (fd >= 0 && write(fd, line, (size_t)n) < 0)
        return 1;
    if (service || (argc > 2 && !strcmp(argv[2], "pause")))
        pause();
    if (argc > 3 && !strcmp(argv[2], "fail")) {
        poll(NULL, 0, atoi(argv[3]));
        return 3;
    }
    return 0;
}
