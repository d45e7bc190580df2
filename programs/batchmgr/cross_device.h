/* Between file systems: a file's directory that cannot be renamed from work/ to done/ or quarantine/, or back. An inspector copies
 * the bytes, in the tenant's turn; the directory gets its name when they are on the disk, and the old one goes when that is so. */
#ifndef SIMBDP_BATCHMGR_CROSS_DEVICE_H
#define SIMBDP_BATCHMGR_CROSS_DEVICE_H

#include "model.h"

struct batchmgr;

/* r: 0, -errno, or ERR_REFUSED for what is no regular file and stays where it is. */
typedef void (*cross_device_done)(struct batchmgr *m, struct file *f, int r);

/* Moves the directory `from` to `to`, which is not there; both are relative to the home. `done` may be called before this returns.
 */
void cross_device_move(struct batchmgr *m, struct file *f, const char *from, const char *to, cross_device_done done);
/* Nobody waits for it any more. */
void cross_device_forget(struct file *f);

#endif
