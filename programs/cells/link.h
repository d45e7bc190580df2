/* The connection to a cell. */
#ifndef SIMBDP_CELLS_LINK_H
#define SIMBDP_CELLS_LINK_H

#include "channel.h"

#include "base/err.h"
#include "cells/map.h"

/* Connects, and makes sure that it is this cell: by its pin, else by the host's authorities. ERR_REFUSED: it is somebody else;
 * otherwise negative: it does not answer. Blocks until the deadline, and while names are resolved. */
int link_open(struct channel *c, const struct cells_cell *cell, gnutls_certificate_credentials_t authorities, int64_t deadline_ms,
              struct err *e);

#endif
