/* `mysimbdp up` in its parts: up.c is its life from beginning to end; up_programs.c starts, reaps and asks the programs; up_stop.c
 * has the managers end their runs; up_upgrade.c starts the programs again one after the other. One thread, no loop but those of
 * up.c and up_stop.c. */
#ifndef SIMBDP_CLI_UP_PARTS_H
#define SIMBDP_CLI_UP_PARTS_H

#include "cli.h"
#include "mongo.h"

#include "conf/history.h"

enum {
    MAX_PROGRAMS = 8,
    FIRST_DELAY_MS = 100,
    MAX_DELAY_MS = 10000,
    TICK_MS = 50,
    TERM_WAIT_MS = 10000,
    N_DRAINS = 2,
    MAX_WAITERS = 16,
};

struct program {
    const char *name;
    char **argv;
    char *own_argv[5]; /* argv of our own programs points here: they read the configuration themselves */
    pid_t pid;         /* 0: not running */
    int leash;         /* write end of its stdin (its leash): the program ends when `up` is gone */
    int listener;      /* a descriptor that it gets as stdin; its leash is LEASH_FD then. -1: none */
    int64_t started_ms, restart_at_ms, delay_ms;
    int64_t started_wall_ms, ended_wall_ms, restarts;
    int status; /* of its last end */
};

struct up {
    struct home home;
    struct conf *conf;
    struct conf_texts texts; /* what the programs are started with, until they are ready */
    char *who;               /* started it */
    struct mongo_plan mongo;
    struct program programs[MAX_PROGRAMS];
    size_t n;
    int sigfd, listener;
    struct drain {
        const char *program;
        int fd; /* the connection on which a manager tells when no run is left; -1: it was not asked yet */
        bool wanted;
    } drains[N_DRAINS];
    pid_t warnings;      /* the checks for warnings; 0: not running */
    int64_t stopping_ms; /* since then */
    bool ready, stopping, leave_runs, failed;
    bool news;                /* of programs, which state/programs.json does not have yet */
    int waiters[MAX_WAITERS]; /* connections of those who asked for `down`, which are answered when it is done */
    size_t n_waiters;
    struct upgrade {
        int waiter;       /* the connection of who asked; -1: none is going on */
        size_t at;        /* the program whose turn it is */
        int64_t since_ms; /* when it was told to end; 0: it was not */
        int n_ends;       /* after that */
    } upgrade;
};

/* ---- up.c ---- */

/* Signals, ends of programs, the service manager: to be called between two waits of every loop. */
void up_attend(struct up *u);
/* Somebody connected to up.sock: `down`, or `upgrade`. */
void up_on_down(struct up *u);

/* ---- up_programs.c ---- */

/* A program that reads the home's configuration itself, and takes orders: not MongoDB. */
bool up_is_ours(const struct program *p);
void up_add_program(struct up *u, const char *name);
/* NULL: there is none of that name. */
struct program *up_program(struct up *u, const char *name);
/* What goes wrong is logged, and tried again later. */
void up_start(struct up *u, struct program *p);
/* Takes note of what ended, and says when it is to start again. */
void up_reap(struct up *u);
/* Ends it, with force after TERM_WAIT_MS; blocks for as long. */
void up_stop_program(struct up *u, struct program *p);
/* Waits until reaping has set *pid to 0, or for so long. */
void up_wait_for_end(struct up *u, const pid_t *pid, int64_t ms);
/* Writes state/programs.json if there is news. */
void up_tell_programs(struct up *u);
/* A connection to one of our programs, or -errno. Does not wait for a program that does not accept it. */
int up_connect(const struct up *u, const char *program);
/* Its answer, which the caller frees; NULL: there is none within a second. */
bson_t *up_status_of(const struct up *u, const char *program);
/* The desk has no orders that it takes from `up`: it answers tenants. */
bool up_is_listening(const struct up *u, const char *program);

/* ---- up_stop.c ---- */

void up_begin_stop(struct up *u);
/* Waits until no manager has a run, or up_end_drain says that nobody waits any more. */
void up_wait_for_drain(struct up *u);
void up_end_drain(struct up *u);

/* ---- up_upgrade.c ---- */

/* fd: the connection of who asked, which is this module's from here on; it is answered when the upgrade is over. */
void up_begin_upgrade(struct up *u, int fd);
/* Goes on with it; does not wait for programs. Only while one is going on (u->upgrade.waiter is no -1). */
void up_upgrade_step(struct up *u);
/* error NULL: it is done. */
void up_upgrade_end(struct up *u, const char *error);
bool up_is_being_upgraded(const struct up *u, const struct program *p);

#endif
