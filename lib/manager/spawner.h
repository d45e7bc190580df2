/* The manager's end of its warden (warden.h): what starts programs, and the scratch of runs that are over. On the loop; calls block
 * for as long as the warden looks at a request. */
#ifndef SIMBDP_MANAGER_SPAWNER_H
#define SIMBDP_MANAGER_SPAWNER_H

#include "warden.h"

#include "base/buf.h"
#include "host/home.h"

#include <event2/event.h>

struct spawner;

/* Starts the warden of `manager` with the rights that this process has now. When the warden ends, the loop is left. ready: after a
 * pause, runs can be started again. Borrows home; before there are threads. 0 or negative. */
int spawner_new(struct event_base *base, const struct home *home, const char *manager, void (*ready)(void *arg), void *arg,
                struct spawner **ret, struct err *e);
/* Starts the thread that removes scratch. Call it when the process has given up its rights, since threads keep theirs. */
void spawner_begin(struct spawner *s);
void spawner_free(struct spawner *s); /* NULL is fine; runs go on. Blocks until the program has ended, some 10 ms */

/* False while the process table was full, or a run was refused, a moment ago (then `ready` is called when to try again). */
bool spawner_is_ready(const struct spawner *s);
void spawner_pause(struct spawner *s, int64_t ms);
struct event_base *spawner_base(const struct spawner *s);
const struct home *spawner_home(const struct spawner *s);

/* A request with up to two descriptors. 0 or -errno. */
int spawner_tell(struct spawner *s, const struct warden_request *rq, const char *text, const int *fds, size_t n_fds);
/* One that is answered: the length of the answer, or -errno. */
ssize_t spawner_ask(struct spawner *s, const struct warden_request *rq, const char *text, char *answer, size_t size);

/* Removes what a tenant may have made as large as it liked: aside at once, then by a thread; where it cannot be moved, or s is
 * NULL, here and now. 0 or -errno. */
int spawner_discard(struct spawner *s, int dirfd, const char *path);
/* The step in this directory is settled: its scratch goes. */
void spawner_take_scratch(struct spawner *s, const char *dir);

/* ---- programs that the warden starts for the manager ---- */

struct job;

/* status: as waitpid gives it; negative: -errno, there was no process. Once, from the loop; the job is no more then. */
typedef void (*job_ended_fn)(void *arg, int status);

/* `fd` is the program's; it stays the caller's. NULL: it cannot be asked for. */
struct job *job_start(struct spawner *s, enum warden_op op, const char *tenant, const char *text, int fd, job_ended_fn ended,
                      void *arg);
/* One without a descriptor, to its end: its status, as above. Blocks; on any thread. */
int job_wait(struct spawner *s, enum warden_op op, const char *tenant, int64_t number);
/* Kills it, if it still goes; `ended` is not called. NULL is fine. */
void job_free(struct job *j);
void job_order(struct job *j, enum warden_order order);

#endif
