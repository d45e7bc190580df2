/* How a configuration comes into force while the platform runs: the programs read it again, all or nothing, and what they accepted
 * is kept (conf/history.h). One at a time in a home: each of these calls is made with the lock. */
#ifndef SIMBDP_CLI_ACCEPT_H
#define SIMBDP_CLI_ACCEPT_H

#include "cli.h"

enum { ACCEPT_WAIT_MS = 60000 };

/* Waits for others that change the configuration, at most wait_ms. Ends a rollback that was cut short, and says so. A descriptor,
 * to be closed; or negative. */
int accept_lock(const struct home *h, int wait_ms, struct err *e);

/* Has the running programs read the configuration again, and keeps it with who and what. 0, also where nothing runs, unless
 * must_run: then the error says so. Else the error is the reason of the program that refused; batchmgr is asked first, and when it
 * refuses nothing has changed. That it cannot be kept is a warning on stderr. */
int accept_reload(const struct home *h, const char *who, const char *what, bool must_run, struct err *e);

/* The same with the lock around it. */
int accept_change(const struct home *h, const char *who, const char *what, bool must_run, struct err *e);

/* Keeps the files as they are now, where they are known to be in force. */
void accept_note(const struct home *h, const char *who, const char *what);

#endif
