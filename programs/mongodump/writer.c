#include "writer.h"
#include "server.h"
#include "table.h"

#include "base/crash.h"
#include "base/json.h"
#include "base/le.h"
#include "base/mem.h"

#include <string.h>

enum { BATCH_BYTES = 1 << 20, BATCH_DOCUMENTS = 10000, DUPLICATE_KEY = 11000, MAX_REFUSED = 100 };

void writer_fini(struct writer *w)
{
    buf_fini(&w->documents);
}

/* Views of the documents in b, which has one behind another; the caller frees. */
static bson_t *views(const struct buf *b, size_t n)
{
    bson_t *v = xcalloc(n + 1, sizeof *v);
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t size = le_u32(b->p + at);
        bson_init_static(&v[i], (const uint8_t *)b->p + at, size);
        at += size;
    }
    return v;
}

static int refuse(struct writer *w, const bson_t *doc, int64_t code, const char *why, struct err *e)
{
    if (code == DUPLICATE_KEY)
        w->duplicates++;
    else if (++w->refused > MAX_REFUSED)
        return err_set(e, ERR_DATABASE, "MongoDB refuses too many documents of %s: %s", w->name, why);
    w->on_refused(w->arg, doc, why);
    return 0;
}

/* Counts what was refused. *ret_whole: the command as a whole was. */
static int take_errors(struct writer *w, const bson_t *v, size_t n, const bson_t *reply, const bson_error_t *be, bool *ret_whole,
                       struct err *e)
{
    bson_iter_t it;
    bson_t one;
    size_t found = 0;
    int r = 0;
    *ret_whole = false;
    if (json_get_iter(reply, "writeConcernErrors", &it) && json_next_doc(&it, &one))
        return server_error(be, e, "cannot store in %s", w->name);
    bool any = json_get_iter(reply, "writeErrors", &it);
    for (; r == 0 && any && json_next_doc(&it, &one); found++) {
        const int64_t i = json_get_i64(&one, "index", -1);
        if (i >= 0 && (size_t)i < n)
            r = refuse(w, &v[i], json_get_i64(&one, "code", 0), json_get_str(&one, "errmsg", "refused"), e);
    }
    *ret_whole = !found && be->domain == MONGOC_ERROR_SERVER;
    return found || *ret_whole ? r : server_error(be, e, "cannot store in %s", w->name);
}

static int send_batch(struct writer *w, const bson_t *v, size_t n, struct err *e)
{
    bson_error_t be = {0};
    AUTO_BSON_DOC bson_t opts = BSON_INITIALIZER;
    AUTO_FREE const bson_t **list = xcalloc(n, sizeof *list);
    bson_t reply;
    bool whole = false;
    int r = 0;
    for (size_t i = 0; i < n; i++)
        list[i] = &v[i];
    BSON_APPEND_BOOL(&opts, "ordered", false);
    BSON_APPEND_BOOL(&opts, "validate", false); /* what a server had may have names that the driver would not send */
    if (w->bypass)
        BSON_APPEND_BOOL(&opts, "bypassDocumentValidation", true);
    if (!mongoc_collection_insert_many(w->to, list, n, &opts, &reply, &be))
        r = take_errors(w, v, n, &reply, &be, &whole, e);
    bson_destroy(&reply);
    if (r == 0 && whole && n == 1)
        r = refuse(w, v, be.code, be.message, e);
    for (size_t i = 0; r == 0 && whole && n > 1 && i < n; i++) /* which of them it is that the server does not take */
        r = send_batch(w, &v[i], 1, e);
    return r;
}

int writer_flush(struct writer *w, struct err *e)
{
    if (!w->n)
        return 0;
    AUTO_FREE bson_t *v = views(&w->documents, w->n);
    int r = send_batch(w, v, w->n, e);
    w->documents.n = w->n = 0;
    crash_at(CRASH_mongo_restore_insert);
    return r;
}

/* Servers put the time in place of a Timestamp(0, 0) that is a member of a document that is inserted. */
static bool has_empty_timestamp(const bson_t *doc)
{
    uint32_t t, n;
    bson_iter_t it;
    for (bool more = bson_iter_init(&it, doc); more && bson_iter_next(&it);)
        if (BSON_ITER_HOLDS_TIMESTAMP(&it) && strcmp(bson_iter_key(&it), "_id") != 0) {
            bson_iter_timestamp(&it, &t, &n);
            if (!t && !n)
                return true;
        }
    return false;
}

