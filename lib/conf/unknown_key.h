/* What is said of a key that the tables of keys.c do not have: the one that may have been meant, and all that may stand there. */
#ifndef SIMBDP_CONF_UNKNOWN_KEY_H
#define SIMBDP_CONF_UNKNOWN_KEY_H

#include "base/buf.h"
#include "cfg.h"

/* Appends the text. `keys` ends with an entry without a name. */
void unknown_key_text(const char *name, const struct cfg_key *keys, struct buf *text);

#endif
