/* The contract of simbdp-run: the spec of one step of a run, the result of it, and the order channel to a live runner.
 * Both files are JSON objects with a version `v`; unknown keys are ignored, a newer version is refused.
 *
 * A run has one or two steps, each executed by a runner of its own: "app" or "check" (directory runs/<run_id>) and, where the
 * platform loads what the app put out, "load" (directory runs/<run_id>/load). */
#ifndef SIMBDP_RUN_SPEC_H
#define SIMBDP_RUN_SPEC_H

#include "base/buf.h"
#include "base/err.h"
#include "base/strs.h"
#include "host/cgroup_use.h"
#include "kinds.h"

#include <stdbool.h>
#include <stdint.h>

enum { RUNSPEC_VERSION = 1, RUNRESULT_VERSION = 1 };
enum { RUN_MAX_SPEC_BYTES = 8 << 20, RUN_MAX_RESULT_BYTES = 1 << 20, RUN_MAX_APP_RESULT_BYTES = 64 << 10 };

struct run_pair {
    char *name, *value;
};
struct run_pairs {
    struct run_pair *v;
    size_t n;
};
void run_pairs_add(struct run_pairs *l, const char *name, const char *value);
/* The value of the first of that name; NULL: there is none. */
const char *run_pairs_get(const struct run_pairs *l, const char *name);
/* Replaces it, or adds one. */
void run_pairs_set(struct run_pairs *l, const char *name, const char *value);

struct run_spec {
    char *run_id, *tenant, *app;
    enum run_step step;
    char *home, *dir; /* absolute; dir is made by the runner: the fence */
    char *runtime;    /* where <claim>.lock and <claim>.sock lie */
    char *claim;      /* <run_id> or <run_id>-load */
    char *tag;        /* of the home: names the cgroup */
    char *exec;       /* absolute path */
    char *version;    /* of the app (host/app_version.h); "": none is active */
    bool cluster;     /* on a node of a cluster: the manager may be on another machine */
    bool builtin;     /* a platform program: opened before the uid changes */
    struct strs args;
    struct run_pairs env;     /* the whole environment */
    struct run_pairs files;   /* name, content: written into dir, readable by the tenant */
    struct run_pairs secrets; /* name, path: copied to dir/secrets/, only the tenant's to read, gone when the step ends */
    int64_t uid, gid;         /* -1: as the runner */
    bool full_isolation;      /* namespaces and a view of its own (programs/runner/isolate.h) */
    /* What it sees of the home and beside the host's own: path, mode. r: read, w: write, x: execute, p: the provider's, which comes
     * before the home. */
    struct run_pairs paths;
    char *image;                           /* a directory that is the root, read-only; "": the host's; needs full_isolation */
    bool own_network;                      /* a network namespace, out of which only `targets` lead; needs full_isolation */
    struct run_pairs targets;              /* host, port */
    char *relay;                           /* the program that leads there */
    int64_t relay_uid;                     /* whose it is; -1: ours */
    int64_t tmp_bytes, tmp_inodes;         /* of /tmp, /var/tmp and /dev/shm together; -1: none */
    int64_t scratch_bytes, scratch_inodes; /* of the working directory; -1: none */
    bool scratch_in_memory;                /* a tmpfs of that size; needs full_isolation */
    char *stdin_path;                      /* "" is /dev/null */
    enum run_output output;
    int64_t wall_s, grace_s, output_bytes;
    int64_t cpu_s, as_bytes, nofile, nproc, fsize_bytes, core_bytes, stack_bytes; /* rlimits, -1: none */
    int64_t cg_cpu_pct, cg_memory_bytes, cg_pids;                                 /* cgroup, -1: none */
};

void run_spec_free(struct run_spec *s); /* fields only */
void run_spec_write(const struct run_spec *s, struct buf *out);
int run_spec_parse(const char *text, size_t n, struct run_spec *ret, struct err *e);
/* The name of a field in which the two differ, lists apart; NULL: in none. A string that is NULL is "". */
const char *run_spec_differs(const struct run_spec *a, const struct run_spec *b);

#define RUN_WAITED_UNKNOWN ((struct cgroup_waited){NAN, NAN, NAN, NAN}) /* <math.h> */
/* Adds what its processes waited for to an open object. */
void run_waited_write(const struct cgroup_waited *w, struct buf *out);

struct run_result {
    char *run_id, *node;
    enum run_step step;
    enum run_outcome outcome;
    int exit_code, signal;   /* -1: none */
    enum run_limit limit;    /* the one it met */
    char *error;             /* for people, or NULL */
    bool forced;             /* SIGKILL was needed */
    bool stopped;            /* a stop order ended it */
    bool not_started;        /* what the host did not give kept the app from being started: nothing of it ran. Outcome: lost */
    enum run_cause cause;    /* of a job of a cluster: what ended it, other than itself and its manager */
    int64_t network_refused; /* connections and datagrams that its network did not let out; -1: nobody counted */
    int64_t started_wall_ms, ended_wall_ms;
    double wall_s, cpu_s;
    struct cgroup_waited waited;
    int64_t max_rss_bytes, output_bytes, output_bytes_dropped;
    char *app_result; /* text of SIMBDP_RESULT_FILE as the app left it, or NULL */
};

void run_result_free(struct run_result *r); /* fields only */
void run_result_write(const struct run_result *r, struct buf *out);
int run_result_parse(const char *text, size_t n, struct run_result *ret, struct err *e);

/* What an app, libsimbdp or the loader says in SIMBDP_RESULT_FILE. Counts are -1 when absent. */
struct app_result {
    int64_t rows_parsed, rows_loaded, rows_rejected, rows_repaired, rows_added, bytes,
        checkpoint; /* rows_added: as in lib/load/result_file.h */
    char *error, *reason, *rejects_file;
};
void app_result_free(struct app_result *r);
int app_result_parse(const char *text, size_t n, struct app_result *ret, struct err *e);

/* Order channel: one byte each way. The runner says what it did; the manager orders. */
enum run_said {
    RUN_SAID_CLAIMED = 'c',
    RUN_SAID_STARTED = 's',
    RUN_SAID_ENDED = 'e',   /* result.json is there; acknowledge it */
    RUN_SAID_REFUSED = 'r', /* the fence stood already, or the spec was bad */
    RUN_SAID_NO_FORK = 'f', /* the process table is full; try again later */
    RUN_SAID_DENIED = 'd',  /* the warden does not let it be: nobody got the spec */
    /* Of a launcher that speaks for a runner elsewhere (programs/slurm/); a line of text follows. */
    RUN_SAID_CANNOT = 'x',  /* it cannot take the step, for that reason: nothing of it was begun; try again later */
    RUN_SAID_NODE = 'n',    /* the node on which it runs */
    RUN_SAID_WAITS = 'w',   /* what it waits for; empty: nothing any more */
    RUN_SAID_UNHEARD = 'u', /* it waits for its node, which may be off: until then RUN_ORDER_NODE_IS_OFF is taken */
};
enum { RUN_SAID_MAX_TEXT = 400 };
enum run_order {
    RUN_ORDER_STOP = 'S',
    RUN_ORDER_ACK = 'A',
    RUN_ORDER_NODE_IS_OFF = 'O', /* a person says so of the node that the run waits for */
};

/* In the directory of a step that runs on a cluster's node: who took the fence, "NODE JOB RESTARTS". Written by its runner before
 * anything of the tenant's is started. */
#define RUN_HOLDER "holder"

#endif
