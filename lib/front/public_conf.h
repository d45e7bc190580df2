/* The part of the configuration that programs which tenants reach (broker, monitor) may see: streams, counts and names. Not in it:
 * addresses of databases, environment, secrets, commands. */
#ifndef SIMBDP_FRONT_PUBLIC_CONF_H
#define SIMBDP_FRONT_PUBLIC_CONF_H

#include "conf/conf.h"

#include "base/json.h"

/* Adds it to an object that is being written. */
void conf_tell(const struct conf *c, struct buf *out);

/* A configuration in which nothing else is set; platform.otlp.traces: whether traces are exported, to whom is not told. Free with
 * conf_free. */
int conf_told(const bson_t *doc, struct conf **ret, struct err *e);

#endif
