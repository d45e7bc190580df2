/* What no single row of a table can say: names that must be there or be different, keys that exclude each other. Each error is
 * ERR_CONFIG and names file:line and key. */
#ifndef SIMBDP_CONF_CHECK_H
#define SIMBDP_CONF_CHECK_H

#include "conf.h"

/* Whether what was found ends the reading: puts it to the others, where all are told (conf_load_all). r, or 0. */
int conf_collect(const struct conf *c, int r, struct err *e);

int conf_check_platform(const char *file, const struct conf *c, struct err *e);
int conf_check_profiles(const char *file, const struct conf *c, struct err *e); /* after the platform's file */
/* After both; fills in what is by default the tenant's id or the dataset's name. */
int conf_check_tenant(const struct conf *c, struct conf_tenant *t, struct err *e);

#endif
