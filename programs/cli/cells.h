/* The directory that `mysimbdp cells` works on. */
#ifndef SIMBDP_CLI_CELLS_H
#define SIMBDP_CLI_CELLS_H

#include "cli.h"

#include "cells/map.h"

#define CELLS_DRAFT       "draft"
#define CELLS_MAP         "map"
#define CELLS_SECRET_FILE "map.key"
#define CELLS_PUBLIC_FILE "map.pub"
#define CELLS_LOCK        "lock"

struct cells_dir {
    int dirfd, lock;
};

/* dir NULL: that of MYSIMBDP_CELLS. lock: as flock takes it; waits for who holds it. 0, or what the verb gives, after a complaint.
 */
int cells_open(struct cli *c, const char *dir, int lock, struct cells_dir *ret);
void cells_close(struct cells_dir *d);

/* Of the map of DIR that was signed last: the cell of a tenant. -ENOENT: it is in none, or `to` (NULL: not asked) is no cell of the
 * map. */
int cells_where(const char *dir, const char *tenant, const char *to, char ret[CELLS_NAME_MAX + 1], struct err *e);
/* Puts the tenant into a cell in that map, and signs it for as long as it was; and in the draft, whose other changes stay what they
 * are. moving: nobody is let to it. Waits for who holds the directory. Again: the same, with a higher serial. */
int cells_reassign(const char *dir, const char *tenant, const char *cell, bool moving, struct err *e);

/* cells show [TENANT] */
int cells_show(struct cli *c, const char *dir, const char *tenant);

/* cells stats, cells files, cells page */
struct cells_ask {
    bool files;
    const char *out; /* the page's file; NULL: rows are listed */
    const char *dir, *tokens, *tenant, *state;
    int64_t since_ms, limit, deadline_s;
};
/* Takes their options. 0, or CLI_USAGE after a complaint. */
int cells_ask_options(struct cli *c, struct cells_ask *ret);
int cells_ask(struct cli *c, const struct cells_ask *q);

#endif
