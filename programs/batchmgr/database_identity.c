#include "database_identity.h"
#include "base/clk.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "load/mongo_codes.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum {
    MAX_BYTES = 16 << 20,
    LOOK_EVERY_MS = 30000,
    LOST_EVERY_MS = 1000, /* the database may be restored at any time */
    COUNT_EVERY_MS = 600000,
    TURN_MS = 1000,
};
enum { UNAUTHORIZED = 13, AUTHENTICATION_FAILED = 18, ATLAS_DENIES = 8000 };

struct ident {
    char *tenant, *where, *server, *url, *database;
    bool wanted, looked, told, alone;
    char id[ID_SIZE]; /* "": none was written */
    char
        draft[ID_SIZE]; /* of the document about to be written: the same after a lost answer, so that there is never a second one */
    int64_t n;
    char *lost;    /* NULL: it is not */
    char *unclear; /* why it could not be looked at the last time; NULL */
    int64_t due_ms, count_ms;
    struct ident *next;
};

struct identities {
    const struct home *home;
    pthread_mutex_t lock, file_lock; /* file_lock is taken first */
    struct ident *first;
    struct map wanted; /* tenant -> its struct ident; one at a time */
};

static struct ident *get(struct identities *x, const char *tenant, const char *where)
{
    for (struct ident *i = x->first; i; i = i->next)
        if (!strcmp(i->tenant, tenant) && !strcmp(i->where, where))
            return i;
    struct ident *i = xcalloc(1, sizeof *i);
    *i = (struct ident){.tenant = xstrdup(tenant), .where = xstrdup(where), .next = x->first};
    home_new_id(i->draft);
    return x->first = i;
}

/* ---- the file ---- */

static void load(struct identities *x)
{
    AUTO_BUF struct buf b = {0};
    struct err e = {0};
    bson_iter_t it;
    bson_t one;
    if (fd_read_file(x->home->dirfd, HOME_MONGO_MARKS, &b, MAX_BYTES, NULL) < 0)
        return;
    AUTO_BSON bson_t *doc = json_parse(b.p, b.n, &e);
    if (!doc || !json_get_iter(doc, "marks", &it)) {
        log_warn("database_marks", NULL, NULL,
                 HOME_MONGO_MARKS
                 " is damaged, and is made again: whether a MongoDB that is not the home's own is the one it had cannot be "
                 "told; `mysimbdp verify` compares rows");
        return;
    }
    while (json_next_doc(&it, &one)) {
        struct ident *i = get(x, json_get_str(&one, "tenant", ""), json_get_str(&one, "where", ""));
        const char *id = json_get_str(&one, "id", "");
        snprintf(i->id, sizeof i->id, "%s", home_valid_id(id) ? id : "");
        i->n = json_get_i64(&one, "n", 0);
        xstr_set(&i->lost, json_get_str(&one, "lost", NULL));
    }
}

static void save(struct identities *x)
{
    AUTO_BUF struct buf b = {0};
    struct err e = {0};
    pthread_mutex_lock(&x->file_lock);
    pthread_mutex_lock(&x->lock);
    json_begin(&b, NULL, '{');
    json_begin(&b, "marks", '[');
    for (const struct ident *i = x->first; i; i = i->next) {
        if (!*i->id)
            continue;
        json_begin(&b, NULL, '{');
        json_str(&b, "tenant", i->tenant);
        json_str(&b, "where", i->where);
        json_str(&b, "id", i->id);
        json_i64(&b, "n", i->n);
        json_str(&b, "lost", i->lost);
        json_end(&b, '}');
    }
    json_end(&b, ']');
    json_end(&b, '}');
    pthread_mutex_unlock(&x->lock);
    buf_adds(&b, "\n");
    if (fd_write_file(x->home->dirfd, HOME_MONGO_MARKS, b.p, b.n, 0600, &e) < 0)
        log_warn("database_marks", NULL, NULL, "%s", e.msg);
    pthread_mutex_unlock(&x->file_lock);
}

/* ---- the loop's ---- */

/* Hosts and database: what is left of a URL without who connects, and how. */
static char *where_of(const char *url, const char *database)
{
    AUTO_BUF struct buf b = {0};
    mongoc_uri_t *uri = mongoc_uri_new(url);
    const char *srv = uri ? mongoc_uri_get_srv_hostname(uri) : NULL;
    if (srv)
        buf_adds(&b, srv);
    for (const mongoc_host_list_t *h = uri && !srv ? mongoc_uri_get_hosts(uri) : NULL; h; h = h->next)
        buf_addf(&b, "%s%s", b.n ? "," : "", h->host_and_port);
    buf_addf(&b, "/%s", database);
    if (uri)
        mongoc_uri_destroy(uri);
    return xstrdup(b.p);
}

