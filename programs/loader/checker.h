/* A tenant's checker of messages. It is started for each batch, gets one line a message on stdin (lib/stream/command.h) and prints
 * one line for each, in their order: "ok", or "reject", which a reason may follow. */
#ifndef SIMBDP_LOADER_CHECKER_H
#define SIMBDP_LOADER_CHECKER_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>

struct checker {
    char *path; /* NULL: there is none */
    int64_t limit_ms;
    void (*tick)(void *arg); /* called a few times a second while it runs; extends leases, say */
    void *arg;
    struct buf out;
    char **why; /* for each message of the last batch: the reason to refuse it, or NULL; there is room for `cap` */
    size_t cap;
};

/* What came of a batch. */
enum checked {
    CHECKED,        /* `why` says which are refused */
    CHECKED_AGAIN,  /* exit code 75: it cannot answer now */
    CHECKED_NOTHING /* it broke the rules (crash, time limit, other output); e says how */
};

/* Runs it on n messages in `text`. Returns an enum checked, or negative: it cannot be started. Exit code 65 refuses the message
 * when there is only one. Blocks for up to limit_ms; then all that is left of its process group is killed. */
int checker_run(struct checker *c, const char *text, size_t n_text, size_t n, struct err *e);
void checker_fini(struct checker *c);

#endif
