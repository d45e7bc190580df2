/* A step that is a job, as the launcher has it: what it knows, what it does next, and what it says to the manager.
 *
 *   spec on disk -> sbatch -> id on disk -> the job's runner makes the fence and writes who it is -> result.json, renamed into
 * place
 *
 * What it is at is not kept beside that: each look asks the disk and Slurm, and job_next says what follows. So a launcher that is
 * started anew takes a job up from wherever another left it:
 *
 *   killed between spec and sbatch         Slurm knows no job of that name: fenced, not started
 *   killed between sbatch and id           the job is found by its name
 *   killed between fence and result        fenced, nobody holds it, Slurm knows of no job that goes on: not started
 *   job submitted twice, or requeued       the second finds the fence and ends; where it would go on elsewhere, it is cancelled
 *
 * A job that ended without a result is `lost` when the node that it ran on says that nothing of it is left there (a second job,
 * pinned to the node, which ends what it finds), or a person says that the node is off. What Slurm believes of a node that it does
 * not hear is no proof (tests/model/Runs.tla). */
#ifndef SIMBDP_SLURM_JOB_H
#define SIMBDP_SLURM_JOB_H

#include "command.h"
#include "job_files.h"

#include "base/map.h"

struct pilot;
struct pilot_pool;
struct pilots;

struct launcher {
    struct home home;
    struct event_base *base;
    struct commands *commands;
    struct map jobs; /* claim -> struct job */
    size_t n_starting;
    uint64_t n_jobs; /* so far */
    struct pilots *pilots;
    char *why; /* Slurm does not answer; NULL: it does */
};

struct job {
    struct launcher *l;
    struct run_spec spec;
    struct holder holder;
    struct job_facts facts;
    struct pilot_pool *pool;       /* the pilots that may take it; NULL: it is a job by itself */
    struct pilot *pilot;           /* that it was given to */
    uint64_t number;               /* in the order in which they came */
    char id[32], probe_id[32];     /* "": not known */
    char *options, *reason, *node; /* of sbatch, a line each; Slurm's for waiting; where it is listed */
    char *said_node, *said_waits;
    int conn;
    struct event *conn_ev;
    int64_t asked_ms; /* when it was submitted, or taken up: a listing of before says nothing of it */
    int64_t told_ms;  /* when its pilot was told of it last */
    int64_t left_ms;  /* since when its pilot has it no more */
    int64_t again_ms; /* not before that is a command tried again */
    int64_t probe_ms; /* when the node was asked last; 0: never */
    bool busy;        /* a command of it goes */
    bool starting;    /* that is sbatch, for the run itself */
    bool recalled;    /* Slurm's accounting was asked for it */
    bool unsure;      /* whether sbatch came through */
    bool seen[2];     /* in the listing that is gone through: it, and the job that asks its node */
    bool said_started, said_ended;
};

/* TAKES spec and conn. */
struct job *job_new(struct launcher *l, struct run_spec *spec, const char *options, int conn);
void job_free(struct job *j);
/* Looks at it and does what follows. */
void job_step(struct job *j);
/* Says that it ends before it began, unless it did begin. */
void job_refuse(struct job *j, const char *why);
/* Its pilot has it: what Slurm says of the pilot's job `id` is said of it. */
void job_given(struct job *j, const char *id);
/* Its pilot's line of a listing that was asked for at asked_ms. */
void job_pilot_listed(struct job *j, const struct slurm_line *line, int64_t asked_ms);
/* Of a listing that was asked for at asked_ms. */
void job_listed(struct job *j, const struct slurm_line *line, int64_t asked_ms);
/* Behind all lines of it. */
void job_after_listing(struct job *j, int64_t asked_ms);
/* "simbdp-<tag>-<claim>", which is its name in Slurm; that of a job that ends what is left has more behind it. */
char *job_name(const struct launcher *l, const char *claim);

#endif
