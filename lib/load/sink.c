/* A batch is one command under construction or in flight:
 *   {"insert": collection, "ordered": false, "documents": [ rows ]}
 *   {"update": collection, ..., "updates": [{"u": row, "q": {"_id": id, shard key}, "upsert": true}]}
 * A router (mongos) sends an upsert to the shard that its filter names, so the shard key's fields stand in it, each as {"$eq":
 * value}: a value of a row may look like an operator. Other servers find a row soonest by its _id alone. Batches go round: free ->
 * (filled) -> queued -> (a worker's) -> done -> collected by the caller's thread -> free. They are collected in the order they were
 * filled, so acknowledged ends rise. */
#include "base/clk.h"
#include "base/crash.h"
#include "base/json.h"
#include "base/le.h"
#include "base/mem.h"
#include "mongo_uri.h"
#include "sink_parts.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>

enum {
    BATCH_BYTES = 1 << 20,
    BATCH_ROWS = 10000,
    KEPT_BYTES = 4 << 20, /* buffers that grew beyond are given back */
    SELECTION_MS = 5000,
    SOCKET_MS = 60000,
    COMMAND_MAX = 15 << 20,
    ID_HEAD = 10,
    OID_HEAD = 5,
};

/* --- BSON by hand; element types as in bsonspec.org --- */

static void add_key(struct buf *b, char type, const char *key)
{
    buf_add(b, &type, 1);
    buf_add(b, key, strlen(key) + 1);
}

static size_t open_document(struct buf *b)
{
    size_t at = b->n;
    buf_add(b, "\0\0\0\0", 4);
    return at;
}

static void close_document(struct buf *b, size_t at)
{
    buf_add(b, "", 1);
    le_set_u32(b->p + at, (uint32_t)(b->n - at));
}

static void add_bool(struct buf *b, const char *key, bool v)
{
    char byte = v;
    add_key(b, 0x08, key);
    buf_add(b, &byte, 1);
}

static void add_string(struct buf *b, const char *key, const char *v)
{
    char len[4];
    le_set_u32(len, (uint32_t)strlen(v) + 1);
    add_key(b, 0x02, key);
    buf_add(b, len, 4);
    buf_add(b, v, strlen(v) + 1);
}

static void add_id(struct buf *b, const unsigned char id[SINK_ID_BYTES])
{
    static const char head[ID_HEAD] = {0x05, '_', 'i', 'd', 0, SINK_ID_BYTES, 0, 0, 0, 0}; /* binary, generic */
    buf_reserve(b, sizeof head + SINK_ID_BYTES);
    memcpy(b->p + b->n, head, sizeof head);
    memcpy(b->p + b->n + sizeof head, id, SINK_ID_BYTES);
    b->n += sizeof head + SINK_ID_BYTES;
}

static void add_fresh_id(struct buf *b)
{
    static const char head[OID_HEAD] = {0x07, '_', 'i', 'd', 0};
    bson_oid_t id;
    bson_oid_init(&id, NULL);
    buf_add(b, head, sizeof head);
    buf_add(b, id.bytes, sizeof id.bytes);
}

/* The key of the next array element. */
static void add_index(struct buf *b, size_t i)
{
    char text[16], *p = text + sizeof text;
    *--p = 0;
    do
        *--p = (char)('0' + i % 10);
    while (i /= 10);
    *--p = 0x03;
    buf_add(b, p, (size_t)(text + sizeof text - p));
}

static void set_state(struct sink *s, struct batch *b, enum batch_state state)
{
    pthread_mutex_lock(&s->lock);
    b->state = state;
    pthread_mutex_unlock(&s->lock);
}

/* Before there are workers, since the first one has the client from then on. Who does not answer may be a router. */
static void look_for_router(struct sink *s)
{
    bool asks = s->o.replace && s->o.spec && s->o.spec->shard.n;
    mongoc_server_description_t *d = asks ? mongoc_client_select_server(s->client, true, NULL, NULL) : NULL;
    s->routed = asks && (!d || mongo_is_router(d));
    if (d)
        mongoc_server_description_destroy(d);
}

static void start_batch(struct sink *s, struct batch *b)
{
    if (!s->next_number)
        look_for_router(s);
    set_state(s, b, FILLING);
    b->number = s->next_number++;
    b->n_rows = b->raw.n = b->command.n = 0;
    b->failed = b->exhausted = false;
    b->end = s->passed;
    struct buf *c = &b->command;
    open_document(c);
    add_string(c, s->o.replace ? "update" : "insert", s->collection_name);
    add_bool(c, "ordered", false);
    add_key(c, 0x04, s->o.replace ? "updates" : "documents");
    b->array_at = open_document(c);
    s->filling = b;
}

