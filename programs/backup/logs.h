/* Logs of a home: the tenants' journals (logs/tenants), and the audit log. */
#ifndef SIMBDP_BACKUP_LOGS_H
#define SIMBDP_BACKUP_LOGS_H

#include "pieces/copy.h"

/* Puts all of them: each line that was whole before the call, once. Blocks; holds nobody up. */
int logs_copy(struct copying *k, struct err *e);

#endif
