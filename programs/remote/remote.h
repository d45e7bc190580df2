/* What the verbs of the remote command line share. */
#ifndef SIMBDP_REMOTE_REMOTE_H
#define SIMBDP_REMOTE_REMOTE_H

#include "http.h"
#include "target.h"

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "host/home.h"
#include "term/column.h"

#include <stdbool.h>

enum { REMOTE_DONE = 0, REMOTE_FAILED = 1, REMOTE_USAGE = 2 };

/* What is left of a verb's command line: remote_opt and remote_flag take out what they find. */
struct remote {
    const char *verb, *usage;
    int argc;
    char **argv;    /* the positional arguments, once all options were taken; NULL-terminated */
    bool json, csv; /* --output json, or --json: an object a line; csv: tables follow table_set_style by themselves */
    struct target_options options;
    int64_t retry_for_ms; /* 0: the verb's own */
    struct target target; /* once it is open */
    struct http *http;
    char *account; /* of the token, as whoami says; NULL: not asked */
    char whole_id[ID_SIZE];
};

typedef int (*remote_verb)(struct remote *r);

/* How long questions, and what is sent, are tried again. */
enum { REMOTE_ASK_MS = 60000, REMOTE_SEND_MS = 900000 };

const char *remote_opt(struct remote *r, const char *name); /* the value of --name V or --name=V; NULL when absent */
bool remote_flag(struct remote *r, const char *name);
/* To be called after all options: complains about those that nobody took, and about the number of arguments. 0 or REMOTE_USAGE. */
int remote_args(struct remote *r, int min, int max);
int remote_usage(struct remote *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Prints "error: message", and what to do about it; gives REMOTE_FAILED, of ERR_USAGE REMOTE_USAGE. */
int remote_fail(const struct remote *r, const struct err *e);
/* The same with what it is about in front: "error: WHAT: message". */
int remote_fail_at(const struct remote *r, const char *what, const struct err *e);
/* A number of the range; 0 or REMOTE_USAGE. text NULL: *ret stays. */
int remote_number(struct remote *r, const char *option, const char *text, int64_t min, int64_t max, int64_t *ret);

/* Finds the gateway and the tenant. 0, or the exit code after a complaint. */
int remote_open(struct remote *r);
/* The same without a tenant, which a token may not have. */
int remote_open_account(struct remote *r);
void remote_close(struct remote *r);

/* A path of the tenant's: appends to b what is before the formatted rest, which is escaped already. */
void remote_path(const struct remote *r, struct buf *b, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* GETs a JSON object. 0: *ret is to be destroyed; or negative with what it was. */
int remote_get(struct remote *r, const char *path, bson_t **ret, struct err *e);
/* The same, complaining. NULL: it failed. */
bson_t *remote_ask(struct remote *r, const char *path);
/* POSTs nothing (or a JSON text), and likewise. Is not sent twice. */
bson_t *remote_order(struct remote *r, const char *method, const char *path, const char *json);
/* The same with an Idempotency-Key of its own: it is sent again where the answer was lost, and is done once. */
bson_t *remote_order_once(struct remote *r, const char *method, const char *path, const char *json);

/* Completes the beginning of an id (of a file; or of a run) that a table showed. 0, or REMOTE_FAILED after a complaint. */
int remote_whole_id(struct remote *r, bool run, const char **id);

int verb_agreement(struct remote *r);
int verb_app(struct remote *r);
int verb_apps(struct remote *r);
int verb_bill(struct remote *r);
int verb_configuration(struct remote *r);
int verb_configure(struct remote *r);
int verb_dead(struct remote *r);
int verb_delete(struct remote *r);
int verb_events(struct remote *r);
int verb_file(struct remote *r);
int verb_files(struct remote *r);
int verb_logs(struct remote *r);
int verb_profile(struct remote *r);
int verb_publish(struct remote *r);
int verb_queue(struct remote *r);
int verb_rejects(struct remote *r);
int verb_retry(struct remote *r);
int verb_run(struct remote *r);
int verb_runs(struct remote *r);
int verb_stop(struct remote *r);
int verb_tenant(struct remote *r);
int verb_upload(struct remote *r);
int verb_usage(struct remote *r);
int verb_whoami(struct remote *r);

#endif
