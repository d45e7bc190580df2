/* Where uploads are until batchmgr has them: staging/.gateway, the gateway's own. batchmgr takes complete files out of it, and
 * removes what is left behind (its uploads.h). */
#ifndef SIMBDP_GATEWAY_SPOOL_H
#define SIMBDP_GATEWAY_SPOOL_H

#include "base/err.h"
#include "host/home.h"
#include "host/spool_layout.h"

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct spool;
struct spool_file;

/* Makes the directory for a gateway of this uid (negative: ours), with the rights of who starts the gateway. */
int spool_make(const struct home *h, int64_t uid, struct err *e);
/* Once these rights are given up: its threads have no more than the rest. */
int spool_open(const struct home *h, struct event_base *base, struct spool **ret, struct err *e);
/* Waits for syncs that are going on; nobody is told. Then files may be freed, and spool_close called. NULL is fine for both. */
void spool_stop(struct spool *s);
void spool_close(struct spool *s);

/* A new file, below a new name. The caller frees it, which removes it unless it was given away. */
int spool_create(struct spool *s, struct spool_file **ret, struct err *e);
void spool_free(struct spool_file *f); /* NULL is fine; not while it is being synced */
/* Files that are not complete for long are in SPOOL "/" SPOOL_RESUMABLE, below an id of their own, with a description
 * (resumable.h). They are opened to be appended to; spool_free closes one and leaves it there. make: it is new, else -ENOENT where
 * it is not there. */
int spool_resume(struct spool *s, const char *id, bool make, struct spool_file **ret, struct err *e);
int64_t spool_size(const struct spool_file *f);          /* or -errno */
int spool_cut(struct spool_file *f, int64_t size);       /* takes back what was appended; 0 or -errno */
int spool_complete(struct spool_file *f, struct err *e); /* it is as from spool_create from here on */
/* One that was completed, and offered to batchmgr, which did not answer; whether it is there still is not looked at. */
struct spool_file *spool_completed(struct spool *s, const char *id);
/* The directory, to list it and for descriptions. */
int spool_resumable_dir(const struct spool *s);

/* Its bare name, an id (host/home.h). */
const char *spool_name(const struct spool_file *f);
/* Appends; 0 or -errno. Blocks as long as the page cache does. */
int spool_write(struct spool_file *f, const void *p, size_t n);
/* Has a thread make it durable, with its name; `done` is called on the loop, with 0 or -errno. */
void spool_sync(struct spool_file *f, void (*done)(void *arg, int r), void *arg);
/* Nothing more is written: nobody takes a file that somebody has open for that. Before it is offered to batchmgr. */
void spool_end(struct spool_file *f);
bool spool_has_ended(const struct spool_file *f);
/* It is batchmgr's from here on, or may be. */
void spool_give_away(struct spool_file *f);

#endif
