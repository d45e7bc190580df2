/* Checks that no single row of a table can make: names that must exist or be different, keys that exclude each other. Each error is
 * ERR_CONFIG and names file:line and key. */
#ifndef SIMBDP_CONF_CHECK_H
#define SIMBDP_CONF_CHECK_H

#include "conf.h"

/* Where all errors are to be told (conf_load_all), adds this one to the others and returns 0, so that reading goes on; else returns
 * r. */
int conf_collect(const struct conf *c, int r, struct err *e);

int conf_check_platform(const char *file, const struct conf *c, struct err *e);
int conf_check_profiles(const char *file, const struct conf *c, struct err *e);      /* after the platform's file was read */
int conf_check_slurm(const char *file, const struct conf_profile *p, struct err *e); /* of conf_check_profiles */
/* Of a stream app whose instances the platform starts; its profile is there. */
int conf_check_instances_place(const struct conf *c, const struct conf_tenant *t, const struct conf_stream_app *a, struct err *e);
int conf_check_launchers(const char *file, const struct conf *c, struct err *e); /* likewise */
int conf_check_shards(const char *file, const struct conf *c, struct err *e);    /* likewise */
int conf_check_kafka(const char *file, const struct conf *c, struct err *e);
/* Of a dataset whose collection is filled in: what the reader says of it, and other datasets of the same collection. */
int conf_check_spec(const struct conf_tenant *t, const struct conf_dataset *d, struct err *e);
/* To be called after both. Fills in what defaults to the tenant's id or the dataset's name. */
int conf_check_tenant(const struct conf *c, struct conf_tenant *t, struct err *e);

#endif
