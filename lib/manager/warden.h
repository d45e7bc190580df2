/* The warden of a manager: a process of root's (or of whoever runs the home) that starts programs for it. The manager may
 * have been taken over by an attacker, so nothing that it asks is taken at its word: a run is what the configuration says, which
 * the warden reads by itself, or it is refused (programs/warden/check_spec.h); of the platform's programs the manager names the
 * kind, and neither uid nor path.
 *
 * Requests are packets (SOCK_SEQPACKET), without answers on that socket:
 *   RUN      a spec (a file), and the runner's end of the order channel, which gets RUN_SAID_DENIED when it is refused
 *            Where its profile's launcher is slurm, it becomes a job of the cluster (programs/slurm/)
 *   ATTACH   the channel to the job of the step `text` (its claim), which an earlier manager started
 *   RELOAD   the configuration may have changed
 *   END      number 1: what is left of the step `text` (its claim) is killed; its cgroup goes when it is empty. Answer: a byte,
 *            'y' when nothing is left, 'n'
 *   APPS     there is an apps/ of the tenant's, whose uid is `number`
 *   WHOSE    the instance that process `number` is of, by its environment. Answer: its id, or an empty packet
 * and those that start a program of the platform's as a job:
 *   INSPECT  a socket: an inspector
 *   DELETE   a file with a job for simbdp-load; text: the tenant's MongoDB
 *   IMAGE    a pipe for the answer; text: `image` of an app of the tenant's
 *   SWEEP    images that nobody uses go
 *   FORGET   what a removed tenant has in apps/, keys/ and state/images/ goes, or with number 1 its configuration
 * An answer is sent to the socket that came with the request. A job's socket is its leash: it gets the wait status, an int, or
 * -errno when there is no process, and is closed; a byte in the other direction is an order; when the manager closes it, the
 * process is killed. Both end when the other does. */
#ifndef SIMBDP_MANAGER_WARDEN_H
#define SIMBDP_MANAGER_WARDEN_H

#include <stdint.h>

enum { WARDEN_MAX_TEXT = 64 << 10 };

enum warden_op {
    WARDEN_RUN,
    WARDEN_RELOAD,
    WARDEN_END,
    WARDEN_WHOSE,
    WARDEN_INSPECT,
    WARDEN_DELETE,
    WARDEN_IMAGE,
    WARDEN_SWEEP,
    WARDEN_FORGET,
    WARDEN_APPS,
    WARDEN_ATTACH,
};

/* HOME/state/jobs/<claim>.json: the spec of a step that is a job of the cluster. Root's, and there until its end is acknowledged.
 */
#define WARDEN_JOBS "state/jobs"

/* Among the options of sbatch that its launcher gets for a step, a line that begins so: the step is for a pilot of those options,
 * and what follows is "PROFILE NODES RUNS IDLE_S NEEDS_S TIME_S ADDRESS PORT" (conf_pilot, platform.slurm). */
#define WARDEN_PILOT "pilot="

/* The text follows. */
struct warden_request {
    uint32_t op;
    int64_t number;
    char tenant[64];
};

enum warden_order {
    WARDEN_STEP_BACK = 'b', /* runs with a lower priority */
    WARDEN_GO_ON = 'g',     /* and with the usual one */
};

#endif
