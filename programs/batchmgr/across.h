/* Between file systems: a file's directory that cannot be renamed from work/ to done/ or quarantine/, or back. An inspector copies
 * the bytes, in the tenant's turn; the directory gets its name when they are on the disk, and the old one goes when that is so. */
#ifndef SIMBDP_BATCHMGR_ACROSS_H
#define SIMBDP_BATCHMGR_ACROSS_H

#include "batchmgr.h"

/* r: 0, -errno, or ERR_REFUSED for what is no regular file and stays where it is. */
typedef void (*across_done)(struct batchmgr *m, struct file *f, int r);

/* Moves the directory `from` to `to`, which is not there; both are relative to the home. `done` may be called before this returns.
 */
void across_move(struct batchmgr *m, struct file *f, const char *from, const char *to, across_done done);
/* Nobody waits for it any more. */
void across_forget(struct file *f);

/* For inspectors, as intake_open_copy and intake_copied. */
int across_open_copy(struct batchmgr *m, struct file *f, int fds[2]);
void across_copied(struct batchmgr *m, struct file *f, bool ok, const char *detail);

#endif
