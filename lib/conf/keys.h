/* Every key of every file below conf/, one row each. Parsing, defaults, ranges and `mysimbdp check --keys` come from these rows. */
#ifndef SIMBDP_CONF_KEYS_H
#define SIMBDP_CONF_KEYS_H

#include "cfg.h"

/* They read into struct conf, struct conf and struct conf_tenant. */
extern const struct cfg_key conf_platform_keys[], conf_profiles_keys[], conf_tenant_keys[], conf_own_keys[];

#endif