bool identities_want(struct identities *x, const struct identity_of *of)
{
    pthread_mutex_lock(&x->lock);
    struct ident *one = map_get(&x->wanted, of->tenant);
    if (one)
        one->alone |= of->alone;
    bool is_new =
        !one || strcmp(one->url, of->url) != 0 || strcmp(one->server, of->server) != 0 || strcmp(one->database, of->database) != 0;
    if (is_new) {
        AUTO_FREE char *where = where_of(of->url, of->database);
        if (one)
            one->wanted = false;
        one = get(x, of->tenant, where);
        one->wanted = true;
        one->alone = of->alone;
        one->looked = false;
        one->due_ms = one->count_ms = 0;
        xstr_set(&one->url, of->url);
        xstr_set(&one->server, of->server);
        xstr_set(&one->database, of->database);
        map_put(&x->wanted, of->tenant, one);
    }
    pthread_mutex_unlock(&x->lock);
    return is_new;
}

void identities_drop(struct identities *x, const char *tenant, bool forget)
{
    bool known = false;
    pthread_mutex_lock(&x->lock);
    struct ident *one = map_get(&x->wanted, tenant);
    if (one) {
        one->wanted = false;
        map_remove(&x->wanted, tenant);
    }
    for (struct ident *i = forget ? x->first : NULL; i; i = i->next) {
        if (strcmp(i->tenant, tenant) != 0)
            continue;
        known |= *i->id != 0;
        *i->id = 0;
        home_new_id(i->draft);
        i->n = 0;
        xstr_set(&i->lost, NULL);
    }
    pthread_mutex_unlock(&x->lock);
    if (known)
        save(x);
}

bool identities_accept(struct identities *x, const char *tenant)
{
    pthread_mutex_lock(&x->lock);
    struct ident *one = map_get(&x->wanted, tenant);
    bool lost = one && one->lost;
    if (lost) {
        *one->id = 0;
        home_new_id(one->draft);
        one->n = 0;
        one->looked = false;
        one->due_ms = one->count_ms = 0;
        xstr_set(&one->lost, NULL);
    }
    pthread_mutex_unlock(&x->lock);
    if (lost) {
        log_warn("database_accepted", tenant, NULL, "by command: its MongoDB is taken as it is");
        save(x);
    }
    return lost;
}

bool identities_are_looking(struct identities *x, const char *tenant)
{
    pthread_mutex_lock(&x->lock);
    const struct ident *i = map_get(&x->wanted, tenant);
    bool looking = i && !i->lost && !i->looked;
    pthread_mutex_unlock(&x->lock);
    return looking;
}

char *identities_why_not(struct identities *x, const char *tenant)
{
    char *why = NULL;
    pthread_mutex_lock(&x->lock);
    const struct ident *i = map_get(&x->wanted, tenant);
    if (i && i->lost)
        why = xstrdup(i->lost);
    else if (i && !i->looked)
        why = xasprintf("whether the MongoDB at %s is the one it had is being looked at%s%s", i->where, i->unclear ? ": " : "",
                        i->unclear ? i->unclear : "");
    pthread_mutex_unlock(&x->lock);
    return why;
}

/* ---- the thread's ---- */

struct look { /* a copy, for while the server is asked */
    struct ident *of;
    char *url, *database;
    char id[ID_SIZE], draft[ID_SIZE];
    int64_t n;
    bool count, alone;
};

/* What came of it: is_known says that the id is (or was made) the database's. */
enum seen { SEEN, MADE, DENIED, UNCLEAR, LOST_ALL, LOST_ANOTHER, LOST_OLDER };

/* The first document that the filter finds, n of it in *ret_n (0: none). TAKE filter. */
static bool find(mongoc_client_t *c, const char *database, bson_t *filter, int64_t *ret_n, bson_error_t *be)
{
    bson_t *cmd = BCON_NEW("find", BCON_UTF8(IDENTS_COLLECTION), "filter", BCON_DOCUMENT(filter), "limit", BCON_INT64(1),
                           "singleBatch", BCON_BOOL(true));
    bson_t reply, cursor, doc;
    bson_iter_t it;
    bool ok = mongoc_client_command_simple(c, database, cmd, NULL, &reply, be);
    *ret_n = 0;
    if (ok && bson_iter_init_find(&it, &reply, "cursor") && json_iter_doc(&it, &cursor) &&
        json_get_iter(&cursor, "firstBatch", &it) && json_next_doc(&it, &doc))
        *ret_n = json_get_i64(&doc, "n", 1);
    bson_destroy(&reply);
    bson_destroy(cmd);
    bson_destroy(filter);
    return ok;
}

