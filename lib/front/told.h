/* What programs that tenants reach (broker, monitor) are told of the configuration: streams, counts and names; no address of a
 * database, no environment, no secret, no command. */
#ifndef SIMBDP_FRONT_TOLD_H
#define SIMBDP_FRONT_TOLD_H

#include "conf/conf.h"

#include "base/json.h"

/* Adds it to an object that is being written. */
void conf_tell(const struct conf *c, struct buf *out);

/* A configuration in which nothing else is set. Free with conf_free. */
int conf_told(const bson_t *doc, struct conf **ret, struct err *e);

#endif
