/* A tenant's move from one home (a cell) to another, as each of the two remembers it: state/moves/<tenant>.json,
 *   {"v":1,"move":ID,"tenant":T,"side":"source"|"destination","phase":P,"other":WHERE,"at":MS,"shared":bool,"suspended":bool,
 *    "cells":DIR|null,"cell":NAME|null,"cell_before":NAME|null}
 * written durably and atomically by who conducts the move (programs/cli/tenant_move.c). Of the source's record the phase `moved` is
 * the step that decides: before it the source is the owner, from it on the home at `other` is, for good. */
#ifndef SIMBDP_HOST_MOVE_RECORD_H
#define SIMBDP_HOST_MOVE_RECORD_H

#include "home.h"

#include <stdint.h>

#define MOVES_DIR "state/moves"
enum { MOVE_VERSION = 1 };

/* In order. Of a source: AHEAD to DONE; of a destination: ARRIVING and HERE. */
#define MOVE_PHASES(X) X(ahead) X(held) X(copied) X(moved) X(done) X(arriving) X(here)
enum move_phase {
#define X(name) MOVE_##name,
    MOVE_PHASES(X)
#undef X
        MOVE_N_PHASES
};
const char *move_phase_name(enum move_phase p);

struct move_record {
    char id[ID_SIZE]; /* of the move: the same on both sides */
    char *tenant, *other;
    bool source;
    enum move_phase phase;
    int64_t at_wall_ms; /* when the phase began */
    bool shared;        /* its documents are where they were */
    bool suspended;     /* it was before */
    /* Of a fleet's map that follows the move (docs/scale-out.md): its directory, and the cells. NULL: none does. */
    char *cells, *cell, *cell_before;
};

/* -ENOENT: there is none; ERR_FORMAT: it is damaged; ERR_VERSION. *ret is to be freed with move_record_fini, also on failure. */
int move_record_read(const struct home *h, const char *tenant, struct move_record *ret, struct err *e);
/* With the present time. Blocks; durable. */
int move_record_write(const struct home *h, struct move_record *r, struct err *e);
int move_record_remove(const struct home *h, const char *tenant, struct err *e);
void move_record_fini(struct move_record *r);
#define AUTO_MOVE __attribute__((cleanup(move_record_fini)))

#endif
