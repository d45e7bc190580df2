/* What batchmgr remembers of a file and of a run; the ledger's rows in memory. */
#ifndef SIMBDP_BATCHMGR_MODEL_H
#define SIMBDP_BATCHMGR_MODEL_H

#include "host/home.h"
#include "run/spec.h"

#include <stdbool.h>
#include <stdint.h>

#define FILE_STATES(X) X(received) X(queued) X(running) X(waiting) X(ingested) X(rejected) X(duplicate) X(vanished) X(quarantined)

enum file_state {
#define X(name) FILE_##name,
    FILE_STATES(X)
#undef X
        FILE_N_STATES
};
const char *file_state_name(enum file_state s);
int file_state_parse(const char *name); /* or ERR_FORMAT */
bool file_state_is_final(enum file_state s);

/* Where the bytes are. */
#define FILE_PLACES(X) X(staging) X(work) X(done) X(quarantine) X(gone)
enum file_place {
#define X(name) PLACE_##name,
    FILE_PLACES(X)
#undef X
        PLACE_N
};
const char *file_place_name(enum file_place p);
int file_place_parse(const char *name);

struct cross_device;
struct inspect_copy_ops;
struct file_timer;
struct run;

/* Files in order of arrival. A file hangs on one such list at most, and knows which. */
struct file_list {
    struct file *first, *last;
    size_t n;
};

struct file {
    char file_id[ID_SIZE];
    char *tenant, *dataset;
    char *name;     /* as delivered, bytes that are not UTF-8 as \xNN */
    char *raw_name; /* as delivered; not kept once the file left staging */
    char *safe;     /* name below work/<file_id>/in/ */
    char *from;     /* directory it was delivered to, relative to the home */
    char *app;      /* asked for at upload, or NULL */
    enum file_state state;
    enum file_place place;
    char *reason, *detail;                                          /* NULL: none */
    int64_t size, rows, columns;                                    /* -1: not known yet */
    char hash[65];                                                  /* hex, "" until inspected */
    int64_t rows_parsed, rows_loaded, rows_rejected, rows_repaired; /* -1: unknown */
    int64_t rows_added; /* where a key replaces rows: those that replaced none, as far as the platform's loader knows; else -1 */
    char *quality;      /* figures that the ledger does not have yet */
    int64_t attempts, losses;
    bool force;
    int64_t received_wall_ms, started_wall_ms, ended_wall_ms, not_before_wall_ms, first_temp_wall_ms;
    char run_id[ID_SIZE];     /* last run */
    char output_run[ID_SIZE]; /* run whose kept output waits to be loaded */
    char prefix[33];          /* hex: rows may be stored under this prefix */
    char *old_prefixes;       /* blank-separated hex: to be deleted before loading */
    int64_t checkpoint;       /* of the load under `prefix` */
    int64_t released_wall_ms; /* when its app's trigger let it go, 0: not yet */
    bool checked;             /* its app's checker let it pass */
    bool solo;                /* was in a group that failed: from now on alone */
    char *trace;              /* of which it is a part (base/trace_context.h, what is kept); NULL: of its own */
    int64_t group_n;          /* files whose rows were stored under `prefix` together with its own; 1: its alone */
    /* not in the ledger */
    struct file *mate;                   /* next one of the group that it runs in, or waits in with a kept output */
    struct file *lead;                   /* that group's first; NULL: itself, or no group */
    struct run *ended_by;                /* acknowledged once the file's end is committed; NULL: no run's */
    struct file_timer *timer;            /* files.c; NULL: it waits for nothing */
    struct file *behind;                 /* same content, in flight */
    int n_followers;                     /* files whose `behind` is this one */
    struct file_list *list;              /* that it waits on: for an inspector, a trigger or a run; NULL: none */
    struct file *next, *previous;        /* on it */
    const struct inspect_copy_ops *copy; /* on the list for inspectors: to be copied so; NULL: looked at */
    struct cross_device *move;           /* to another file system (cross_device.h); NULL: none is under way */
    int64_t writer_since_ms;
    int inspections;
    int unread;             /* times that the disk did not give its bytes, or did not take them */
    bool unsynced;          /* it did not take them: the kernel may have them in memory alone, and is not to be asked again */
    int64_t queued_wall_ms; /* 0: not known */
    int64_t n_run_files;    /* of its last run; 0: not known */
    int64_t inspected_ms;   /* by inspectors that failed */
    int64_t filing_ms;      /* until filing is tried again; 0: it has not failed */
    bool retrying;          /* its bytes are on their way back from quarantine/ */
    int told;               /* what its tenant was told last: 0: nothing; that state + 1; -1: nobody knows */
    bool told_read;         /* and that it was inspected */
    bool retry_asked;       /* while they were on their way into it: then, once they are there */
};

