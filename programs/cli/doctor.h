/* What the parts of `mysimbdp doctor` share. Each part prints a line for everything that it tried. */
#ifndef SIMBDP_CLI_DOCTOR_H
#define SIMBDP_CLI_DOCTOR_H

#include "cli.h"

#include "host/cgroup.h"
#include "host/isolation.h"
#include "host/userns.h"

#include <sqlite3.h>

struct doctor {
    struct cli *c;
    struct home h;
    struct conf *conf;
    struct cgroup_host cg;
    struct isolation_host isolation;
    struct userns_map map; /* when the home has a user namespace: the ids mapped in it */
    bool has_map;
    sqlite3 *db;
    int n_bad;
    bool warns; /* quiet: only what is bad is printed, as warnings of `up` */
};

/* status: ok | enforced | emulated | unlimited | absent | failed | unknown. `absent` and `failed` are bad. remedy NULL: none is
 * needed. */
void doctor_say(struct doctor *d, const char *area, const char *subject, const char *status, const char *reason,
                const char *remedy);

/* Every limit of every profile: doctor_limits.c. */
void doctor_limits(struct doctor *d);
/* The tenants' uids, and whether they reach what their apps need: doctor_tenants.c. */
void doctor_tenants(struct doctor *d);
/* Where platform.launcher is slurm: whether it gives what jobs need, on each of its nodes: doctor_slurm.c. */
void doctor_slurm(struct doctor *d);
/* Where streams are kept in Kafka: doctor_kafka.c. */
void doctor_kafka(struct doctor *d);

#endif
