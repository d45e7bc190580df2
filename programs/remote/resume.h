/* Which uploads were begun and not ended, so that another start of the program goes on with them: a small file for each below
 * ~/.local/state/mysimbdp/uploads (XDG_STATE_HOME is followed), named by gateway, tenant, dataset, options, path, size and time of
 * the file, and locked while somebody sends it. */
#ifndef SIMBDP_REMOTE_RESUME_H
#define SIMBDP_REMOTE_RESUME_H

#include "items.h"

struct resume {
    int fd;                  /* -1: nothing is remembered */
    char *path;              /* of the small file */
    char upload_id[ID_SIZE]; /* "": none was begun */
};

/* `what`: all that tells uploads apart but the file. -EBUSY: somebody else is sending this file. Other failures leave *ret without
 * a memory, and are told in e: the upload works all the same. resume_close in any case. */
int resume_open(const char *what, const struct item *i, struct resume *ret, struct err *e);
void resume_remember(struct resume *r, const char *upload_id); /* durable, as far as that goes */
void resume_forget(struct resume *r);
void resume_close(struct resume *r);

#endif
