/* The kept output of a run: a log of bounded size in two halves, a file that an output mode collects, and its last words. */
#ifndef SIMBDP_RUNNER_CAPTURE_H
#define SIMBDP_RUNNER_CAPTURE_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Writes to `<name>` below dirfd; at half of `cap` the file becomes `<name>.1` (replacing an older one) and a new one
 * starts, so the newest half and what came before it are kept. With cap reached and `rotate` off, it stops and says so. */
struct capture {
    int dirfd, fd;
    const char *name;
    int64_t cap, written, older; /* bytes in the current file and in .1 */
    int64_t total, dropped;
    bool rotate, exceeded;
    int error; /* -errno of the first failed write; later bytes count as dropped */
};

int capture_open(struct capture *c, int dirfd, const char *name, int64_t cap, bool rotate, mode_t mode);
void capture_write(struct capture *c, const char *p, size_t n);
void capture_close(struct capture *c);

/* The last bytes of a stream, to find its last line that says something. All zero at first. */
struct tail {
    char p[512];
    size_t n;
    bool cut; /* there was more before it */
};

void tail_add(struct tail *t, const char *p, size_t n);
/* Its last line that is not blank, without control characters, shortened where it is long; NULL: there is none. A line ends at a
 * carriage return, too, since progress bars print nothing else. Caller frees. */
char *tail_line(const struct tail *t);

#endif
