/* mysimbdp tenant move, export, import. */
#ifndef SIMBDP_CLI_TENANT_MOVE_H
#define SIMBDP_CLI_TENANT_MOVE_H

#include "cli.h"

#include "host/move_record.h"

#include <sys/types.h>

/* Whether `tenant WHAT` is one of these. */
bool tenant_move_is_meant(const char *what);
int tenant_move(struct cli *c);

/* ERR_REFUSED: the tenant is on its way from or to this home, and may not be removed as others are. */
int tenant_move_forbids(const struct home *h, const char *tenant, struct err *e);

/* ---- tenant.c ---- */

/* Removes it; CLI_DONE, or CLI_FAILED after a complaint. */
int tenant_remove(struct cli *c, const struct home *h, const char *who, const char *id, bool purge);

/* ---- tenant_import.c: the destination's steps ---- */

/* Takes the stream on stdin: the tenant is here then, and held. */
int tenant_import(struct cli *c, const struct home *h);
/* The source has given it up: it goes on here. id: of the move. */
int tenant_arrived(struct cli *c, const struct home *h, const char *tenant, const char *id);
/* The source keeps it: what came of it goes. */
int tenant_forget(struct cli *c, const struct home *h, const char *tenant, const char *id);

/* ---- tenant_streams.c ---- */

/* Of a tenant that is held: waits for its instances to end, and for its streams to stand still. */
int tenant_streams_hold(const struct home *h, const char *tenant, struct err *e);
/* Writes them into state/moves/TENANT.out/streams; where it has none, there is no such file. */
int tenant_streams_export(const struct home *h, const char *tenant, struct err *e);
/* ERR_REFUSED: they cannot be moved as they are configured. */
struct conf_tenant;
int tenant_streams_check(const struct conf_tenant *t, struct err *e);

/* ---- both ---- */

/* {"op":OP,"tenant_id":T} and what `more` (may be NULL) adds, to batchmgr; may take long. ret NULL: the answer is not wanted. */
int tenant_order_batchmgr(const struct home *h, const char *op, const char *tenant, void (*more)(void *arg, struct buf *b),
                          void *arg, bson_t **ret, struct err *e);
/* The same to another program, without `more`. */
int tenant_order(const struct home *h, const char *program, const char *op, const char *tenant, struct err *e);
/* broker and streammgr read the ledger again. */
int tenant_tell_others(const struct home *h, const char *tenant, struct err *e);
/* A program of ours, beside this one. The caller frees. */
char *tenant_program(const char *name);
/* Runs it to its end with this one's descriptors; its exit code. Negative: it could not be started, or was killed. */
int tenant_run(char *const argv[], struct err *e);
/* Waits for the end of a child; as above. */
int tenant_wait(pid_t pid, const char *name, struct err *e);
/* Removes state/moves/TENANT.NAME of each. */
void tenant_tidy(const struct home *h, const char *tenant);

#endif
