/* The side of the sink that talks to MongoDB: a batch is one command, tried again while the server is away, for RETRY_MS. Rows that
 * are there already under their own _id were stored before: by a try whose answer was lost, or a run before this one. */
#include "mongo_codes.h"
#include "sink_parts.h"

#include "base/clk.h"
#include "base/crash.h"
#include "base/json.h"
#include "base/mem.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>

/* RETRY_MS: an election takes 12 s, as MongoDB's manual has it. */
enum { RETRY_MS = 20000, RETRY_PAUSE_MS = 200, OID_BYTES = 12, SHARD_KEY_NOT_FOUND = 61 };

/* --- errors --- */

int sink_error(const bson_error_t *be, const char *what, struct err *e)
{
    enum { UNAUTHORIZED = 13, AUTHENTICATION_FAILED = 18 };
    bool server = be->domain == MONGOC_ERROR_SERVER || be->domain == MONGOC_ERROR_QUERY || be->domain == MONGOC_ERROR_COMMAND ||
                  be->domain == MONGOC_ERROR_WRITE_CONCERN;
    int code = ERR_DATABASE;
    if (be->domain == MONGOC_ERROR_SERVER_SELECTION || be->domain == MONGOC_ERROR_STREAM || be->domain == MONGOC_ERROR_PROTOCOL)
        code = -ECONNREFUSED;
    else if (be->domain == MONGOC_ERROR_CLIENT)
        code = be->code == MONGOC_ERROR_CLIENT_AUTHENTICATE ? -EACCES : -ECONNREFUSED;
    else if (server && (be->code == UNAUTHORIZED || be->code == AUTHENTICATION_FAILED))
        code = -EACCES;
    else if (server && mongo_passes(be->code))
        code = -ECONNREFUSED;
    if (be->domain == MONGOC_ERROR_WRITE_CONCERN)
        code = -ECONNREFUSED;
    return err_set(e, code, "%s: %s", what, be->message);
}

/* An error that the reply itself tells of, and that is no row's: a write concern that was not met, what a router says of the
 * rows of a shard that it does not reach, or that it does not find the shard of rows that replace others: the filter has all of the
 * dataset's shard key, so the collection has another. */
static bool reply_error(const struct sink *s, const bson_t *reply, bson_error_t *be)
{
    bson_iter_t it;
    bson_t doc;
    if (bson_iter_init_find(&it, reply, "writeConcernError") && json_iter_doc(&it, &doc)) {
        bson_set_error(be, MONGOC_ERROR_WRITE_CONCERN, (uint32_t)json_get_i64(&doc, "code", 64), "%s",
                       json_get_str(&doc, "errmsg", "write concern not met"));
        return true;
    }
    if (json_get_iter(reply, "writeErrors", &it))
        while (json_next_doc(&it, &doc))
            if (mongo_passes(json_get_i64(&doc, "code", 0)) ||
                (s->o.replace && json_get_i64(&doc, "code", 0) == SHARD_KEY_NOT_FOUND)) {
                bson_set_error(be, MONGOC_ERROR_SERVER, (uint32_t)json_get_i64(&doc, "code", 0), "%s",
                               json_get_str(&doc, "errmsg", "refused by MongoDB"));
                return true;
            }
    return false;
}

/* A server that says less than that it stored, or refused, each row: what is not said is not so. Those that say no number are
 * believed. */
static bool lacks_rows(const struct batch *b, bson_error_t *be)
{
    int64_t n = json_get_i64(&b->reply, "n", -1), refused = 0;
    bson_iter_t it;
    bson_t doc;
    if (json_get_iter(&b->reply, "writeErrors", &it))
        while (json_next_doc(&it, &doc))
            refused++;
    if (n < 0 || n + refused >= (int64_t)b->n_rows)
        return false;
    bson_set_error(be, MONGOC_ERROR_WRITE_CONCERN, 1, "the server says that it stored %lld and refused %lld of %zu documents",
                   (long long)n, (long long)refused, b->n_rows);
    return true;
}

