/* Fills in what the specs of all runs have in common, batch or stream; the environment is app_env.h. */
#ifndef SIMBDP_MANAGER_PLAN_H
#define SIMBDP_MANAGER_PLAN_H

#include "conf/conf.h"
#include "host/home.h"
#include "host/isolation.h"
#include "run/spec.h"

#include <sys/stat.h>

void plan_limits(struct run_spec *s, const struct conf_profile *p);
void plan_arg(struct run_spec *s, const char *arg);
/* A stream app's checker, where it has one: arguments of simbdp-load, and (once the isolation is planned) that it is to be seen. */
void plan_checker(struct run_spec *s, const struct home *h, const struct conf_stream_app *c);
void plan_checker_path(struct run_spec *s, const struct home *h, const struct conf_stream_app *c);
void plan_secrets(struct run_spec *s, const struct home *h, const char *tenant,
                  const struct cfg_list *secrets); /* struct conf_secret */
/* The platform's own program: what it needs beside an app, and what would harm it is left out. */
void plan_builtin(struct run_spec *s, const struct home *h);

/* Lets an isolated run see a path (mode as run_spec.paths has it); nothing else of the home is there. */
void plan_path(struct run_spec *s, const char *path, const char *mode);
/* Isolation as the profile wants it and the host gives it, the paths that every run has, and its network. Once exec, image and dir
 * are known. */
struct plan_host {
    const struct home *home;
    const struct isolation_host *isolation;
    int64_t uid_base;
};
void plan_isolation(struct run_spec *s, const struct plan_host *h, const struct conf_profile *p, const char *mongo_url);
/* The part of it that says what the run may reach (plan_network.c). s->full_isolation is set. */
void plan_network(struct run_spec *s, const struct plan_host *h, const struct conf_profile *p, const char *mongo_url);

/* Absolute path of what `exec` of the app's configuration names while that version of it is active. Caller frees. */
char *plan_exec(const struct home *h, const char *tenant, const char *app, const char *version, const char *exec);
/* The same for the version that is active now. */
char *plan_active_exec(const struct home *h, const char *tenant, const char *app, const char *exec);
/* Changes when what it describes does. */
int64_t plan_identity(const struct stat *st);
/* The same of the file at `path`; 0: there is none. */
int64_t plan_exec_identity(const char *path);

#endif
