/* A tenant's checker of messages: a program that is started for each batch, gets a line a message on stdin
 * (lib/stream/command.h) and prints a line for each, in their order: "ok", or "reject", perhaps with a reason behind it. */
#ifndef SIMBDP_LOADER_CHECKER_H
#define SIMBDP_LOADER_CHECKER_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>

struct checker {
    char *path; /* NULL: there is none */
    int64_t limit_ms;
    void (*tick)(void *arg); /* called a few times a second while it runs */
    void *arg;
    struct buf out;
    char **why; /* of each message of the last batch: the reason to refuse it, or NULL; cap of them */
    size_t cap;
};

/* What came of a batch. */
enum checked {
    CHECKED,        /* `why` says of which */
    CHECKED_AGAIN,  /* exit code 75: it cannot tell now */
    CHECKED_NOTHING /* it did not answer as it has to; e says how */
};

/* Runs it on n messages in `text`. An enum checked, or negative: it cannot be started. Exit code 65 for a single message refuses
 * it. Blocks for up to limit_ms; all that it started in its process group is killed then. */
int checker_run(struct checker *c, const char *text, size_t n_text, size_t n, struct err *e);
void checker_fini(struct checker *c);

#endif
