/* The environment of an app, a checker or a loader: all that depends on tenant, app and configuration. What names the files of a
 * run (SIMBDP_INPUT_DIR and its like) is added where they are chosen, in programs/batchmgr/run_plan.c.
 *
 * It is made from nothing. Managers make it, and their warden makes it again and compares (programs/warden/check_spec.c). The
 * configuration's `env` is added first. It may not name what is the platform's (SIMBDP_, MONGO_, ZMQ_, LD_), but may give PATH,
 * LANG, HOME and TMPDIR, which then are not the platform's. The order is part of an instance's generation
 * (programs/streammgr/instance_spec.c): another one replaces every instance. */
#ifndef SIMBDP_MANAGER_APP_ENV_H
#define SIMBDP_MANAGER_APP_ENV_H

#include "conf/conf.h"
#include "host/home.h"
#include "run/spec.h"

struct app_env_tenant {
    const char *id, *database, *mongo_url; /* mongo_url NULL: unknown */
};

void app_env_add(struct run_spec *s, const char *name, const char *value);
/* `env` of a profile or an app (a list of struct conf_env). What the app says replaces what its profile said. */
void app_env_add_configured(struct run_spec *s, const struct cfg_list *env);
/* What every run has: PATH, MONGO_URL, SIMBDP_RUN_ID ... s->dir, home and runtime are set. */
void app_env_add_common(struct run_spec *s, const struct app_env_tenant *t, const char *app, const char *run_id, int64_t attempt);
/* SIMBDP_APP_DIR: the directory of the executable that `exec` of the configuration names. Of a program of the platform's, and of
 * none
 * (""): apps/<tenant>. */
void app_env_add_app_dir(struct run_spec *s, const struct home *h, const char *exec);
/* TRACEPARENT and TRACESTATE: the span that the step's own spans are below, unless the configuration's `env` says another. state
 * "": there is none. */
void app_env_add_trace(struct run_spec *s, const char *parent, const char *state);
/* Of a batch app: ZMQ_STREAM_ENDPOINT, if its tenant has streams to publish to. The broker need not run for that. */
void app_env_add_publishing(struct run_spec *s, const struct conf_tenant *t);
/* Of a stream app: its stream and dataset, how messages are delivered, and what the agreement says of a message's rows. s->uid is
 * set. */
void app_env_add_stream(struct run_spec *s, const struct conf_tenant *t, const struct conf_stream_app *c);
/* Of a program of the platform's. */
void app_env_add_builtin(struct run_spec *s);

#endif
