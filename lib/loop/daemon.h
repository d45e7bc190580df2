/* What the platform's long-running programs have in common, on their libevent loop. They end on SIGTERM and SIGINT, and together
 * with `mysimbdp up` when it supervises them: their stdin is a pipe that `up` holds, and they see its end. They read their
 * configuration again on SIGHUP. */
#ifndef SIMBDP_LOOP_DAEMON_H
#define SIMBDP_LOOP_DAEMON_H

#include <event2/event.h>
#include <stdbool.h>

struct daemon;

struct daemon_ops {
    const char *ending;             /* added to the last line of the log; NULL: nothing */
    void (*reload)(void *arg);      /* SIGHUP */
    void (*child_ended)(void *arg); /* SIGCHLD; NULL: it starts none */
    void *arg;
};

/* To be called first: sets the log's program name, makes writes to a broken pipe an error instead of a signal, and raises the limit
 * of descriptors. */
void daemon_prepare(const char *program);

/* Takes what all programs know from the command line: --home HOME (in *ret_home, as home_take_arg says); --help, which prints
 * `usage` and ends the program; --supervised. The last two count only when nothing else is there. Returns whether the program is
 * supervised; what is left is the caller's. */
bool daemon_take_args(int *argc, char **argv, const char *usage, const char **ret_home);

/* Makes a loop that looks for new events after max_callbacks callbacks at the latest; 0: after all that are active, as libevent
 * does by default. For programs whose callbacks follow one another without a pause. */
struct event_base *daemon_loop(int max_callbacks);

/* supervised: by `mysimbdp up`. */
struct daemon *daemon_new(struct event_base *base, bool supervised, const struct daemon_ops *ops);
void daemon_free(struct daemon *d); /* NULL is fine */

#endif
