/* The internals of a run and a row.
 *
 * Out of memory: every public call that allocates by base/mem.h does so below a mem_try of its own, also when a callback makes it
 * within another; so no frame of the app is ever unwound. Which calls leave the run as it was, and which end it, each says. */
#ifndef SIMBDP_CLIENTLIB_SRC_RUN_H
#define SIMBDP_CLIENTLIB_SRC_RUN_H

#include "simbdp.h"

#include "load/drain.h"
#include "load/ingest.h"
#include "load/quality_log.h"
#include "base/trace_context.h"
#include "read/message.h"

struct input {
    char *path, *name;
};

struct simbdp {
    char *tenant, *dataset, *run_id, *collection, *database, *schema;
    int attempt;
    struct input *inputs;
    size_t n_inputs;
    bool has_prefix; /* else it is derived from the content */
    unsigned char (*old_prefixes)[INGEST_PREFIX];
    size_t n_old_prefixes;
    int64_t max_rejects;
    double max_reject_pct;
    struct ingest in;
    struct spec *spec; /* the one that the sink was opened with */
    int failed;        /* code of the first failure */
    char reason[32];   /* for the result file */
    bool finished, rows_one_by_one;
    struct err err;

    struct drain *drain; /* of a stream app, from its first simbdp_next on */
    struct subscriber_message message;
    char traceparent[TRACE_PARENT_SIZE]; /* its */
    bool has_message;
    struct message_rows rows;
    struct quality_log *quality; /* of simbdp_store_message; or NULL */
    _Atomic bool stopping;
};

struct simbdp_row {
    struct simbdp *run;
    bson_t doc; /* a view of bytes */
    struct buf bytes;
    const struct record *rec; /* a callback's, else NULL */
    bool changed;
    int64_t number; /* -1: in order */
    struct buf json;
    char why[300];
};

/* Once in the program. */
void run_init_library(void);
/* A failure of the run; the first one stays. */
int run_fail(struct simbdp *run, int code);
/* Out of memory, and the call changed nothing. Returns SIMBDP_MEMORY. */
int run_no_memory(struct simbdp *run);
/* Out of memory in the middle of a change: the run has failed and can only be closed. Returns SIMBDP_MEMORY. */
int run_exhausted(struct simbdp *run);
/* Connects, and prepares the sink for the first row. */
int run_start(struct simbdp *run, const struct spec *spec);
/* The code of an error of the reader or the sink. */
int run_code(struct simbdp *run, int r);

/* The call back of simbdp_ingest_file and simbdp_store_message, for the reader. */
struct row_call {
    struct simbdp *run;
    simbdp_row_fn fn;
    void *arg;
    char why[300];
};
int row_call(void *arg, struct record *rec, struct buf *elements);

/* A row of the current message. */
int stream_store(struct simbdp *run, const void *elements, size_t n);
void stream_close(struct simbdp *run);

/* An empty one. */
void row_init(struct simbdp_row *row, struct simbdp *run, const struct record *rec);
void row_fini(struct simbdp_row *row);
#define AUTO_ROW __attribute__((cleanup(row_fini)))

#endif
