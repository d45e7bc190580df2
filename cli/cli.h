/* What the verbs of the command line share. */
#ifndef SIMBDP_CLI_H
#define SIMBDP_CLI_H

#include "common/buf.h"
#include "common/conf/conf.h"
#include "common/err.h"
#include "common/home.h"
#include "common/json.h"

#include <sqlite3.h>
#include <stdbool.h>

enum { CLI_DONE = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

/* The rest of the command line of one verb; cli_opt and cli_flag take out what they find. */
struct cli {
    const char *verb, *usage;
    const char *home_arg;
    int argc;
    char **argv; /* positional arguments once all options are taken; NULL-terminated */
    bool json;
    char whole_id[ID_SIZE];
};

#define ID_GAP ".." /* of an id whose middle is left out */

typedef int (*cli_verb)(struct cli *c);

/* The value of --name V or --name=V; NULL when absent. */
const char *cli_opt(struct cli *c, const char *name);
bool cli_flag(struct cli *c, const char *name);
/* After all options: complains about unknown ones and about the number of arguments. 0 or CLI_USAGE. */
int cli_args(struct cli *c, int min, int max);
int cli_usage(struct cli *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Prints "mysimbdp VERB: message" and gives CLI_FAILED. */
int cli_fail(struct cli *c, const struct err *e);

/* Warns of a home that uids of tenants cannot walk down to. */
void cli_warn_reach(const struct cli *c, const char *home);
/* Whether there is a `mysimbdp up`, which starts a program that ended. */
bool cli_is_running(const struct home *h);

int cli_home(struct cli *c, struct home *h);  /* 0 or CLI_FAILED, complained */
int cli_enter(struct cli *c, struct home *h); /* the same with home_enter */

/* One request to a program of the home over its socket. *ret is the answer (caller destroys) when it was ok. Waits up to ten
 * seconds for a program that `mysimbdp up` is starting; cli_request_now does not. */
int cli_request(const struct home *h, const char *socket_name, const char *request, bson_t **ret, struct err *e);
int cli_request_now(const struct home *h, const char *socket_name, const char *request, bson_t **ret, struct err *e);
/* A whole verb that is one request: opens the home, asks, complains. `print` (NULL: nothing) gets the answer. */
int cli_order(struct cli *c, const char *socket_name, const char *request, void (*print)(const bson_t *answer));
/* Tells a program that runs or is being started; one that does not run learns it when it starts. */
int cli_tell(const struct home *h, const char *socket_name, const char *op, const char *tenant, struct err *e);
/* The same to all programs but batchmgr, which is asked first because it can refuse. */
int cli_tell_others(const struct home *h, const char *op, struct err *e);
/* conf_load; all errors there are are printed, a line each. *ret is freed with conf_free. 0 or CLI_FAILED, complained. */
int cli_conf(struct cli *c, const struct home *h, struct conf **ret);

/* A request on a connection that is kept. As above: cli_connect does not wait. */
int cli_connect(const struct home *h, const char *socket_name, struct err *e);
int cli_connect_wait(const struct home *h, const char *socket_name, struct err *e);
int cli_exchange(int fd, const char *request, bson_t **ret, struct err *e);

/* The ledger, for reading, with the instances of stream apps beside it (streams.instances). NULL with CLI_FAILED complained; a home
 * that never ran has no ledger and *ret_none. */
sqlite3 *cli_ledger(struct cli *c, const struct home *h, bool *ret_none);

/* A table shows ids as short as they can be told apart, so the beginning of one, or BEGINNING..END, is as good as all of it, if it
 * is that of one only. *id (not NULL) becomes the whole one, which is kept in `c`; it stays as it is where there is none, or no
 * ledger. 0, or CLI_FAILED with a complaint. */
int cli_whole_id(struct cli *c, const struct home *h, bool run, const char **id);

/* Whether the ledger (NULL: there is none) or the configuration knows it; complained. The second opens the ledger by itself, and
 * takes NULL for no tenant, which is right. */
bool cli_is_tenant(struct cli *c, const struct home *h, sqlite3 *db, const char *tenant);
bool cli_knows_tenant(struct cli *c, const struct home *h, const char *tenant);

/* A listing: the same rows as JSON objects or as an aligned table. */
enum col_kind { COL_TEXT, COL_ID, COL_LONG, COL_COUNT, COL_NUMBER, COL_TIME, COL_BOOL, COL_JSON, COL_WORDS };
struct col {
    const char *name;
    enum col_kind kind; /* COL_COUNT: negative is null; COL_TIME: milliseconds, 0 is null; COL_ID, COL_LONG: text of which a table
                           may show the beginning; COL_WORDS: as COL_LONG, and in no JSON */
    int rank;           /* 0: in JSON only. Else in tables; a terminal that is too narrow leaves out the highest first, 1 never */
};
/* Column i of the statement is cols[i]. Returns the number of rows. */
int cli_list(struct cli *c, sqlite3_stmt *s, const struct col *cols, size_t n_cols);

/* The same of what a program knows, ordered by the first three columns. CLI_DONE or CLI_FAILED, complained. */
struct cli_source {
    const char *socket_name, *request, *key; /* key: of the array in its answer */
    char *const *offline;                    /* while it does not run: a program and its arguments that print the array */
    const char *what;                        /* what it lists, for an empty one */
};
int cli_list_program(struct cli *c, const struct home *h, const struct cli_source *from, const struct col *cols, size_t n_cols);

/* A whole listing verb: a positional id, options that filter, --since, --limit; newest last. The statement is put together of
 * what was asked for only, so that an index serves it: a listing costs what it shows, not what the ledger holds. */
struct listing {
    const char *select;     /* SELECT ... FROM ... */
    const char *id, *since; /* columns */
    struct {
        const char *option, *condition; /* condition: with ? for the option's value */
    } filters[3];
    const char *const *states;                                   /* what --state may be; ends with NULL */
    const char *what;                                            /* what it lists, for an empty one */
    const char *(*extra)(const char *option, const char *value); /* a condition that is true then and names an index, or NULL */
};
int cli_listing(struct cli *c, const struct listing *l, const struct col *cols, size_t n_cols);

/* A stamp of "2026-01-31", "2026-01-31T12:00:00Z" or "15m", "2h", "7d" ago. */
int cli_since(const char *text, int64_t *ret_wall_ms);

int verb_advise(struct cli *c);
int verb_app(struct cli *c);
int verb_check(struct cli *c);
int verb_dead(struct cli *c);
int verb_doctor(struct cli *c);
int verb_down(struct cli *c);
int verb_files(struct cli *c);
int verb_init(struct cli *c);
int verb_logs(struct cli *c);
int verb_preview(struct cli *c);
int verb_publish(struct cli *c);
int verb_queue(struct cli *c);
int verb_rejects(struct cli *c);
int verb_verify(struct cli *c);
int verb_clock(struct cli *c);
int verb_reload(struct cli *c);
int verb_restored(struct cli *c);
int verb_retry(struct cli *c);
int verb_run(struct cli *c);
int verb_runs(struct cli *c);
int verb_stats(struct cli *c);
int verb_status(struct cli *c);
int verb_stop(struct cli *c);
int verb_tenant(struct cli *c);
int verb_top(struct cli *c);
int verb_up(struct cli *c);
int verb_upload(struct cli *c);

#endif