/* --- the caller's side --- */

int sink_open(const struct sink_options *o, struct sink **ret, struct err *e)
{
    bson_error_t be;
    AUTO_SINK struct sink *s = xcalloc(1, sizeof *s);
    s->o = *o;
    s->wake_fd = -1;
    s->max_workers = o->replace || o->in_order ? 1 : MAX_WORKERS;
    s->n_batches = s->max_workers + 1;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->work, NULL);
    pthread_cond_init(&s->done, NULL);
    s->database = xstrdup(o->database);
    s->collection_name = xstrdup(o->collection);
    s->uri = o->url ? mongo_uri(o->url, SELECTION_MS, SOCKET_MS, &be) : NULL;
    if (!s->uri)
        return err_set(e, ERR_CONFIG, "MONGO_URL is %s", o->url ? be.message : "not set");
    s->client = mongoc_client_new_from_uri(s->uri);
    if (!s->client)
        return err_set(e, ERR_CONFIG, "MONGO_URL cannot be used");
    mongoc_client_set_error_api(s->client, MONGOC_ERROR_API_VERSION_2);
    s->collection = mongoc_client_get_collection(s->client, s->database, s->collection_name);
    *ret = TAKE(s);
    return 0;
}

void sink_close(struct sink *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->quit = true;
    pthread_cond_broadcast(&s->work);
    pthread_mutex_unlock(&s->lock);
    for (size_t i = 0; i < s->n_workers; i++)
        pthread_join(s->workers[i].thread, NULL);
    for (size_t i = 1; i < s->n_workers; i++) {
        mongoc_collection_destroy(s->workers[i].collection);
        mongoc_client_destroy(s->workers[i].client);
    }
    for (size_t i = 0; i < s->n_batches; i++) {
        struct batch *b = &s->batches[i];
        if (b->state == DONE)
            bson_destroy(&b->reply);
        buf_fini(&b->command);
        buf_fini(&b->raw);
        free(b->rows);
        free(b->ours);
    }
    buf_fini(&s->filter);
    if (s->collection)
        mongoc_collection_destroy(s->collection);
    if (s->client)
        mongoc_client_destroy(s->client);
    if (s->uri)
        mongoc_uri_destroy(s->uri);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->work);
    pthread_cond_destroy(&s->done);
    free(s->database);
    free(s->collection_name);
    free(s);
}

void sink_set_wake_fd(struct sink *s, int fd)
{
    s->wake_fd = fd;
}

int64_t sink_n_added(const struct sink *s)
{
    return s->n_added;
}

mongoc_collection_t *sink_collection(struct sink *s)
{
    return s->collection;
}

/* Sorts one complaint: stored before, or refused. True when the row is stored. */
static bool settle(struct sink *s, struct batch *b, const bson_t *error)
{
    int64_t i = json_get_i64(error, "index", -1), code = json_get_i64(error, "code", 0);
    const char *message = json_get_str(error, "errmsg", "refused by MongoDB");
    if (i < 0 || (size_t)i >= b->n_rows)
        return true;
    const struct row *r = &b->rows[i];
    if (code == 11000 && ((!s->o.replace && sink_is_id_conflict(message)) || (b->ours && b->ours[i] && !s->o.replace)))
        return true;
    struct sink_refusal why = {.line = r->line,
                               .offset = r->offset,
                               .rule = code == 11000 ? "key" : "server",
                               .message = message,
                               .raw = b->raw.p ? b->raw.p + r->raw_at : "",
                               .n_raw = r->n_raw};
    s->o.on_refused(s->o.arg, &why);
    return false;
}

