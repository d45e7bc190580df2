/* Where uploads by HTTP lie until batchmgr has them, and for how long: the gateway writes there (programs/gateway/spool.h),
 * batchmgr takes and sweeps (programs/batchmgr/spool.h). One clock, the files' time of modification, and these limits for both. */
#ifndef SIMBDP_HOST_SPOOL_LAYOUT_H
#define SIMBDP_HOST_SPOOL_LAYOUT_H

#define SPOOL           "staging/.gateway"
#define SPOOL_RESUMABLE "resumable" /* in it: ID, what came of an upload that may be gone on with, and ID.json, its description */

enum {
    /* A file of the spool that nobody has written to for so long was given up; but one that has a description as long as that
     * holds.
     */
    SPOOL_OLD_S = 3600,
    /* A description holds from its own last change, or that of what came, whichever is later. It is changed when the upload is
     * complete. */
    SPOOL_RESUMABLE_S = 86400,
};

#endif