static bool count_up(mongoc_client_t *c, const struct look *l, bool make, bson_error_t *be)
{
    bson_t *cmd = BCON_NEW("findAndModify", BCON_UTF8(IDENTS_COLLECTION), "query", "{", "_id", BCON_UTF8(l->id), "}", "update", "{",
                           "$inc", "{", "n", BCON_INT64(1), "}", "$setOnInsert", "{", "about",
                           BCON_UTF8("by this mysimbdp knows that the database is the one it had; do not remove it"), "}", "}",
                           "upsert", BCON_BOOL(make));
    bson_t reply;
    bool ok = mongoc_client_write_command_with_opts(c, l->database, cmd, NULL, &reply, be);
    bson_destroy(&reply);
    bson_destroy(cmd);
    return ok;
}

static bool is_denied(const bson_error_t *be)
{
    return (be->domain == MONGOC_ERROR_SERVER &&
            (be->code == UNAUTHORIZED || be->code == AUTHENTICATION_FAILED || be->code == ATLAS_DENIES)) ||
           (be->domain == MONGOC_ERROR_CLIENT && be->code == MONGOC_ERROR_CLIENT_AUTHENTICATE);
}

/* The server is going down or is no primary: a failure that passes, unlike missing rights. */
static bool passes(const bson_error_t *be)
{
    return mongo_passes(be->code) ||
           (!is_denied(be) && be->domain != MONGOC_ERROR_SERVER && be->domain != MONGOC_ERROR_WRITE_CONCERN);
}

static enum seen make_mark(mongoc_client_t *c, struct look *l, bson_error_t *be)
{
    memcpy(l->id, l->draft, sizeof l->id);
    l->n = 1;
    if (count_up(c, l, true, be))
        return MADE;
    *l->id = 0;
    return passes(be) ? UNCLEAR : DENIED;
}

static enum seen ask(mongoc_client_t *c, struct look *l, bson_error_t *be)
{
    int64_t n, any;
    if (!*l->id)
        return make_mark(c, l, be);
    if (!find(c, l->database, BCON_NEW("_id", BCON_UTF8(l->id)), &n, be) || (!n && !find(c, l->database, bson_new(), &any, be)))
        return is_denied(be) ? DENIED : UNCLEAR; /* the first load says what else is wrong with the user */
    if (!n)
        return any ? LOST_ANOTHER : LOST_ALL;
    if (n < l->n)
        return LOST_OLDER;
    l->n = n;
    bson_error_t none;
    if (l->count && count_up(c, l, false, &none)) /* a user who may only read: the id alone identifies the database */
        l->n++;
    return SEEN;
}

/* A home that had the tenant before, as it was then, finds that the database is not its own any more. */
static bool void_others(mongoc_client_t *c, const struct look *l)
{
    bson_t *cmd = BCON_NEW("delete", BCON_UTF8(IDENTS_COLLECTION), "deletes", "[", "{", "q", "{", "_id", "{", "$ne",
                           BCON_UTF8(l->id), "}", "}", "limit", BCON_INT32(0), "}", "]");
    bson_t reply;
    bson_error_t be;
    const bool ok = mongoc_client_write_command_with_opts(c, l->database, cmd, NULL, &reply, &be);
    bson_destroy(&reply);
    bson_destroy(cmd);
    return ok;
}

static char *say_lost(const struct ident *i, enum seen seen)
{
    static const char *const what[] = {"lost what it had, or is another one than this home had",
                                       "is another one than this home had", "is older than what this home had"};
    static const char *const event[] = {"database_emptied", "database_another", "database_older"};
    char *why = xasprintf(
        "its MongoDB at %s %s: point mongo_url back or restore it; or `mysimbdp verify --accept --tenant %s` to go on with it "
        "as it is (`mysimbdp verify` says which files' rows are gone)",
        i->where, what[seen - LOST_ALL], i->tenant);
    log_error(event[seen - LOST_ALL], i->tenant, NULL, "%s. Its loads wait", why);
    return why;
}

