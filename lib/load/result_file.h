/* What a run says of itself while it stores rows: counts and the checkpoint in SIMBDP_RESULT_FILE, and the rows that were not
 * stored, or that were repaired, in rejects.jsonl beside it, an object a line:
 *   {"line","byte_offset","column","type","message","raw"}      raw: the row's first 1,024 bytes
 * Lines of repaired rows also have "repaired": the rule by its short name; they are left out once they take half of the file's 16
 * MiB. */
#ifndef SIMBDP_LOAD_RESULT_FILE_H
#define SIMBDP_LOAD_RESULT_FILE_H

#include "read/reader.h"

#define RESULT_REJECTS "rejects.jsonl"

struct result_file {
    char *result_file; /* NULL: nothing is written */
    int rejects_fd;    /* -1: none yet */
    const char *input; /* borrowed; put before messages where a run has several files; NULL: not */
    int64_t rejects_bytes;
    int64_t parsed, loaded, rejected, repaired, bytes;
    int64_t added;       /* where a key replaces rows: those that replaced none; else -1 */
    bool parsed_unknown; /* rows that came from no file say nothing of how many it has */
    int64_t checkpoint;  /* everything before is stored */
    const char *quality; /* borrowed: a JSON array of days (quality_log.h), or NULL */
    int64_t written_at_ms;
};

void result_file_init(struct result_file *r, const char *result_file);
void result_file_fini(struct result_file *r);

/* One line of rejects.jsonl. */
struct result_row {
    int64_t line, offset;
    int column;                        /* 1-based; 0: none's */
    const char *type, *rule, *message; /* type: NULL: none */
    const char *raw;                   /* NULL: none */
    size_t n_raw;
};

void result_file_reject(struct result_file *r, const struct result_row *row);
void result_file_repair(struct result_file *r, const struct result_row *row);
/* Of the header, which is no row: listed only. */
void result_file_header_repair(struct result_file *r, const struct result_row *row);

/* Writes the result file, at once or (tick) when a while passed since the last time. Atomic. 0 or -errno. */
int result_file_write(struct result_file *r, const char *reason, const char *error);
int result_file_tick(struct result_file *r);

#endif
