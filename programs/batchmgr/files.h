/* The unfinished files, and what every module does with one: a checked move of its state, a timer, a step behind its commit. */
#ifndef SIMBDP_BATCHMGR_FILES_H
#define SIMBDP_BATCHMGR_FILES_H

#include "model.h"

struct batchmgr;

typedef void (*file_fn)(struct batchmgr *m, struct file *f);

/* Unfinished from here on: it is found by its id, and counts against its tenant's limits. */
void file_add(struct batchmgr *m, struct file *f);
/* Finished: the caller frees it, or goes on without counting it. */
void file_remove(struct batchmgr *m, struct file *f);
struct file *file_find(struct batchmgr *m, const char *file_id); /* NULL: it is not unfinished */
void files_free(struct batchmgr *m);                             /* all of them, with their timers */

/* The only way to another state. Logs old -> new; a move that the state machine does not have is logged as our error. */
void file_set_state(struct file *f, enum file_state next);

/* One timer a file, which replaces an older one: fn is called on the loop after ms. */
void file_timer(struct batchmgr *m, struct file *f, int64_t ms, file_fn fn);
void file_timer_stop(struct file *f);
/* Calls fn on the loop when what was put into the ledger so far is durable. The file must stay until then. */
void file_then(struct batchmgr *m, struct file *f, file_fn fn);

/* Where its bytes are while the platform works on them: work/<file_id>/in/<name>, relative to the home. Caller frees. */
char *file_in_path(const struct file *f, const char *name);

#endif