struct file *file_new(const char *tenant, const char *dataset);
struct file *file_copy(const struct file *f);
void file_free(struct file *f); /* accepts NULL */

void file_list_add(struct file_list *l, struct file *f);       /* behind the others; it must be on no list */
void file_list_add_first(struct file_list *l, struct file *f); /* before them */
struct file *file_list_take(struct file_list *l);              /* the first one; NULL: it is empty */
void file_list_remove(struct file *f);                         /* from the list that it is on */

/* Notes that rows under this prefix are to be deleted before the next load ("" and known ones are ignored). */
void file_add_old_prefix(struct file *f, const char *prefix);
/* Forgets the kept output, so that the app runs again; what was loaded of it goes before the new output is loaded. */
void file_drop_output(struct file *f);
/* False for one that was tried before: what failed is retried file by file. */
bool file_may_be_grouped(const struct file *f);
/* Hangs `mate` on the end of the group of `f`. */
void file_add_mate(struct file *f, struct file *mate);
/* Takes the group apart, from its first on; gives the file after `f`. */
struct file *file_take_mate(struct file *f);

#define RUN_STATES(X) X(starting) X(running) X(ended)
enum run_state {
#define X(name) RUN_STATE_##name,
    RUN_STATES(X)
#undef X
        RUN_N_STATES
};
const char *run_state_name(enum run_state s);
int run_state_of(const char *text, enum run_state *ret); /* or ERR_FORMAT */

/* Why a stop was ordered; of two orders the later one here counts. */
enum run_stop {
    RUN_STOP_none,
    RUN_STOP_drain,  /* the platform goes down: its files are run again as if it had not been */
    RUN_STOP_person, /* or a purge: its files are quarantined as `stopped` */
};

/* What a run takes as long as it lasts, and of which pool (fair_queue.h). */
struct demand {
    int pool;
    double cpus;
    int64_t memory_bytes;
};

struct run {
    char run_id[ID_SIZE], file_id[ID_SIZE];
    char *tenant, *app;
    enum run_step step;
    int64_t attempt;
    enum run_state state;
    int outcome; /* enum run_outcome, -1 until ended */
    int exit_code, signal;
    enum run_limit limit;
    char *error, *node;
    bool forced;
    int64_t started_wall_ms, ended_wall_ms;
    double wall_s, cpu_s;
    int64_t max_rss_bytes, output_bytes_dropped, network_refused; /* -1: nobody counted */
    int64_t n_files;
    int64_t rows_parsed, rows_loaded, rows_rejected, rows_repaired,
        rows_added; /* of a group, where they are counted for the run; else -1 */
    /* not in the ledger */
    struct cgroup_waited waited; /* of the steps that ended since batchmgr was started */
    char *dataset;               /* of its files; NULL: not known */
    char *trace;                 /* of its file; NULL: of its own, or of several files */
    int64_t load_wall_ms;        /* when it went on with the loading; 0: it did not */
    int told;                    /* as of a file */
    struct file *file;           /* the first; the others hang on its `mate` */
    struct batchmgr *mgr;
    struct run_handle *handle; /* its current step's; NULL: none was started or looked for yet */
    enum run_stop stop;
    struct demand demand; /* charged */
    int64_t charged_at_ms;
    uint64_t check; /* number of the health check that `pending` waits for */
    enum run_output output;
    char *image, *image_digest, *image_why; /* its root and what is in it, or why there is none; NULL: the host's */
    int64_t image_identity;
    struct run_result *pending; /* waits for the health check */
};

struct run *run_new(void);
/* starting -> running -> ended, or from starting to ended at once. Another move is a bug of ours and ends the program; which state
 * a run had in the ledger is not a move (ledger_rows.c). */
void run_set_state(struct run *r, enum run_state next);
struct run *run_copy(const struct run *r); /* ledger columns only */
void run_free(struct run *r);

#endif
