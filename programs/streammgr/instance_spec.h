/* What an instance is started with. */
#ifndef SIMBDP_STREAMMGR_INSTANCE_SPEC_H
#define SIMBDP_STREAMMGR_INSTANCE_SPEC_H

#include "model.h"

struct conf_stream_app;
struct conf_tenant;
struct run_spec;

/* Of an app whose tenant's facts are known. Caller frees the fields. */
void instance_spec_make(const struct instance *i, const struct conf_tenant *t, const struct conf_stream_app *c,
                        struct run_spec *ret);
/* Another number when configuration, arguments, executable or database are others: instances of another generation are replaced. 0:
 * not to be told yet. */
uint64_t instance_spec_generation(struct app *a);

#endif
