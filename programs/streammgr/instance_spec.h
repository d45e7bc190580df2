/* What an instance is started with. */
#ifndef SIMBDP_STREAMMGR_INSTANCE_SPEC_H
#define SIMBDP_STREAMMGR_INSTANCE_SPEC_H

#include "model.h"

struct conf_stream_app;
struct conf_tenant;
struct run_spec;

/* The tenant's facts have to be known. Caller frees the fields (run_spec_free). */
void instance_spec_make(const struct instance *i, const struct conf_tenant *t, const struct conf_stream_app *c,
                        struct run_spec *ret);
/* A number that changes with configuration, arguments, executable or database: instances of another generation are replaced. 0: it
 * cannot be told yet. */
uint64_t instance_spec_generation(struct app *a);

#endif
