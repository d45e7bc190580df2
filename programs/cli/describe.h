/* What the kinds of things have in common that `mysimbdp describe` knows. A function that describes one adds members to `out`,
 * which is an object that is open, and reasons to `why`. */
#ifndef SIMBDP_CLI_DESCRIBE_H
#define SIMBDP_CLI_DESCRIBE_H

#include "cli.h"

#include "query/query.h"

#include <sqlite3.h>

struct thing {
    struct cli *c;
    const struct home *h;
    sqlite3 *db;             /* the ledger */
    struct queries *q;       /* the same */
    const struct conf *conf; /* NULL: it has errors */
    char *tenant, *id;       /* id: of a file or run, or an app's name */
    bson_t *platform;        /* batchmgr's status with this tenant alone; NULL: it does not run */
    struct buf out, why;
};

/* Adds a reason why it is not further: a sentence. */
void describe_why(struct thing *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* What the tenant's files wait for now, whatever they are: the platform is down, the tenant suspended, the database away. turn:
 * they are the scheduler's, whose reason is told, too. */
void describe_why_tenant(struct thing *t, bool turn);
/* Asks a question of lib/query. The caller frees with bson_destroy; NULL: there is no such thing. `add`: its members are added. */
bson_t *describe_query(struct thing *t, const char *question, const char *params, bool add);
/* Adds a member: the first of the objects in `array` of a program's answer whose `app` is the thing's, without those members that
 * say which app it is. *ret is a view of it. False: the program does not run, or there is none. */
bool describe_row(struct thing *t, const char *key, const bson_t *answer, const char *array, bson_t *ret);

void describe_file(struct thing *t);
void describe_run(struct thing *t);
void describe_batch_app(struct thing *t, const struct conf_tenant *tenant, const struct conf_batch *app);
void describe_stream_app(struct thing *t, const struct conf_tenant *tenant, const struct conf_stream_app *app);

#endif
