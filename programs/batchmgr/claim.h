/* From a name in staging/ to a claimed file in work/ that nobody can change. */
#ifndef SIMBDP_BATCHMGR_CLAIM_H
#define SIMBDP_BATCHMGR_CLAIM_H

#include "tenants.h"

void claim_start(struct batchmgr *m);
void claim_stop(struct batchmgr *m);

/* A name in the tenant's staging directory: claimed, if it is complete and not claimed already. False: it could not be looked at,
 * for reasons of ours. What is claimed goes on with admit_claimed. */
bool claim_try(struct batchmgr *m, struct tenant *t, const char *dataset, const char *name);

/* A file that is not in the ledger yet: the one `raw` names in the directory `from`, relative to the home. */
struct file *claim_new_file(struct batchmgr *m, struct tenant *t, const char *dataset, const char *from, const char *raw);
/* The file is being made of the name that it was given: nothing else is made of it until it has left there. */
void claim_stage(struct batchmgr *m, struct file *f);
/* A file is being made of this name in the directory `from`. */
bool claim_is_staged(struct batchmgr *m, const char *from, const char *name);
/* The way into work/ of a file whose row is committed. Every step is skipped when its effect is there: recovery takes it, too. */
void claim_move(struct batchmgr *m, struct file *f);
/* Goes on with a file whose row says `received`. */
void claim_resume(struct batchmgr *m, struct file *f);
/* A file in work/ that was refused is to be tried again: it may still be what it was refused for. */
void claim_check_again(struct batchmgr *m, struct file *f);

#endif