/* With the lock. True: the loop is to know. *ret_save: so is the file. */
static bool take(struct ident *i, const struct look *l, enum seen seen, const char *error, bool *ret_save)
{
    int64_t now = clk_now_ms();
    bool was = i->looked && !i->lost, was_lost = i->lost != NULL;
    i->due_ms = now + (seen >= LOST_ALL || seen == UNCLEAR ? LOST_EVERY_MS : LOOK_EVERY_MS);
    if (seen == UNCLEAR) {
        bool other = !i->looked && !i->lost && (!i->unclear || strcmp(i->unclear, error) != 0);
        xstr_set(&i->unclear, error);
        return other;
    }
    xstr_set(&i->unclear, NULL);
    if (seen >= LOST_ALL && (!i->lost || !i->looked)) {
        free(i->lost);
        i->lost = say_lost(i, seen);
        *ret_save = true;
    } else if (seen < LOST_ALL && i->lost) {
        xstr_set(&i->lost, NULL);
        log_info("database_again", i->tenant, NULL, "the MongoDB at %s is the one that this home had", i->where);
        *ret_save = true;
    }
    if (seen == DENIED && !i->told)
        log_warn(
            "database_unmarked", i->tenant, NULL,
            "the MongoDB at %s does not let the platform keep a mark in %s (%s): one that is emptied, or another one, will not "
            "be noticed there",
            i->where, IDENTS_COLLECTION, error);
    i->told |= seen == DENIED;
    if (seen == SEEN || seen == MADE) {
        *ret_save |= seen == MADE || l->n != i->n;
        snprintf(i->id, sizeof i->id, "%s", l->id);
        i->n = l->n;
        i->alone &= l->alone;
        if (l->count)
            i->count_ms = now + COUNT_EVERY_MS;
    }
    i->looked = true;
    return was != !i->lost || was_lost != (i->lost != NULL);
}

/* With the lock; the one that is due for longest. False: none is. */
static bool next_due(struct identities *x, const char *server, struct look *ret)
{
    int64_t now = clk_now_ms();
    struct ident *best = NULL;
    for (struct ident *i = x->first; i; i = i->next)
        if (i->wanted && !strcmp(i->server, server) && i->due_ms <= now && (!best || i->due_ms < best->due_ms))
            best = i;
    if (!best)
        return false;
    *ret = (struct look){.of = best,
                         .url = xstrdup(best->url),
                         .database = xstrdup(best->database),
                         .n = best->n,
                         .count = best->count_ms <= now,
                         .alone = best->alone};
    memcpy(ret->id, best->id, sizeof ret->id);
    memcpy(ret->draft, best->draft, sizeof ret->draft);
    return true;
}

static bool look_at(struct identities *x, struct look *l, mongoc_client_t *c, const char *server,
                    mongoc_client_t *(*connect)(const char *url))
{
    bson_error_t be = {0};
    bool changed = false, to_save = false;
    char before[ID_SIZE];
    memcpy(before, l->id, sizeof before);
    mongoc_client_t *own = strcmp(l->url, server) ? connect(l->url) : NULL;
    enum seen seen = UNCLEAR;
    if (strcmp(l->url, server) && !own)
        snprintf(be.message, sizeof be.message, "its URL is none");
    else
        seen = ask(own ? own : c, l, &be);
    if ((seen == SEEN || seen == MADE) && l->alone)
        l->alone = !void_others(own ? own : c, l);
    pthread_mutex_lock(&x->lock);
    /* If the loop changed it meanwhile, this answer is about the old state and is dropped. */
    if (l->of->wanted && !strcmp(l->of->url, l->url) && !strcmp(l->of->id, before))
        changed = take(l->of, l, seen, be.message, &to_save);
    pthread_mutex_unlock(&x->lock);
    if (own)
        mongoc_client_destroy(own);
    if (to_save)
        save(x);
    return changed;
}

bool identities_look(struct identities *x, const char *server, mongoc_client_t *c, mongoc_client_t *(*connect)(const char *url))
{
    int64_t until = clk_now_ms() + TURN_MS;
    bool changed = false;
    for (struct look l;;) {
        pthread_mutex_lock(&x->lock);
        bool any = next_due(x, server, &l);
        pthread_mutex_unlock(&x->lock);
        if (!any)
            return changed;
        changed |= look_at(x, &l, c, server, connect);
        free(l.url);
        free(l.database);
        if (clk_now_ms() >= until)
            return changed;
    }
}

void identities_down(struct identities *x, const char *server)
{
    pthread_mutex_lock(&x->lock);
    for (struct ident *i = x->first; i; i = i->next)
        if (i->wanted && !strcmp(i->server, server)) {
            i->looked = i->lost != NULL;
            i->due_ms = i->count_ms = 0;
        }
    pthread_mutex_unlock(&x->lock);
}

/* ---- */

struct identities *identities_new(const struct home *h)
{
    struct identities *x = xcalloc(1, sizeof *x);
    x->home = h;
    pthread_mutex_init(&x->lock, NULL);
    pthread_mutex_init(&x->file_lock, NULL);
    load(x);
    return x;
}

void identities_free(struct identities *x)
{
    if (!x)
        return;
    for (struct ident *i = x->first, *next; i; i = next) {
        next = i->next;
        free(i->tenant);
        free(i->where);
        free(i->server);
        free(i->url);
        free(i->database);
        free(i->lost);
        free(i->unclear);
        free(i);
    }
    map_fini(&x->wanted);
    pthread_mutex_destroy(&x->lock);
    pthread_mutex_destroy(&x->file_lock);
    free(x);
}
