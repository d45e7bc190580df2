#include "ingest.h"
#include "base/crash.h"
#include "base/json.h"
#include "base/mem.h"
#include "index.h"

#include <endian.h>
#include <errno.h>
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

static void on_refused(void *arg, const struct sink_refusal *why)
{
    struct ingest *in = arg;
    in->refused = true;
    struct result_row row = {
        .line = why->line, .offset = why->offset, .rule = why->rule, .message = why->message, .raw = why->raw, .n_raw = why->n_raw};
    if (strcmp(why->rule, "key")) {
        result_file_reject(&in->report, &row);
    } else if (in->on_key_conflict != KEY_keep) {
        AUTO_FREE char *text = xasprintf("a row with this key is there already: %s", why->message);
        row.type = "key";
        row.message = text;
        result_file_reject(&in->report, &row);
    }
}

static void on_acknowledged(void *arg, int64_t end, int64_t n)
{
    struct ingest *in = arg;
    in->report.loaded += n;
    if (in->on_key_conflict == KEY_replace)
        in->report.added = sink_n_added(in->sink);
    if (!in->refused)
        in->report.checkpoint = end;
    result_file_tick(&in->report);
}

int ingest_open(struct ingest *in, const char *url, const char *database, const char *collection, const struct spec *spec,
                struct err *e)
{
    struct sink_options o = {.url = url,
                             .database = database,
                             .collection = collection,
                             .spec = spec,
                             .replace = spec->on_key_conflict == KEY_replace,
                             .in_order = index_is_needed(spec),
                             .arg = in,
                             .on_refused = on_refused,
                             .on_acknowledged = on_acknowledged};
    in->on_key_conflict = spec->on_key_conflict;
    return sink_open(&o, &in->sink, e);
}

void ingest_close(struct ingest *in)
{
    sink_close(in->sink);
    in->sink = NULL;
    result_file_fini(&in->report);
}

int ingest_delete_prefix(struct ingest *in, const unsigned char prefix[INGEST_PREFIX], struct err *e)
{
    unsigned char low[SINK_ID_BYTES] = {0}, high[SINK_ID_BYTES];
    bson_error_t be;
    memcpy(low, prefix, INGEST_PREFIX);
    memset(high, 0xff, sizeof high);
    memcpy(high, prefix, INGEST_PREFIX);
    bson_t *q = BCON_NEW("_id", "{", "$gte", BCON_BIN(BSON_SUBTYPE_BINARY, low, SINK_ID_BYTES), "$lte",
                         BCON_BIN(BSON_SUBTYPE_BINARY, high, SINK_ID_BYTES), "}");
    bool ok = mongoc_collection_delete_many(sink_collection(in->sink), q, NULL, NULL, &be);
    bson_destroy(q);
    crash_at(CRASH_load_delete);
    return ok ? 0 : sink_error(&be, "cannot delete earlier rows of this file", e);
}

/* A key's value, so that the same value gives the same bytes: numbers by what they are, not how they are stored. */
static void hash_value(crypto_generichash_state *h, const bson_iter_t *it, const char *doc)
{
    double d = BSON_ITER_HOLDS_DOUBLE(it) ? bson_iter_double(it) : 0;
    if (BSON_ITER_HOLDS_INT(it) || (BSON_ITER_HOLDS_DOUBLE(it) && d == floor(d) && fabs(d) < 9e15)) {
        int64_t v = BSON_ITER_HOLDS_INT(it) ? bson_iter_as_int64(it) : (int64_t)d;
        v = (int64_t)htole64((uint64_t)v);
        crypto_generichash_update(h, (const unsigned char *)"i", 1);
        crypto_generichash_update(h, (const unsigned char *)&v, sizeof v);
        return;
    }
    unsigned char type = (unsigned char)bson_iter_type(it);
    crypto_generichash_update(h, &type, 1);
    crypto_generichash_update(h, (const unsigned char *)doc + it->d1, it->next_off - it->d1);
}

/* The _id of a row under "replace"; NULL: its elements make no document. */
static void key_id(const struct ingest *in, const struct spec *spec, const bson_t *doc, unsigned char id[SINK_ID_BYTES])
{
    crypto_generichash_state h;
    crypto_generichash_init(&h, NULL, 0, SINK_ID_BYTES);
    crypto_generichash_update(&h, (const unsigned char *)in->tenant, strlen(in->tenant) + 1);
    crypto_generichash_update(&h, (const unsigned char *)in->dataset, strlen(in->dataset) + 1);
    for (size_t i = 0; doc && i < spec->key.n; i++) {
        bson_iter_t it, found;
        if (bson_iter_init(&it, doc) && bson_iter_find_descendant(&it, spec_target(spec, spec->key.v[i]), &found))
            hash_value(&h, &found, (const char *)found.raw);
    }
    crypto_generichash_final(&h, id, SINK_ID_BYTES);
}

static void offset_id(const struct ingest *in, int64_t offset, unsigned char id[SINK_ID_BYTES])
{
    uint64_t be = htobe64((uint64_t)offset);
    memcpy(id, in->prefix, INGEST_PREFIX);
    memcpy(id + INGEST_PREFIX, &be, sizeof be);
}

