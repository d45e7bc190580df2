/* What an isolated run sees of the file system. */
#ifndef SIMBDP_RUNNER_VIEW_H
#define SIMBDP_RUNNER_VIEW_H

#include "run/spec.h"

#include <stdbool.h>
#include <stddef.h>

enum { VIEW_MAX_PATHS = 64 };

/* Detached clones of spec.paths, in their order; -1: it is not there. */
struct view_sources {
    size_t n;
    int fd[VIEW_MAX_PATHS];
    bool is_dir[VIEW_MAX_PATHS];
    int hosts, resolv; /* what becomes /etc/hosts, and with an image /etc/resolv.conf; -1: nothing of ours does */
    int image;         /* what becomes the root; -1: the host's stays */
};

/* All: 0, or -errno with the step that failed in `what`. CAP_SYS_ADMIN is needed. */

/* In a new mount namespace: everything that does not depend on the run. */
int view_prepare(const char *home, char *what, size_t what_size);
/* A tmpfs for the run's working directory, attached nowhere: its descriptor in *ret_fd. */
int view_scratch(const struct run_spec *s, int *ret_fd, char *what, size_t what_size);
/* Where the host's tree is still to be seen: opens what spec.paths lists; dir/app is `scratch` (-1: it is the host's). view_close
 * after it, also when it failed. */
int view_open(struct view_sources *ret, const struct run_spec *s, int scratch, char *what, size_t what_size);
/* In the prepared namespace, by the run's first process in its own pid namespace and cgroup. */
int view_finish(const struct view_sources *from, const struct run_spec *s, char *what, size_t what_size);

void view_close(struct view_sources *s);

/* The n-th path below which the run may write (absolute, in its view), NULL after the last. */
const char *view_writable(const struct run_spec *s, size_t n);

#endif
