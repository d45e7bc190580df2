/* Checks the spec of a run that a manager asks for against one rebuilt from the configuration (lib/manager/plan.h), and refuses any
 * difference that is not a manager's to make. A manager decides which of the apps runs when, on which of the files in work/, with
 * which JSON in the two files that it may add, and with which arguments where a person may give them (`app start`). */
#ifndef SIMBDP_WARDEN_CHECK_SPEC_H
#define SIMBDP_WARDEN_CHECK_SPEC_H

#include "conf/conf.h"
#include "host/home.h"
#include "host/isolation.h"
#include "run/spec.h"

struct check_spec;

/* Reads the configuration. streams: runs are instances of stream apps, else steps of batch apps. Borrows home. */
int check_spec_new(const struct home *h, const struct isolation_host *isolation, bool streams, struct check_spec **ret,
                   struct err *e);
void check_spec_free(struct check_spec *j); /* NULL is fine */

/* Reads the configuration anew; one that is not valid leaves what is in force. That before it stays known, for runs that were
 * planned with it. */
void check_spec_reload(struct check_spec *j);
const struct conf *check_spec_conf(const struct check_spec *j);

/* 0, or why it is refused. Some 10 us; reads the configuration again, at most once a second, before it refuses. */
int check_spec_spec(struct check_spec *j, const struct run_spec *s, struct err *e);

/* Whether the URL leads only to where the tenant's (NULL: no tenant's own) or the platform's MongoDB is. */
int check_spec_mongo(struct check_spec *j, const char *tenant, const char *url, struct err *e);
/* The configuration has the tenant, and the uid is its own (-1 where there are none). */
int check_spec_tenant(struct check_spec *j, const char *tenant, int64_t uid, struct err *e);
/* An app of the tenant's has this image. */
bool check_spec_image(struct check_spec *j, const char *tenant, const char *image);

#endif
