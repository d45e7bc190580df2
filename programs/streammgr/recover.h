/* Takes up what an earlier streammgr left: what was asked for, and the instances that have not ended. */
#ifndef SIMBDP_STREAMMGR_RECOVER_H
#define SIMBDP_STREAMMGR_RECOVER_H

#include "base/err.h"

struct streammgr;

/* Reads the book, and no more. */
int recover_read(struct streammgr *m, struct err *e);
/* And looks for the runners of its instances; some may be found to have ended. */
int recover(struct streammgr *m, struct err *e);
/* Forgets the apps; their instances go on running. */
/* What the book has of a tenant that came from another home. */
int recover_tenant(struct streammgr *m, const char *tenant, struct err *e);
void recover_free(struct streammgr *m);

#endif
