/* From a name in staging/ to a claimed file in work/ that nobody can change. */
#ifndef SIMBDP_INTAKE_H
#define SIMBDP_INTAKE_H

#include "batchmgr.h"

int intake_start(struct batchmgr *m, struct err *e);
void intake_stop(struct batchmgr *m);
/* Makes and watches the staging directories of a tenant; called for each on start and reload. */
int intake_add_tenant(struct batchmgr *m, struct tenant *t, struct err *e);
void intake_rescan(struct batchmgr *m);
/* A name was seen in a staging directory. */
enum { INTAKE_MAX_CANDIDATES = 4096 }; /* of a tenant; beyond, names are looked for again later */
void intake_saw(struct batchmgr *m, struct tenant *t, const char *dataset, const char *name);
/* A file of the tenant's ended without ever being run: how many do is bounded, as long as a tenant makes them (refusals.h). True
 * when it is being slowed down. */
bool intake_refused(struct tenant *t);
/* Names of the tenant's wait for that. */
bool intake_is_slowed(struct tenant *t);
/* Whether the error is not the file's: it goes by, and the file is as it was. */
bool intake_is_our_trouble(int error);
/* Goes on with a file whose row says `received`. */
void intake_resume(struct batchmgr *m, struct file *f);
/* The same for one that was refused and is to be tried again: it is in work/, and may be what it was refused for. */
void intake_check_again(struct batchmgr *m, struct file *f);
/* The copy that intake asked an inspector for is done. */
void intake_copied(struct batchmgr *m, struct file *f, bool ok, const char *detail);

/* An upload in two steps; `path` (caller frees) is where the client writes. */
int intake_upload_begin(struct batchmgr *m, const char *tenant, const char *dataset, const char *name, int64_t size,
                        const char *app, bool force, char ret_id[ID_SIZE], char **ret_path, struct err *e);
int intake_upload_commit(struct batchmgr *m, const char *id, void (*done)(void *arg, const char *file_id), void *arg,
                         struct err *e);
/* Removes what uploads of an earlier batchmgr left behind. After recovery, which knows the committed ones. */
void intake_clean_uploads(struct batchmgr *m);
void intake_upload_abort(struct batchmgr *m, const char *id);
/* Those of one tenant. */
void intake_abort_uploads(struct batchmgr *m, const char *tenant);

/* name as UTF-8 (other bytes as \xNN), and a bare ASCII name for work/. Callers free. */
char *intake_shown_name(const char *raw);
char *intake_safe_name(const char *raw);

#endif
