/* The files of an upload. */
#ifndef SIMBDP_REMOTE_ITEMS_H
#define SIMBDP_REMOTE_ITEMS_H

#include "base/err.h"
#include "host/home.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum item_state { ITEM_READY, ITEM_SENDING, ITEM_TAKEN, ITEM_FAILED };

struct item {
    char *path, *name; /* name: behind the last slash of it */
    int64_t size, mtime_ns;
    atomic_llong sent;     /* bytes of it that went, or were there */
    enum item_state state; /* this and what follows: with the lock of who sends */
    bool told, settled;    /* whether its end was printed; whether it has its verdict */
    char file_id[ID_SIZE];
    char note[160]; /* what it waits for; "": it goes on */
    struct err err;
};

struct items {
    struct item **v;
    size_t n;
};

/* Adds a file; of a directory all regular files below it, in the order of their names, without those whose names the platform
 * passes over (they begin with a dot, or end in .part) and without links. What cannot be sent is added as ITEM_FAILED. */
void items_add(struct items *all, const char *path);
void items_fini(struct items *all);
void item_fail(struct item *i, const struct err *e);

/* Whether the file under `fd` is as it was when it was added. */
bool item_is_same(const struct item *i, int fd);

#endif