static void append_id(bson_t *to, const bson_t *doc)
{
    bson_iter_t it;
    bson_t eq;
    if (!bson_iter_init_find(&it, doc, "_id"))
        return;
    BSON_APPEND_DOCUMENT_BEGIN(to, "_id", &eq);
    bson_append_iter(&eq, "$eq", 3, &it);
    bson_append_document_end(to, &eq);
}

static bool is_as(mongoc_collection_t *c, const bson_t *doc)
{
    AUTO_BSON_DOC bson_t q = BSON_INITIALIZER;
    AUTO_BUF struct buf scratch = {0};
    struct fingerprint want, have = {0};
    const bson_t *found;
    append_id(&q, doc);
    table_fingerprint(&scratch, doc, &want);
    mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(c, &q, NULL, NULL);
    if (mongoc_cursor_next(cursor, &found))
        table_fingerprint(&scratch, found, &have);
    mongoc_cursor_destroy(cursor);
    return want.content == have.content;
}

/* By itself; and where the server changed it, once more as a pipeline's literal, in which servers change nothing (mongorestore's
 * way, mongorestore/restore.go, insertDocWithEmptyTimestamps). */
static int insert_exactly(struct writer *w, const bson_t *doc, struct err *e)
{
    const int64_t before = w->duplicates + w->refused;
    bson_error_t be = {0};
    int r = writer_flush(w, e);
    buf_add(&w->documents, bson_get_data(doc), doc->len);
    w->n = 1;
    if (r == 0)
        r = writer_flush(w, e);
    if (r < 0 || w->duplicates + w->refused > before || is_as(w->to, doc))
        return r;
    AUTO_BSON_DOC bson_t q = BSON_INITIALIZER, opts = BSON_INITIALIZER;
    AUTO_BSON bson_t *u =
        BCON_NEW("pipeline", "[", "{", "$replaceRoot", "{", "newRoot", "{", "$literal", BCON_DOCUMENT(doc), "}", "}", "}", "]");
    bson_iter_t it;
    bson_t pipeline;
    const uint8_t *p;
    uint32_t n;
    append_id(&q, doc);
    BSON_APPEND_BOOL(&opts, "validate", false);
    bson_iter_init_find(&it, u, "pipeline");
    bson_iter_array(&it, &n, &p);
    bson_init_static(&pipeline, p, n);
    if (!mongoc_collection_update_one(w->to, &q, &pipeline, &opts, NULL, &be))
        return server_error(&be, e, "cannot give a document of %s its empty timestamp", w->name);
    return 0;
}

int writer_insert(struct writer *w, const bson_t *doc, struct err *e)
{
    int r = 0;
    if (has_empty_timestamp(doc))
        return insert_exactly(w, doc, e);
    if (w->n && w->documents.n + doc->len > BATCH_BYTES)
        r = writer_flush(w, e);
    buf_add(&w->documents, bson_get_data(doc), doc->len);
    if (++w->n >= BATCH_DOCUMENTS && r == 0)
        r = writer_flush(w, e);
    return r;
}

int writer_delete(struct writer *w, const struct buf *documents, struct err *e)
{
    bson_error_t be = {0};
    AUTO_BSON_DOC bson_t opts = BSON_INITIALIZER, reply = BSON_INITIALIZER;
    BSON_APPEND_BOOL(&opts, "ordered", false);
    mongoc_bulk_operation_t *bulk = mongoc_collection_create_bulk_operation_with_opts(w->to, &opts);
    bool ok = true;
    for (size_t at = 0; ok && at < documents->n; at += le_u32(documents->p + at)) {
        AUTO_BSON_DOC bson_t q = BSON_INITIALIZER;
        bson_t doc;
        bson_init_static(&doc, (const uint8_t *)documents->p + at, le_u32(documents->p + at));
        append_id(&q, &doc);
        ok = mongoc_bulk_operation_remove_one_with_opts(bulk, &q, NULL, &be);
    }
    if (ok) {
        bson_destroy(&reply);
        ok = mongoc_bulk_operation_execute(bulk, &reply, &be) != 0;
    }
    mongoc_bulk_operation_destroy(bulk);
    crash_at(CRASH_mongo_restore_delete);
    return ok ? 0 : server_error(&be, e, "cannot delete from %s", w->name);
}
