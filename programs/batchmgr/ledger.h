/* The ledger: one row a file, one row a run, in SQLite (WAL, synchronous FULL).
 *
 * Writes are queued by the event loop and committed by a worker thread, all that one turn queued in one transaction; what
 * must only happen when they are durable is queued behind them with ledger_then and runs on the loop after the commit.
 * Rows are copied when queued. When a commit fails (disk full) the batch is kept and tried again every second: nothing
 * that depends on it happens meanwhile, and ledger_stalled says so.
 *
 * Reads use a connection of their own on the caller's thread and see committed rows only. */
#ifndef SIMBDP_BATCHMGR_LEDGER_H
#define SIMBDP_BATCHMGR_LEDGER_H

#include "model.h"

#include "host/uid_block.h"

struct event_base;
struct ledger;

/* Opens or makes HOME/state/ledger.db. A newer schema is ERR_VERSION; a damaged file names what to do. */
int ledger_open(const struct home *h, struct event_base *base, struct ledger **ret, struct err *e);
/* Waits for what was queued to be committed; callbacks that are left are not run. */
void ledger_close(struct ledger *l);

/* Told on the loop of each row that was committed, in order, as it is there; its `told` is what was told before. committed: after
 * those of a transaction, and before what waited for it (ledger_then). Also while the ledger is closed. */
struct ledger_watch {
    void (*file)(void *arg, const struct file *f);
    void (*run)(void *arg, const struct run *r);
    void (*committed)(void *arg);
};
void ledger_watch(struct ledger *l, const struct ledger_watch *w, void *arg); /* borrowed */

/* Takes the quality of `f`, which is written once. */
void ledger_put_file(struct ledger *l, struct file *f);
/* The same for a step that recovery would find out by itself: committed with the next row that matters, or LAZY_MS later. */
void ledger_note_file(struct ledger *l, struct file *f);
/* Makes what was renamed into this directory durable before the transaction with the next row is committed. */
void ledger_sync_dir(struct ledger *l, const char *path); /* relative to the home */
void ledger_put_run(struct ledger *l, struct run *r);
void ledger_note_run(struct ledger *l, struct run *r); /* as ledger_note_file */
/* Lasting marks: the run's directory, or the file's documents, were deleted by age. */
void ledger_note_pruned(struct ledger *l, const char *run_id);
void ledger_note_expired(struct ledger *l, const char *file_id);
/* A file that was handed in (hand_in.h), by a key of its tenant's. */
struct ledger_hand_in {
    char *tenant, *key;
    char file_id[ID_SIZE];
    char *dataset, *name;
    int64_t size, wall_ms; /* wall_ms: when */
};

/* Replaces an older one of the same key. In one transaction with what else is put in this turn of the loop; copied. */
void ledger_put_hand_in(struct ledger *l, const struct ledger_hand_in *h);
/* The file that was handed in by the key of `like` since wall_ms; ret_same: dataset, name and size are the same. */
bool ledger_find_hand_in(struct ledger *l, const struct ledger_hand_in *like, int64_t wall_ms, char ret_file_id[ID_SIZE],
                         bool *ret_same);
/* Removes those of before wall_ms. */
void ledger_forget_hand_ins(struct ledger *l, int64_t wall_ms);
/* Calls fn on the loop when all that was put before is durable. If the ledger is closed before that, drop is called instead
 * (NULL: nothing is). */
void ledger_then(struct ledger *l, void (*fn)(void *arg), void *arg, void (*drop)(void *arg));
/* Whether commits fail; and why, as far as it fits into ret_why (NULL: not asked). */
bool ledger_stalled(struct ledger *l, char *ret_why, size_t size);

/* The tenant's uid: given once out of the home's (ERR_LIMIT when all are), kept for ever. Commits at once (start and reload only).
 */
int ledger_tenant_uid(struct ledger *l, const char *tenant, const struct uid_block *block, int64_t *ret_uid, struct err *e);
int ledger_set_suspended(struct ledger *l, const char *tenant, bool suspended, struct err *e);
bool ledger_is_suspended(struct ledger *l, const char *tenant);

/* How far the tenant's removal is: 1 begun, 2 done. Commits at once. */
int ledger_set_purging(struct ledger *l, const char *tenant, int purging, struct err *e);
/* A tenant that was removed is there again. */
void ledger_take_up(struct ledger *l, const char *tenant);
char **ledger_purging(struct ledger *l); /* tenants whose removal was begun; NULL-terminated, caller frees all */
/* Deletes the tenant's files and runs (and keeps, with `bills`, what they are billed by), a few rows a transaction, over a
 * connection of its own: for a thread of its own. fn is called with each run's id before its row goes; when it fails, its error is
 * given back and the row stays. */
int ledger_purge(const struct home *h, const char *tenant, bool bills, int (*fn)(void *arg, const char *run_id, struct err *e),
                 void *arg, struct err *e);

/* Calls fn for each file that is not final or whose bytes are still in work/ (TAKE), in order of arrival. */
int ledger_each_live_file(struct ledger *l, void (*fn)(void *arg, struct file *f), void *arg, struct err *e);
int ledger_get_file(struct ledger *l, const char *file_id, struct file **ret, struct err *e); /* -ENOENT */
int ledger_get_run(struct ledger *l, const char *run_id, struct run **ret, struct err *e);    /* -ENOENT */
/* The ingested file with this content: fills file_id, prefix, and how many files share that. */
bool ledger_find_ingested(struct ledger *l, const char *tenant, const char *dataset, const char *hash, char ret_file_id[ID_SIZE],
                          char ret_prefix[33], int64_t *ret_group_n);
/* Files and bytes taken by the tenant since wall_ms, of one dataset or (NULL) of all. */
void ledger_taken_since(struct ledger *l, const char *tenant, const char *dataset, int64_t wall_ms, int64_t *ret_files,
                        int64_t *ret_bytes);
/* File ids in done/ or quarantine/ that ended before wall_ms; NULL-terminated, caller frees all. */
char **ledger_filed_before(struct ledger *l, const char *tenant, int64_t wall_ms, int limit);
/* The same of those that could not be filed away and stay in work/. */
char **ledger_left_in_work(struct ledger *l, const char *tenant, int64_t wall_ms, int limit);
/* Ids of ended runs whose directory is there still and that ended before wall_ms, but for those whose output is yet to be loaded.
 */
char **ledger_runs_before(struct ledger *l, const char *tenant, int64_t wall_ms, int limit);
/* Files whose documents were stored before wall_ms and are there still, and (ret_prefixes) under what; but for those whose prefix a
 * younger file shares. */
char **ledger_stored_before(struct ledger *l, const char *tenant, const char *dataset, int64_t wall_ms, int limit,
                            char ***ret_prefixes);
/* The first `limit` (-1: all) file ids of the tenant that `retry` may take up: quarantined and rejected ones. */
char **ledger_retryable(struct ledger *l, const char *tenant, int limit);

#endif
