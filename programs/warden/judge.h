/* Whether a run that the manager wants is one that the configuration has. What stands in its spec is planned anew from the
 * configuration (lib/manager/plan.h) and compared; a manager decides which of the apps runs when, on which of the files in work/,
 * with which JSON in the two files that it may add, and with which arguments where a person may give them (`app start`). */
#ifndef SIMBDP_WARDEN_JUDGE_H
#define SIMBDP_WARDEN_JUDGE_H

#include "conf/conf.h"
#include "host/home.h"
#include "host/isolation.h"
#include "run/spec.h"

struct judge;

/* Reads the configuration. streams: runs are instances of stream apps, else steps of batch apps. Borrows home. */
int judge_new(const struct home *h, const struct isolation_host *isolation, bool streams, struct judge **ret, struct err *e);
void judge_free(struct judge *j); /* NULL is fine */

/* Reads the configuration anew; one that is not valid leaves what is in force. That before it stays known, for runs that were
 * planned with it. */
void judge_reload(struct judge *j);
const struct conf *judge_conf(const struct judge *j);

/* 0, or why it is refused. Some 10 us; reads the configuration again, at most once a second, before it refuses. */
int judge_spec(struct judge *j, const struct run_spec *s, struct err *e);

/* Whether the URL leads only to where the tenant's (NULL: no tenant's own) or the platform's MongoDB is. */
int judge_mongo(struct judge *j, const char *tenant, const char *url, struct err *e);
/* The configuration has the tenant, and the uid is its own (-1 where there are none). */
int judge_tenant(struct judge *j, const char *tenant, int64_t uid, struct err *e);
/* An app of the tenant's has this image. */
bool judge_image(struct judge *j, const char *tenant, const char *image);

#endif