/* For the elements that stand in `b` from `from` on. */
static void set_key_id(struct ingest *in, const struct spec *spec, const struct buf *b, size_t from)
{
    AUTO_BUF struct buf room = {0};
    unsigned char id[SINK_ID_BYTES];
    bson_t doc;
    bool ok = json_doc_of_elements(b->p + from, b->n - from, &room, &doc);
    key_id(in, spec, ok ? &doc : NULL, id);
    sink_set_id(in->sink, id);
}

int ingest_row(struct ingest *in, const struct spec *spec, const struct record *rec, int64_t end, const struct buf *elements,
               struct err *e)
{
    unsigned char id[SINK_ID_BYTES];
    if (in->base + rec->offset < in->skip_until) {
        in->report.loaded++;
        sink_passed(in->sink, in->base + end);
        return 0;
    }
    offset_id(in, in->base + rec->offset, id);
    struct buf *b = sink_begin(in->sink, id);
    size_t from = b->n;
    buf_add(b, elements->p, elements->n);
    if (spec->on_key_conflict == KEY_replace)
        set_key_id(in, spec, b, from);
    return sink_row(in->sink, rec->line, rec->offset, in->base + end, rec->raw, rec->n, e);
}

static struct result_row row_of(const struct record *rec, const char *message)
{
    return (struct result_row){rec->line, rec->offset, rec->column, rec->type, rec->rule, message, rec->raw, rec->n};
}

static void reject(struct ingest *in, const struct record *rec)
{
    struct result_row row = row_of(rec, rec->reject);
    result_file_reject(&in->report, &row);
}

/* Of a row that is taken. */
static void tell_repair(struct ingest *in, const struct record *rec)
{
    if (!rec->repaired)
        return;
    struct result_row row = row_of(rec, rec->repaired);
    result_file_repair(&in->report, &row);
}

static void tell_header(struct ingest *in, const struct reader *rd)
{
    struct result_row row = {.rule = "header"};
    row.message = reader_header_repair(rd, &row.line, &row.offset);
    if (row.message)
        result_file_header_repair(&in->report, &row);
}

/* One record straight into the command. */
static int store(struct ingest *in, struct reader *rd, const struct spec *spec, struct record *rec, struct err *e)
{
    unsigned char id[SINK_ID_BYTES];
    offset_id(in, in->base + rec->offset, id);
    struct buf *b = sink_begin(in->sink, id);
    size_t from = b->n;
    if (reader_row(rd, rec, b) < 0) {
        sink_cancel(in->sink);
        reject(in, rec);
        return 0;
    }
    tell_repair(in, rec);
    if (spec->on_key_conflict == KEY_replace)
        set_key_id(in, spec, b, from);
    return sink_row(in->sink, rec->line, rec->offset, in->base + reader_offset(rd), rec->raw, rec->n, e);
}

/* One record by way of a buffer: it is stored already, or somebody wants to see it first. */
static int look(struct ingest *in, struct reader *rd, const struct spec *spec, struct record *rec, struct buf *row,
                ingest_row_fn fn, void *arg, struct err *e)
{
    row->n = 0;
    int r = reader_row(rd, rec, row);
    if (r == 0 && fn)
        r = fn(arg, rec, row);
    if (r == 1)
        return 0;
    if (r < 0) {
        reject(in, rec);
        return 0;
    }
    tell_repair(in, rec);
    return ingest_row(in, spec, rec, reader_offset(rd), row, e);
}

int ingest_input(struct ingest *in, int fd, enum src_compression c, const struct spec *spec, ingest_row_fn fn, void *arg,
                 struct err *e)
{
    AUTO_SRC struct src *s = src_new(fd, c, -1, NULL, NULL);
    AUTO_READER struct reader *rd = reader_new(s, spec);
    struct record rec;
    AUTO_BUF struct buf row = {0};
    int r = 0, n = 0;
    bool first = true;
    while (r == 0 && (n = reader_next(rd, &rec, e)) >= 0) {
        if (first)
            tell_header(in, rd);
        first = false;
        if (n == 0)
            break;
        in->report.parsed++;
        if (fn || in->base + rec.offset < in->skip_until)
            r = look(in, rd, spec, &rec, &row, fn, arg, e);
        else
            r = store(in, rd, spec, &rec, e);
    }
    in->base += reader_offset(rd);
    in->report.bytes += src_raw_bytes(s);
    return r ? r : n;
}

int ingest_count_rejects(int fd, enum src_compression c, const struct spec *spec, struct ingest_rejects *ret, struct err *e)
{
    AUTO_SRC struct src *s = src_new(fd, c, -1, NULL, NULL);
    AUTO_READER struct reader *rd = reader_new(s, spec);
    struct record rec;
    AUTO_BUF struct buf row = {0};
    int n;
    while ((n = reader_next(rd, &rec, e)) > 0) {
        row.n = 0;
        ret->rows++;
        ret->rejects += reader_row(rd, &rec, &row) < 0;
    }
    return n;
}

const char *ingest_rejects_broken(const struct ingest_rejects *n, int64_t max, double max_pct, char *text, size_t size)
{
    if (max >= 0 && n->rejects > max) {
        snprintf(text, size, "%lld damaged rows; max_rejects is %lld", (long long)n->rejects, (long long)max);
        return "max_rejects";
    }
    if (reader_rejects_exceed(n->rejects, n->rows, max_pct)) {
        snprintf(text, size, "%lld of %lld rows are damaged; max_reject_pct is %g", (long long)n->rejects, (long long)n->rows,
                 max_pct);
        return "max_reject_pct";
    }
    return NULL;
}
