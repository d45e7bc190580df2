#include "verify_count.h"
#include "cli.h"

#include "base/fd.h"
#include "base/mem.h"
#include "base/spawn.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

#define PATH "state/databases.json"
enum { MAX_DATABASES_BYTES = 16 << 20, MAX_COUNTS_BYTES = 1 << 30, STARTING_TRIES = 100, STARTING_WAIT_MS = 100 };

struct counts {
    const struct home *home;
    bson_t *databases;
    struct map collections; /* "tenant/collection" -> struct counted * */
    int64_t not_compared;
};

/* *ret NULL: there is none. */
static int read_databases(const struct home *h, bson_t **ret, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    *ret = NULL;
    if (fd_is_gone(h->dirfd, PATH))
        return 0;
    int r = fd_read_file(h->dirfd, PATH, &b, MAX_DATABASES_BYTES, e);
    if (r == 0)
        *ret = json_parse(b.p, b.n, e);
    return r < 0 ? r : *ret ? 0 : ERR_FORMAT;
}

/* Whether batchmgr, which began just now, does not know yet of each tenant whether its database is there. */
static bool is_looking(const bson_t *databases)
{
    bson_iter_t it;
    bson_t one;
    bool looking = !databases;
    if (databases && bson_iter_init(&it, databases))
        while (!looking && bson_iter_next(&it))
            looking = json_iter_doc(&it, &one) && json_get_bool(&one, "looking", false);
    return looking;
}

int counts_new(const struct home *h, struct counts **ret, struct err *e)
{
    bson_t *doc = NULL;
    int r = read_databases(h, &doc, e);
    *ret = NULL;
    for (int i = 0; r == 0 && is_looking(doc) && i < STARTING_TRIES && cli_is_running(h); i++) {
        poll(NULL, 0, STARTING_WAIT_MS);
        bson_destroy(doc);
        r = read_databases(h, &doc, e);
    }
    if (r < 0 || !doc)
        return r;
    *ret = xcalloc(1, sizeof **ret);
    **ret = (struct counts){.home = h, .databases = doc};
    return 0;
}

void counts_free(struct counts *c)
{
    size_t i = 0, k;
    if (!c)
        return;
    for (struct counted *one; (one = map_next(&c->collections, &i)); free(one)) {
        k = 0;
        for (int64_t *n; (n = map_next(&one->rows, &k));)
            free(n);
        map_fini(&one->rows);
    }
    map_fini(&c->collections);
    bson_destroy(c->databases);
    free(c);
}

static void read_counts(struct counted *c, const char *p, const char **ret_why, struct buf *why)
{
    *ret_why = "it does not answer";
    for (const char *eol; (eol = strchr(p, '\n')); p = eol + 1) {
        AUTO_BSON bson_t *doc = json_parse(p, (size_t)(eol - p), NULL);
        const char *prefix = doc ? json_get_str(doc, "prefix", NULL) : NULL;
        if (prefix) {
            int64_t *n = xmalloc(sizeof *n);
            *n = json_get_i64(doc, "rows", 0);
            map_put(&c->rows, prefix, n);
        } else if (doc && json_get_bool(doc, "ok", false)) {
            c->total = json_get_i64(doc, "total", 0);
        } else if (doc) {
            buf_adds(why, json_get_str(doc, "error", "it does not answer"));
            *ret_why = why->p;
        }
    }
}

static void ask(struct counts *c, const struct conf_tenant *t, const char *collection, const char *tenant_url, struct counted *one,
                const char **ret_why, struct buf *why)
{
    AUTO_BUF struct buf out = {0};
    AUTO_FREE char *program = home_program(c->home, "simbdp-load");
    AUTO_FREE char *url = xasprintf("MONGO_URL=%s", tenant_url);
    char *argv[] = {program, "--count", t->database, (char *)collection, NULL};
    char *envp[] = {url, "MONGOC_DISABLE_SHM=1", NULL};
    buf_add(&out, "", 0);
    spawn_output(argv, envp, &out, MAX_COUNTS_BYTES, NULL, NULL);
    buf_add(&out, "", 1);
    read_counts(one, out.p, ret_why, why);
}

const struct counted *counts_of(struct counts *c, const struct conf_tenant *t, const char *collection)
{
    AUTO_FREE char *key = xasprintf("%s/%s", t->id, collection);
    AUTO_BUF struct buf error = {0};
    struct counted *one = map_get(&c->collections, key);
    bson_iter_t it;
    bson_t known;
    if (one)
        return one;
    map_put(&c->collections, key, one = xcalloc(1, sizeof *one));
    one->total = -1;
    const char *why = "its URL is not known: it never ran, or MongoDB has not answered since the start";
    if (bson_iter_init_find(&it, c->databases, t->id) && json_iter_doc(&it, &known) && json_get_str(&known, "url", NULL))
        ask(c, t, collection, json_get_str(&known, "url", ""), one, &why, &error);
    if (one->total < 0) {
        c->not_compared++;
        fprintf(stderr, "mysimbdp verify: the rows of %s/%s are not compared with the ledger: MongoDB: %s\n", t->id, collection,
                why);
    }
    return one;
}

int64_t counted_rows(const struct counted *c, const char *prefix)
{
    const int64_t *n = map_get(&c->rows, prefix);
    return n ? *n : 0;
}

int64_t counts_not_compared(const struct counts *c)
{
    return c->not_compared;
}
