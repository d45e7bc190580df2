/* Silences of alerts: of whom nobody is told for a while (programs/keeper/alert_calls.h). `mysimbdp alerts` writes them, the
 * monitor's keeper reads them. state/silences.json: {"silences":[{id,tenant_id,app,alert,until,made_at,by,why}]}; one that names
 * nothing of tenant_id, app and alert matches any. Those that are over are left out when it is written again. */
#ifndef SIMBDP_HOST_SILENCES_H
#define SIMBDP_HOST_SILENCES_H

#include "home.h"

#include <stddef.h>
#include <stdint.h>

enum { SILENCES_MOST = 1000 };

struct silence {
    char *id, *tenant, *app, *alert; /* "": any */
    char *by, *why;
    int64_t until_wall_ms, made_wall_ms;
};

/* Those that are not over at wall_ms; none when there is no file. Freed with silences_free. */
int silences_read(const struct home *h, int64_t wall_ms, struct silence **ret, size_t *ret_n, struct err *e);
void silences_free(struct silence *v, size_t n);
/* The first that matches, or NULL. */
const struct silence *silences_find(const struct silence *v, size_t n, const char *tenant, const char *app, const char *alert);

/* Adds one (its strings stay the caller's; its id is made: freed by the caller), or takes one out. Waits for another that does so.
 * ERR_LIMIT: there are SILENCES_MOST; -ENOENT: there is none of that id, or it is over. */
int silences_add(const struct home *h, int64_t wall_ms, struct silence *s, struct err *e);
int silences_remove(const struct home *h, int64_t wall_ms, const char *id, struct err *e);

#endif
