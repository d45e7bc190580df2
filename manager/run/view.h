/* What a run sees of the file system. */
#ifndef SIMBDP_VIEW_H
#define SIMBDP_VIEW_H

#include "common/runspec.h"

#include <stddef.h>

/* In a new mount namespace, as its (namespace's) root: builds the view of `s`, after which the old one cannot be reached. 0, or
 * -errno with the step that failed in `what`. */
int view_build(const struct run_spec *s, char *what, size_t what_size);

/* The n-th path below which the run may write (absolute, in its view), NULL after the last. */
const char *view_writable(const struct run_spec *s, size_t n);

#endif
