/* What the provider's page shows beside what the programs say of themselves: tenants' shares and bills, what runs use, disks, how
 * the programs are. A thread reads it, when somebody asks: what is cheap at most once a second, what costs the rows of a month at
 * most a tenth of the time. Who asks has what is there, a second old while somebody asks each second. */
#ifndef SIMBDP_KEEPER_MACHINE_H
#define SIMBDP_KEEPER_MACHINE_H

#include "base/buf.h"
#include "conf/conf.h"
#include "host/home.h"

struct machine;

struct machine *machine_new(const struct home *h); /* h is borrowed */
void machine_free(struct machine *m);              /* waits for the thread; NULL is fine */

/* Adds it as a JSON object (docs/openapi.yaml, Machine), or null where there is nothing yet. c NULL: the configuration is not
 * known. Where what is there is some seconds old, waits for what is new: wait_ms at most. */
void machine_write(struct machine *m, const struct conf *c, int wait_ms, struct buf *out);

#endif