static int collect(struct sink *s, struct batch *b, struct err *e)
{
    bson_iter_t it;
    bson_t error;
    int64_t stored = (int64_t)b->n_rows;
    int r = 0;
    crash_at(CRASH_load_insert);
    if (b->exhausted) {
        r = err_sys(e, -ENOMEM, "cannot store documents");
    } else if (b->failed) {
        r = sink_batch_error(b, "cannot store documents", e);
    } else {
        if (json_get_iter(&b->reply, "writeErrors", &it))
            while (json_next_doc(&it, &error))
                if (!settle(s, b, &error))
                    stored--;
        if (s->o.replace && json_get_iter(&b->reply, "upserted", &it))
            while (json_next_doc(&it, &error))
                s->n_added++;
        s->o.on_acknowledged(s->o.arg, b->end, stored);
    }
    bson_destroy(&b->reply);
    free(b->ours);
    b->ours = NULL;
    if (b->command.cap > KEPT_BYTES)
        buf_fini(&b->command);
    if (b->raw.cap > KEPT_BYTES)
        buf_fini(&b->raw);
    set_state(s, b, FREE);
    s->collected++;
    return r;
}

/* Collects batches that are done, in order, until one is free (or all are, with `all`). */
static int wait_for_batches(struct sink *s, bool all, struct err *e)
{
    for (;;) {
        struct batch *next = NULL, *idle = NULL;
        pthread_mutex_lock(&s->lock);
        for (size_t i = 0; i < s->n_batches; i++) {
            if (s->batches[i].state == FREE)
                idle = &s->batches[i];
            else if (s->batches[i].state != FILLING && s->batches[i].number == s->collected)
                next = &s->batches[i];
        }
        bool wait = next && (all || !idle);
        while (wait && next->state != DONE)
            pthread_cond_wait(&s->done, &s->lock);
        bool ready = next && next->state == DONE;
        pthread_mutex_unlock(&s->lock);
        if (!ready)
            return 0;
        int r = collect(s, next, e);
        if (r < 0)
            return r;
    }
}

static int send_batch(struct sink *s, struct err *e)
{
    struct batch *b = s->filling;
    s->filling = NULL;
    close_document(&b->command, b->array_at);
    close_document(&b->command, 0);
    pthread_mutex_lock(&s->lock);
    b->state = QUEUED;
    sink_add_worker(s);
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->lock);
    if (!s->n_workers) {
        struct worker self = {.s = s, .client = s->client, .collection = s->collection};
        sink_run_batch(&self, b);
        set_state(s, b, DONE);
    }
    return wait_for_batches(s, false, e);
}

struct buf *sink_begin(struct sink *s, const unsigned char id[SINK_ID_BYTES])
{
    for (size_t i = 0; !s->filling && i < s->n_batches; i++) {
        pthread_mutex_lock(&s->lock);
        bool idle = s->batches[i].state == FREE;
        pthread_mutex_unlock(&s->lock);
        if (idle)
            start_batch(s, &s->batches[i]);
    }
    struct batch *b = s->filling;
    assert(b); /* send_batch waits until one is free */
    s->element_at = b->command.n;
    add_index(&b->command, b->n_rows);
    if (s->o.replace) {
        open_document(&b->command); /* at element_at + its key; closed in sink_row */
        add_key(&b->command, 0x03, "u");
    }
    s->row_at = open_document(&b->command);
    if (s->o.fresh)
        add_fresh_id(&b->command);
    else
        add_id(&b->command, id);
    return &b->command;
}

void sink_set_id(struct sink *s, const unsigned char id[SINK_ID_BYTES])
{
    memcpy(s->filling->command.p + s->row_at + 4 + ID_HEAD, id, SINK_ID_BYTES);
}

void sink_cancel(struct sink *s)
{
    s->filling->command.n = s->element_at;
}

/* The value at a dotted path of a document. -1: there is an array on the way or at its end; 0: there is none. */
static int value_at(const bson_t *doc, const char *path, bson_iter_t *it)
{
    if (!bson_iter_init(it, doc))
        return 0;
    for (const char *p = path, *dot;; p = dot + 1) {
        dot = strchr(p, '.');
        if (!bson_iter_find_w_len(it, p, dot ? (int)(dot - p) : (int)strlen(p)))
            return 0;
        if (BSON_ITER_HOLDS_ARRAY(it))
            return -1;
        if (!dot)
            return 1;
        bson_iter_t in;
        if (!BSON_ITER_HOLDS_DOCUMENT(it) || !bson_iter_recurse(it, &in))
            return 0;
        *it = in;
    }
}

/* "q" of a row that is whole, put together beside the command, whose buffer moves while it grows. A field that the row lacks counts
 * as null. Returns the field of the shard key that cannot be one, or NULL. */
