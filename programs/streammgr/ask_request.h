/* A request for an instance by hand (manual_instances.h): how much of it there may be, and who asks again.
 *
 * A client that did not hear the answer asks again by the same key, and is told the same instance, whatever became of it since. The
 * key is in the ask's transaction, so whoever is killed when: either neither is there, and nothing was started, or both are, and
 * the instance is started with the next streammgr if it was not. Keys are a tenant's, and kept for a day; of each tenant the
 * youngest ASK_KEYS_KEPT (instances_db.h). */
#ifndef SIMBDP_STREAMMGR_ASK_REQUEST_H
#define SIMBDP_STREAMMGR_ASK_REQUEST_H

#include "base/err.h"
#include "base/json.h"
#include "host/home.h"

struct app;
struct conf_stream_app;

enum { ASK_MAX_KEY = 255 /* bytes */ };

/* rq: `args` (there is such a field), and maybe `idempotency_key`. 0: ret_id is its instance, new or asked for before. Else
 * ERR_USAGE, or ERR_REFUSED: no_args; idempotency_key, where it was used for something else; rate; and those of ask_start. gateway:
 * a tenant asks. */
int ask_request(struct app *a, const struct conf_stream_app *c, bool gateway, const bson_t *rq, char ret_id[ID_SIZE],
                struct err *e);

#endif
