/* Files of a home into a backup: their bytes in pieces, and what they are into the list. */
#ifndef SIMBDP_PIECES_COPY_H
#define SIMBDP_PIECES_COPY_H

#include "point.h"

#include "base/map.h"
#include "host/home.h"
#include "term/progress.h"

struct copying {
    const struct home *home;
    struct store *store;
    struct point_writer w;
    struct progress progress;
    const char *phase;   /* what is shown */
    unsigned char *room; /* for a piece */
    struct map dirs;     /* those that are in the list */
    struct map before;   /* path -> struct bytes *, of the point before: see copy_before */
    /* Asked of each regular file of copy_path; NULL: none is left out. 1: it is; 0; or negative, which ends it. */
    int (*look)(void *arg, int fd, const char *path, const struct stat *st, struct err *e);
    void *look_arg;
};

void copy_init(struct copying *k, const struct home *h, struct store *s);
void copy_fini(struct copying *k);
void copy_phase(struct copying *k, const char *phase);

/* A file's bytes as they were put. */
struct bytes {
    char *name;
    struct stat st;
    int64_t size;
    char (*pieces)[STORE_NAME];
    size_t n;
};
void bytes_fini(struct bytes *b);

enum copy_how {
    COPY_WHOLE,
    COPY_LINES, /* what follows the last end of line is left out: somebody is writing it */
};

/* Puts what is in fd. name is kept as the file's, and shown in errors. *ret is to be freed with bytes_fini, also on failure. A file
 * that changes meanwhile is read again, a few times. Blocks. */
int copy_bytes(struct copying *k, int fd, const char *name, enum copy_how how, struct bytes *ret, struct err *e);
/* n bytes of memory as a file of `st`'s owner and mode. */
int copy_memory(struct copying *k, const char *path, const void *p, size_t n, const struct stat *st, struct err *e);
/* Into the list, with the directories above it. */
int copy_add(struct copying *k, const char *path, const struct bytes *b, struct err *e);
/* Directories on the way to path that are not in the list yet, as they are in the home (0711 and root's where they are not). */
int copy_add_above(struct copying *k, const char *path, struct err *e);

/* A file or link of the home, or a directory with all that is in it. What is not there, or vanishes, is left out; so is what is
 * neither file, directory nor link. */
int copy_path(struct copying *k, const char *path, enum copy_how how, struct err *e);

/* Files below these directories never change once they are there. Those that `point` has with the same size and time are not read
 * again. */
int copy_before(struct copying *k, const char *point, struct err *e);
/* Whether the point before has the file: *ret then has its bytes, and is to be freed. */
bool copy_known(struct copying *k, const char *path, const struct stat *st, struct bytes *ret);

#endif
