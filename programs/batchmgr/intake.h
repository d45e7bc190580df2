/* From a name in staging/ to a claimed file in work/ that nobody can change. */
#ifndef SIMBDP_BATCHMGR_INTAKE_H
#define SIMBDP_BATCHMGR_INTAKE_H

#include "batchmgr.h"

int intake_start(struct batchmgr *m, struct err *e);
void intake_stop(struct batchmgr *m);
void intake_rescan(struct batchmgr *m);
/* A name was seen in a staging directory. */
enum { INTAKE_MAX_CANDIDATES = 4096 }; /* of a tenant; beyond, names are looked for again later */
void intake_saw(struct batchmgr *m, struct tenant *t, const char *dataset, const char *name);
/* A file of the tenant's ended without ever being run: how many do is bounded, as long as a tenant makes them (refusals.h). True
 * when it is being slowed down. */
bool intake_refused(struct tenant *t);
/* Names of the tenant's wait for that. */
bool intake_is_slowed(struct tenant *t);
/* Whether the error is not the file's: it goes by, and the file is as it was. */
bool intake_is_our_trouble(int error);
/* Goes on with a file whose row says `received`. */
void intake_resume(struct batchmgr *m, struct file *f);
/* The same for one that was refused and is to be tried again: it is in work/, and may be what it was refused for. */
void intake_check_again(struct batchmgr *m, struct file *f);
/* Between file systems, and from another owner, an inspector copies (inspect_copy). What from and what to, when it is the file's
 * turn: 0, and the caller closes both; or -1: the file was put off, or finished. */
int intake_open_copy(struct batchmgr *m, struct file *f, int fds[2]);
/* The copy that intake asked an inspector for is done. */
void intake_copied(struct batchmgr *m, struct file *f, bool ok, const char *detail);

/* For uploads.c: a file that is not in the ledger yet; and the way into work/ of one that is. */
struct file *intake_new_file(struct batchmgr *m, struct tenant *t, const char *dataset, const char *from, const char *raw);
void intake_move(struct batchmgr *m, struct file *f);
/* Names that are not for us: of what is still being written. */
bool intake_is_ignored(const char *name);

#endif
