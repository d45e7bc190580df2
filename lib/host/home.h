/* A home directory: its layout, version, lock, ids and where its programs listen. */
#ifndef SIMBDP_HOST_HOME_H
#define SIMBDP_HOST_HOME_H

#include "base/err.h"

#include <limits.h>
#include <stdbool.h>

enum { HOME_VERSION = 1 };

struct home {
    char *path;    /* absolute, real */
    char *bin;     /* directory of the platform's programs */
    char *runtime; /* short directory for sockets, 0711 */
    char tag[17];  /* 16 hex digits of hash(path): names cgroups and the run-time directory */
    int dirfd;     /* the home itself */
};

/* Opens an existing home. `path` NULL: MYSIMBDP_HOME, which must be set. Makes the run-time directory if needed. Errors
 * name what is missing; a home of a newer version is ERR_VERSION. Where the home has run in a user namespace, this process is in it
 * from then on (userns_enter): before the process has threads. */
int home_open(struct home *h, const char *path, struct err *e);
/* The same for programs that run the home (`up`, managers): without root such a namespace is made first, where possible. */
int home_enter(struct home *h, const char *path, struct err *e);
void home_close(struct home *h);

/* Removes permissions that earlier versions gave to others: names of files there tell tenants' addresses and secrets, and what
 * tenants did. Never adds any. */
void home_narrow(const struct home *h);

/* Makes directories of the home that are gone (deleted, or not in the backup that was restored), and logs each. To be called by who
 * starts the home, before any other program of it runs. */
int home_mend(const struct home *h, struct err *e);

/* Copies programs that tenants' runs may call into HOME/bin, which is on their PATH: the directory where the platform is installed
 * may be out of their reach. To be called by who starts the home. Writes only what has changed. */
#define HOME_TOOLS "bin"
int home_put_tools(const struct home *h, struct err *e);

/* Whether we are root and the home is root's: then programs that tenants reach have uids of their own. */
bool home_is_roots(const struct home *h);

/* Makes a home at `path` (which may exist when empty). */
int home_init(const char *path, struct err *e);

/* HOME/rel as a new string. */
char *home_path(const struct home *h, const char *rel);
/* A socket path in the run-time directory; at most 107 bytes. */
char *home_socket(const struct home *h, const char *name);
/* For who may not read the home at `path` (NULL: MYSIMBDP_HOME): that socket, where the home is root's; homes of others have
 * their run-time directory where other users cannot know it. NULL: the home may be read, or there is no such socket. The caller
 * frees. */
char *home_socket_for_others(const char *path, const char *name);
/* Absolute path of one of the platform's programs. */
char *home_program(const struct home *h, const char *name);
/* The path that `exec` of a tenant's configuration means: below apps/<tenant>/ unless it is absolute. Likewise of a secret's file,
 * below keys/<tenant>/, and of an `image`, as for `exec`; *ret_tag is behind the colon of PATH:TAG, "" where there is none. The
 * caller frees. */
char *home_exec(const struct home *h, const char *tenant, const char *exec);
char *home_secret(const struct home *h, const char *tenant, const char *file);
char *home_image(const struct home *h, const char *tenant, const char *image, const char **ret_tag);
/* Path, relative to the home, of the mark by which the provider orders a tenant's purge. The caller frees. */
char *home_purge_mark(const char *tenant);

/* Takes the lock state/<name>.lock for this process' life. -EWOULDBLOCK: somebody else still held it after wait_ms (0: does not
 * block). The descriptor stays open. */
int home_lock(const struct home *h, const char *name, int wait_ms, struct err *e);

/* Of a home that was made by `mysimbdp restore`: {"point", "at", "restored", "home", "host"}, times in ms since the epoch: what was
 * done after `at` it does not know. */
#define HOME_RESTORED "state/restored.json"

/* What the home remembers of MongoDBs that are not its own (programs/batchmgr/database_identity.h has the format). */
#define HOME_MONGO_MARKS "state/mongo.marks"

/* The port a program of this home had last (state/<program>.port); 0: none. Ports are kept so that endpoints stay what
 * peers know. */
int home_kept_port(const struct home *h, const char *program);
int home_keep_port(const struct home *h, const char *program, int port, struct err *e);

/* 26 characters that sort by time (the ULID layout, lower case); those of one thread in the order in which they were made. */
#define ID_SIZE 27
void home_new_id(char out[ID_SIZE]);
bool home_valid_id(const char *id);
/* The least id that can have been made at that time or later: ids of before sort before it. */
void home_first_id(int64_t wall_ms, char out[ID_SIZE]);

/* The value of --home=X or --home X among the arguments, removing it; NULL when absent. */
const char *home_take_arg(int *argc, char **argv);

#endif
