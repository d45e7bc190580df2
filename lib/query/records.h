/* Rows of the ledger as they are shown to people and programs: a file, and a run. Their keys are those of `mysimbdp files --json`
 * and `mysimbdp runs --json`, and whatever else shows them has the same. */
#ifndef SIMBDP_QUERY_RECORDS_H
#define SIMBDP_QUERY_RECORDS_H

#include "columns.h"

struct records {
    const struct col *cols; /* column i of the statement is cols[i] */
    size_t n_cols;
    const char *select;     /* SELECT ... FROM ..., without conditions; the columns that these are about are `tenant`, `dataset` of
                               files, `app` of runs, `state`, and: */
    const char *id, *since; /* which tells one row; when it came */
    const char *what;       /* in the plural */
    const char *const *states; /* ends with NULL */
};
/* For a connection of ledger_view.h. */
extern const struct records records_files, records_runs;

bool records_have_state(const struct records *r, const char *state);
/* A condition that holds for all rows in this state and lets SQLite use an index of those; NULL: there is none. */
const char *records_index_of(const struct records *r, const char *state);

/* A condition on `run_id`: the runs that began with a file, and the run of the group that it was in last. `id`: the parameter that
 * the file's id is bound to. */
#define RECORDS_RUNS_OF_FILE(id)                                                                                                   \
    "run_id IN(WITH w(id) AS (SELECT " id                                                                                          \
    ") SELECT r.run_id FROM runs r, w WHERE r.file_id=w.id UNION SELECT f.run_id FROM files f, w "                                 \
    "WHERE f.file_id=w.id)"

#endif
