/* What becomes of a file after a run: the table of docs/files.md as a plain function. */
#ifndef SIMBDP_BATCHMGR_VERDICT_H
#define SIMBDP_BATCHMGR_VERDICT_H

#include "model.h"

struct verdict_input {
    enum run_outcome outcome;
    bool not_started;     /* the host did not give what the run needs */
    enum run_cause cause; /* what ended it that is neither the app's nor ours */
    bool group;           /* several files ran together */
    bool contradicts;     /* the app's result contradicts the inspection, or is malformed */
    bool database_down;   /* the database did not answer at some time of the run, or does not now */
    enum run_stop stop;
    const char *reason;                                          /* what the app or loader named, or NULL */
    int64_t attempts;                                            /* used before this run */
    int64_t losses;                                              /* runs lost before this one */
    int64_t max_attempts, backoff_ms, max_backoff_ms, give_up_s; /* batch.retry */
    int64_t now_wall_ms, first_temp_wall_ms;                     /* first exit 75 in a row, 0: none */
    double jitter;                                               /* 0 to 1 */
};

struct verdict {
    enum file_state state;                        /* ingested, quarantined, waiting or queued */
    const char *reason;                           /* points to static text or to the input's reason; NULL none */
    int64_t attempts, losses, first_temp_wall_ms; /* to be stored */
    int64_t delay_ms;                             /* for waiting */
    bool park;                                    /* the app cannot be executed */
};

struct verdict verdict_of(const struct verdict_input *in);

#endif
