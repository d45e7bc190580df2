/* Removes scratch directories of runs (<dir>/app): moved aside at once, emptied by a thread, since a tenant decides how much there
 * is to remove. What is kept of a run (result, rejects, output) was taken out of it before. */
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
