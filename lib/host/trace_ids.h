/* The ids of a file's trace and of the spans in it (W3C Trace Context, base/trace_context.h). They are made of what the spans are
 * of: whoever looks at the same file or run finds the same ids, without asking anybody. Who uses it links libsodium. */
#ifndef SIMBDP_HOST_TRACE_IDS_H
#define SIMBDP_HOST_TRACE_IDS_H

#include "base/trace_context.h"

/* The span of the whole, a file or a run of several: below whose span (`kept`, base/trace_context.h; NULL: nobody's), and in that
 * one's trace, else in one of its own. */
void trace_of(const char *kept, const char *id, struct trace_context *ret);
/* A span in that trace: the step `name` of a run, or another thing that happened to the file `id`. */
void trace_of_step(const char *kept, const char *id, const char *name, const char *step_id, struct trace_context *ret);

#endif
