/* What runs leave in their scratch directories (<dir>/app) goes with them: it is moved aside at once, and removed by a thread,
 * since a tenant decides how much there is of it. What was taken of it (result, rejects, output) lies elsewhere by then. */
#ifndef SIMBDP_MANAGER_SCRAP_H
#define SIMBDP_MANAGER_SCRAP_H

#include "host/home.h"

#include <stdbool.h>

struct scrap;

/* Starts the thread, which first looks for what earlier managers left. */
struct scrap *scrap_new(const struct home *h);
void scrap_free(struct scrap *s); /* NULL is fine; the rest is removed after the next start */
/* The step in this directory is settled. Does not block. */
void scrap_take(struct scrap *s, const char *dir);
/* Removes anything else likewise. False: it cannot be moved aside (another file system), or is not there. */
bool scrap_put(struct scrap *s, int dirfd, const char *path);

#endif
