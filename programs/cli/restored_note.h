/* What a home says of having been made by `mysimbdp restore`, until somebody says that he knows (`mysimbdp restored --seen`). It is
 * state/restored.json (HOME_RESTORED), in which "seen" then is when that was. */
#ifndef SIMBDP_CLI_RESTORED_NOTE_H
#define SIMBDP_CLI_RESTORED_NOTE_H

#include "base/err.h"
#include "host/home.h"

#include <bson/bson.h>

/* The note's document, which the caller destroys; NULL: nothing is to be said, or it cannot be read. */
bson_t *restored_note(const struct home *h);
/* A sentence of it: when it was restored, of which point, and what that means. The caller frees. */
char *restored_text(const bson_t *note);
/* From here on nothing is said. 1, 0: nothing was to be said; -errno. */
int restored_seen(const struct home *h, struct err *e);

#endif