int sink_batch_error(const struct batch *b, const char *what, struct err *e)
{
    int code = sink_error(&b->error, what, e);
    if (b->error.domain == MONGOC_ERROR_SERVER && b->error.code == SHARD_KEY_NOT_FOUND)
        return err_set(
            e, ERR_CONFIG,
            "%s: the collection is sharded by another key than the dataset's `shard` says, so that rows cannot be replaced "
            "there (%s); sh.status() shows its key: put that into `shard`, or use another collection",
            what, b->error.message);
    return code == ERR_DATABASE && mongoc_error_has_label(&b->reply, "RetryableWriteError") ? -ECONNREFUSED : code;
}

/* --- workers --- */

static bool run_once(struct worker *w, struct batch *b)
{
    bson_t command;
    if (!bson_init_static(&command, (const uint8_t *)b->command.p, b->command.n)) {
        bson_init(&b->reply);
        bson_set_error(&b->error, MONGOC_ERROR_BSON, 1, "the command is damaged");
        return false;
    }
    bool ok = mongoc_client_write_command_with_opts(w->client, w->s->database, &command, NULL, &b->reply, &b->error);
    bson_iter_t it;
    if (!ok && bson_iter_init_find(&it, &b->reply, "writeErrors") && !bson_has_field(&b->reply, "writeConcernError"))
        ok = true; /* the rows' errors, not the command's */
    return ok && !reply_error(w->s, &b->reply, &b->error) && !lacks_rows(b, &b->error);
}

bool sink_is_id_conflict(const char *message)
{
    return strstr(message, "index: _id_") || strstr(message, "_id_ dup key");
}

static bool is_key_conflict(const bson_t *error)
{
    return json_get_i64(error, "code", 0) == 11000 && !sink_is_id_conflict(json_get_str(error, "errmsg", ""));
}

static void append_id(const struct sink *s, const struct batch *b, size_t row, const char *key, bson_t *ids)
{
    const uint8_t *id = (const uint8_t *)b->command.p + b->rows[row].doc_at;
    bson_oid_t oid;
    if (!s->o.fresh) {
        bson_append_binary(ids, key, -1, BSON_SUBTYPE_BINARY, id, SINK_ID_BYTES);
        return;
    }
    memcpy(oid.bytes, id, sizeof oid.bytes);
    bson_append_oid(ids, key, -1, &oid);
}

/* The bytes of a document's _id, if it is such as ours are. */
static const uint8_t *id_in(const struct sink *s, const bson_t *doc, size_t *ret_len)
{
    const uint8_t *id = NULL;
    uint32_t len = 0;
    bson_iter_t it;
    *ret_len = s->o.fresh ? OID_BYTES : SINK_ID_BYTES;
    if (!bson_iter_init_find(&it, doc, "_id"))
        return NULL;
    if (s->o.fresh)
        return BSON_ITER_HOLDS_OID(&it) ? bson_iter_oid(&it)->bytes : NULL;
    if (BSON_ITER_HOLDS_BINARY(&it))
        bson_iter_binary(&it, NULL, &len, &id);
    return len == SINK_ID_BYTES ? id : NULL;
}

/* A key that is there already may be this row's own, stored before a crash: servers tell of the index they meet first. On a thread
 * that no mem_try is on. */