static const char *add_filter(struct sink *s, struct buf *b)
{
    const char *row = b->p + s->row_at;
    struct buf *f = &s->filter;
    bson_t doc;
    f->n = 0;
    add_key(f, 0x03, "q");
    size_t q = open_document(f);
    buf_add(f, row + 4, ID_HEAD + SINK_ID_BYTES);
    for (size_t i = 0; s->routed && i < s->o.spec->shard.n; i++) {
        const char *field = spec_target(s->o.spec, s->o.spec->shard.v[i]);
        bson_iter_t it;
        if (!strcmp(field, SPEC_ID))
            continue;
        int found = bson_init_static(&doc, (const uint8_t *)row, b->n - s->row_at) ? value_at(&doc, field, &it) : 0;
        if (found < 0)
            return field;
        add_key(f, 0x03, field);
        size_t at = open_document(f);
        add_key(f, found ? (char)bson_iter_type(&it) : 0x0a, "$eq");
        if (found)
            buf_add(f, (const char *)it.raw + it.d1, it.next_off - it.d1);
        close_document(f, at);
    }
    close_document(f, q);
    buf_add(b, f->p, f->n);
    return NULL;
}

static void refuse(struct sink *s, const struct sink_refusal *why)
{
    sink_cancel(s);
    s->o.on_refused(s->o.arg, why);
}

int sink_row(struct sink *s, int64_t line, int64_t offset, int64_t end, const char *raw, size_t n, struct err *e)
{
    struct batch *b = s->filling;
    if (s->broken)
        return s->broken;
    close_document(&b->command, s->row_at);
    if (b->command.n - s->row_at > SINK_MAX_DOCUMENT) {
        refuse(s, &(struct sink_refusal){line, offset, "server", "the document is larger than MongoDB takes (16 MiB)", raw, n});
        return 0;
    }
    if (b->command.n > COMMAND_MAX && b->n_rows) { /* too much for one command: this row starts the next */
        AUTO_BUF struct buf doc = {0};
        buf_add(&doc, b->command.p + s->row_at, b->command.n - s->row_at);
        sink_cancel(s);
        s->broken = send_batch(s, e);
        if (s->broken)
            return s->broken;
        unsigned char id[SINK_ID_BYTES] = {0};
        if (!s->o.fresh)
            memcpy(id, doc.p + 4 + ID_HEAD, SINK_ID_BYTES);
        sink_begin(s, id);
        b = s->filling;
        b->command.n = s->row_at;
        buf_add(&b->command, doc.p, doc.n);
    }
    if (s->o.replace) {
        const char *field = add_filter(s, &b->command);
        if (field) {
            AUTO_FREE char *text = xasprintf("its field %s is an array, which cannot be part of the shard key", field);
            refuse(s, &(struct sink_refusal){line, offset, "shard", text, raw, n});
            return 0;
        }
        add_bool(&b->command, "upsert", true);
        close_document(&b->command, s->element_at + 1 + strlen(b->command.p + s->element_at + 1) + 1);
    }
    if (b->n_rows == b->cap_rows) {
        b->cap_rows = b->cap_rows ? b->cap_rows * 2 : 1024;
        b->rows = xrealloc(b->rows, b->cap_rows * sizeof *b->rows);
    }
    b->rows[b->n_rows++] = (struct row){line, offset, b->raw.n, n, s->row_at + 4 + (s->o.fresh ? OID_HEAD : ID_HEAD)};
    buf_add(&b->raw, raw, n);
    b->end = s->passed = end;
    if (b->n_rows < BATCH_ROWS && b->command.n < BATCH_BYTES)
        return 0;
    s->broken = send_batch(s, e);
    return s->broken;
}

void sink_passed(struct sink *s, int64_t end)
{
    s->passed = end;
    if (s->filling)
        s->filling->end = end;
}

int sink_push(struct sink *s, struct err *e)
{
    size_t busy = 0;
    if (s->broken)
        return s->broken;
    s->broken = wait_for_batches(s, false, e);
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->n_batches; i++)
        busy += s->batches[i].state != FREE && s->batches[i].state != FILLING;
    pthread_mutex_unlock(&s->lock);
    if (!s->broken && s->filling && s->filling->n_rows && busy < s->max_workers)
        s->broken = send_batch(s, e);
    return s->broken;
}

int sink_flush(struct sink *s, struct err *e)
{
    if (s->broken)
        return s->broken;
    if (s->filling && s->filling->n_rows)
        s->broken = send_batch(s, e);
    if (!s->broken)
        s->broken = wait_for_batches(s, true, e);
    return s->broken;
}
