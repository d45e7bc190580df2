/* What the verbs of the command line share. */
#ifndef SIMBDP_CLI_CLI_H
#define SIMBDP_CLI_CLI_H

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "conf/conf.h"
#include "host/home.h"

#include <stdbool.h>

enum { CLI_DONE = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

/* What is left of a verb's command line: cli_opt and cli_flag take out what they find. */
struct cli {
    const char *verb, *usage;
    const char *home_arg;
    int argc;
    char **argv; /* the positional arguments, once all options were taken; NULL-terminated */
    bool json;   /* --output json, or --json: an object a line */
    bool csv;    /* --output csv; tables follow table_set_style by themselves */
    char whole_id[ID_SIZE];
    char *desk; /* where a tenant asks, who may not read the home (desk.h); NULL: the home is read */
};

typedef int (*cli_verb)(struct cli *c);

/* Whether a program reads what is printed: all rows, and whole values. */
static inline bool cli_is_read_by_programs(const struct cli *c)
{
    return c->json || c->csv;
}

/* The value of --name V or --name=V; NULL when absent. */
const char *cli_opt(struct cli *c, const char *name);
bool cli_flag(struct cli *c, const char *name);
/* To be called after all options: complains about those that nobody took, and about the number of arguments. 0 or CLI_USAGE. */
int cli_args(struct cli *c, int min, int max);
int cli_usage(struct cli *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Prints "mysimbdp VERB: message" and gives CLI_FAILED. */
int cli_fail(struct cli *c, const struct err *e);

/* Complains about a home that cannot be opened; to a tenant it says whose the verb is. CLI_FAILED. */
int cli_fail_home(struct cli *c, const struct err *e);

/* Warns when tenants' uids cannot reach the home. */
void cli_warn_reach(const struct cli *c, const char *home);
/* Whether a `mysimbdp up` runs for the home: it would start a program that ended. */
bool cli_is_running(const struct home *h);
/* How long a program that `up` is starting is waited for (the longest delay of `up` before a start), and how often that is tried.
 */
enum { CLI_START_WAIT_MS = 10000, CLI_RETRY_MS = 20 };

int cli_home(struct cli *c, struct home *h);  /* 0, or CLI_FAILED after a complaint */
int cli_enter(struct cli *c, struct home *h); /* the same, with home_enter */

/* Sends one request to a program of the home over its control socket. *ret is the answer, when that is ok; the caller destroys it.
 * Waits up to ten seconds for a program that `mysimbdp up` is starting; cli_request_now does not. */
int cli_request(const struct home *h, const char *socket_name, const char *request, bson_t **ret, struct err *e);
int cli_request_now(const struct home *h, const char *socket_name, const char *request, bson_t **ret, struct err *e);
/* A verb that is one request: opens the home, asks, complains. The answer goes to `print` (NULL: nothing is printed). */
int cli_order(struct cli *c, const char *socket_name, const char *request, void (*print)(const bson_t *answer));
/* Tells a program that runs or is being started. One that does not run learns it when it starts. */
int cli_tell(const struct home *h, const char *socket_name, const char *op, const char *tenant, struct err *e);
/* The same to all programs except batchmgr, which is asked before them because it may refuse. */
int cli_tell_others(const struct home *h, const char *op, struct err *e);
int cli_tell_all(const struct home *h, const char *op, struct err *e); /* batchmgr first */
bool cli_has_gateway(const struct home *h);                            /* a home without platform.http has none */
/* conf_load, which prints all errors, a line each. *ret is freed with conf_free. 0, or CLI_FAILED after a complaint. */
int cli_conf(struct cli *c, const struct home *h, struct conf **ret);

/* Requests on a connection that is kept. As above, but cli_connect does not wait. */
int cli_connect(const struct home *h, const char *socket_name, struct err *e);
int cli_connect_wait(const struct home *h, const char *socket_name, struct err *e);
int cli_exchange(int fd, const char *request, bson_t **ret, struct err *e);
/* The same of what takes long: `tick` is called a few times a second until the answer is there. NULL: it is not. */
int cli_exchange_long(int fd, const char *request, void (*tick)(void *arg), void *arg, bson_t **ret, struct err *e);

int verb_advise(struct cli *c);
int verb_alerts(struct cli *c);
int verb_app(struct cli *c);
int verb_audit(struct cli *c);
int verb_backup(struct cli *c);
int verb_cells(struct cli *c);
int verb_check(struct cli *c);
int verb_completion(struct cli *c);
int verb_dead(struct cli *c);
int verb_describe(struct cli *c);
int verb_doctor(struct cli *c);
int verb_down(struct cli *c);
int verb_upgrade(struct cli *c);
int verb_events(struct cli *c);
int verb_explain(struct cli *c);
int verb_files(struct cli *c);
int verb_history(struct cli *c);
int verb_init(struct cli *c);
int verb_logs(struct cli *c);
int verb_mongo(struct cli *c);
int verb_preview(struct cli *c);
int verb_publish(struct cli *c);
int verb_queue(struct cli *c);
int verb_rejects(struct cli *c);
int verb_verify(struct cli *c);
int verb_clock(struct cli *c);
int verb_reload(struct cli *c);
int verb_restore(struct cli *c);
int verb_restored(struct cli *c);
int verb_retry(struct cli *c);
int verb_run(struct cli *c);
int verb_runs(struct cli *c);
int verb_stats(struct cli *c);
int verb_status(struct cli *c);
int verb_terms(struct cli *c); /* agreement, usage, bill, which the desk has for tenants */
int verb_stop(struct cli *c);
int verb_tenant(struct cli *c);
int verb_token(struct cli *c);
int verb_top(struct cli *c);
int verb_up(struct cli *c);
int verb_upload(struct cli *c);
int verb_user(struct cli *c);

#endif
