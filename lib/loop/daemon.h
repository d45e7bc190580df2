/* What the platform's long-running programs have in common, on their libevent loop: they end on SIGTERM and SIGINT, and with
 * `mysimbdp up` when it supervises them (its end of their stdin closes then), and read their configuration again on SIGHUP. */
#ifndef SIMBDP_LOOP_DAEMON_H
#define SIMBDP_LOOP_DAEMON_H

#include <event2/event.h>
#include <stdbool.h>

struct daemon;

struct daemon_ops {
    const char *ending;             /* what else is said when it ends; NULL: nothing */
    void (*reload)(void *arg);      /* SIGHUP */
    void (*child_ended)(void *arg); /* SIGCHLD; NULL: it starts none */
    void *arg;
};

/* The first thing a program does: the log is `program`'s, a pipe that nobody reads is an error and no end, and as many descriptors
 * are allowed as the host gives. */
void daemon_prepare(const char *program);

/* Takes what all of them know from the command line: --home HOME (in *ret_home, as home_take_arg says); --help, which prints
 * `usage` and ends the program; --supervised. The last two only when nothing else is there. Returns whether it is supervised; what
 * is left is the caller's. */
bool daemon_take_args(int *argc, char **argv, const char *usage, const char **ret_home);

/* A loop that looks for other events after max_callbacks at the latest; 0: after all that are active, as libevent does. For
 * programs whose callbacks follow one another at once. */
struct event_base *daemon_loop(int max_callbacks);

/* supervised: by `mysimbdp up`. */
struct daemon *daemon_new(struct event_base *base, bool supervised, const struct daemon_ops *ops);
void daemon_free(struct daemon *d); /* NULL: nothing */

#endif
