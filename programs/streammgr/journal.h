/* Tells tenants of their instances: lines of logs/tenants/<tenant>/events.instances.jsonl (lib/host/tenant_events.h), written
 * behind the book's row. A crash between these two loses one. Each call blocks as a write does. */
#ifndef SIMBDP_STREAMMGR_JOURNAL_H
#define SIMBDP_STREAMMGR_JOURNAL_H

#include "model.h"

#include "run/spec.h"

void journal_started(const struct instance *i);
void journal_draining(const struct instance *i); /* why: i->stop */
void journal_ended(const struct instance *i, const struct run_result *res);

#endif