static void find_ours(struct worker *w, struct batch *b)
{
    bson_iter_t it;
    bson_t ids = BSON_INITIALIZER, query = BSON_INITIALIZER, in, error;
    AUTO_FREE size_t *index = calloc(b->n_rows + 1, sizeof *index);
    size_t n = 0;
    free(b->ours);
    b->ours = calloc(b->n_rows + 1, sizeof *b->ours);
    if (!index || !b->ours) {
        b->failed = b->exhausted = true;
        return;
    }
    bson_append_document_begin(&query, "_id", 3, &in);
    if (json_get_iter(&b->reply, "writeErrors", &it))
        while (json_next_doc(&it, &error)) {
            char key[16];
            if (!is_key_conflict(&error))
                continue;
            int64_t i = json_get_i64(&error, "index", -1);
            if (i < 0 || (size_t)i >= b->n_rows || n == b->n_rows)
                continue;
            snprintf(key, sizeof key, "%zu", n);
            append_id(w->s, b, (size_t)i, key, &ids);
            index[n++] = (size_t)i;
        }
    bson_append_array(&in, "$in", 3, &ids);
    bson_append_document_end(&query, &in);
    if (n) {
        bson_t *opts = BCON_NEW("projection", "{", "_id", BCON_INT32(1), "}");
        mongoc_cursor_t *c = mongoc_collection_find_with_opts(w->collection, &query, opts, NULL);
        const bson_t *doc;
        bson_error_t be;
        while (mongoc_cursor_next(c, &doc)) {
            size_t len;
            const uint8_t *id = id_in(w->s, doc, &len);
            for (size_t k = 0; k < n && id; k++)
                if (!memcmp(id, b->command.p + b->rows[index[k]].doc_at, len))
                    b->ours[index[k]] = true;
        }
        if (mongoc_cursor_error(c, &be)) {
            b->failed = true;
            b->error = be;
        }
        mongoc_cursor_destroy(c);
        bson_destroy(opts);
    }
    bson_destroy(&ids);
    bson_destroy(&query);
}

static bool has_key_conflicts(const struct batch *b)
{
    bson_iter_t it;
    bson_t error;
    if (json_get_iter(&b->reply, "writeErrors", &it))
        while (json_next_doc(&it, &error))
            if (is_key_conflict(&error))
                return true;
    return false;
}

void sink_run_batch(struct worker *w, struct batch *b)
{
    int64_t until = clk_now_ms() + RETRY_MS;
    while (!run_once(w, b)) {
        if (sink_batch_error(b, "", NULL) != -ECONNREFUSED || clk_now_ms() >= until || w->s->quit) {
            b->failed = true;
            return;
        }
        bson_destroy(&b->reply);
        poll(NULL, 0, RETRY_PAUSE_MS);
    }
    if (has_key_conflicts(b))
        find_ours(w, b);
}

struct batch *sink_queued(struct sink *s)
{
    struct batch *first = NULL;
    for (size_t i = 0; i < s->n_batches; i++)
        if (s->batches[i].state == QUEUED && (!first || s->batches[i].number < first->number))
            first = &s->batches[i];
    return first;
}

static bool connect_worker(struct worker *w)
{
    struct sink *s = w->s;
    w->client = mongoc_client_new_from_uri(s->uri);
    if (!w->client)
        return false;
    mongoc_client_set_error_api(w->client, MONGOC_ERROR_API_VERSION_2);
    w->collection = mongoc_client_get_collection(w->client, s->database, s->collection_name);
    return true;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct sink *s = w->s;
    pthread_mutex_lock(&s->lock);
    while (!s->quit) {
        struct batch *b = sink_queued(s);
        if (!b) {
            pthread_cond_wait(&s->work, &s->lock);
            continue;
        }
        b->state = WORKING;
        pthread_mutex_unlock(&s->lock);
        sink_run_batch(w, b);
        pthread_mutex_lock(&s->lock);
        b->state = DONE;
        pthread_cond_broadcast(&s->done);
        if (s->wake_fd >= 0)
            eventfd_write(s->wake_fd, 1);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* One more worker, when all are busy. Where no thread can be had, the caller's own does the work. */
void sink_add_worker(struct sink *s)
{
    size_t busy = 0;
    for (size_t i = 0; i < s->n_batches; i++)
        busy += s->batches[i].state == QUEUED || s->batches[i].state == WORKING;
    if (s->n_workers >= s->max_workers || busy <= s->n_workers)
        return;
    struct worker *w = &s->workers[s->n_workers];
    w->s = s;
    if (s->n_workers == 0) { /* the connection that exists already */
        w->client = s->client;
        w->collection = s->collection;
    } else if (!connect_worker(w)) {
        return;
    }
    /* The app's signals are for the app's own threads. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = pthread_create(&w->thread, NULL, work, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r == 0) {
        s->n_workers++;
    } else if (s->n_workers > 0) {
        mongoc_collection_destroy(w->collection);
        mongoc_client_destroy(w->client);
    }
}
