#include "base/json.h"
#include "base/json.h"
#include "base/le.h"
#include "base/mem.h"
#include "base/mem_try.h"
#include "run.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const uint8_t no_fields[] = {5, 0, 0, 0, 0};

/* Makes `bytes` the row's document; the row owns them from now on. */
static void set_doc(struct simbdp_row *row, struct buf *bytes)
{
    buf_fini(&row->bytes);
    row->bytes = *bytes;
    *bytes = (struct buf){0};
    bson_init_static(&row->doc, (const uint8_t *)row->bytes.p, row->bytes.n);
}

void row_init(struct simbdp_row *row, struct simbdp *run, const struct record *rec)
{
    *row = (struct simbdp_row){.run = run, .rec = rec, .number = -1};
    bson_init_static(&row->doc, no_fields, sizeof no_fields);
}

void row_fini(struct simbdp_row *row)
{
    buf_fini(&row->bytes);
    buf_fini(&row->json);
}

static void set_elements(struct simbdp_row *row, const struct buf *elements)
{
    AUTO_BUF struct buf bytes = {0};
    bson_t view;
    if (json_doc_of_elements(elements->p, elements->n, &bytes, &view))
        set_doc(row, &bytes);
}

int row_call(void *arg, struct record *rec, struct buf *elements)
{
    struct row_call *c = arg;
    AUTO_ROW struct simbdp_row row;
    row_init(&row, c->run, rec);
    set_elements(&row, elements);
    enum simbdp_verdict v = c->fn(&row, c->arg);
    if (v == SIMBDP_STORE && row.changed) {
        elements->n = 0;
        buf_add(elements, bson_get_data(&row.doc) + 4, row.doc.len - 5);
    } else if (v != SIMBDP_STORE && v != SIMBDP_SKIP) {
        snprintf(c->why, sizeof c->why, "%s", *row.why ? row.why : "rejected by the app");
        rec->reject = c->why;
        rec->rule = "app";
    }
    return v == SIMBDP_STORE ? 0 : v == SIMBDP_SKIP ? 1 : ERR_FORMAT;
}

struct simbdp_row *simbdp_row_new(struct simbdp *run)
{
    struct simbdp_row *row = calloc(1, sizeof *row);
    if (row)
        row_init(row, run, NULL);
    else
        run_no_memory(run);
    return row;
}

void simbdp_row_free(struct simbdp_row *row)
{
    if (!row)
        return;
    row_fini(row);
    free(row);
}

/* Rows need no file; the dataset's keys hold all the same. */
static int start(struct simbdp *run)
{
    const char *text = run->schema ? run->schema : "{}";
    if (!run->spec && spec_parse(text, strlen(text), &run->spec, NULL, &run->err) < 0)
        return run_fail(run, SIMBDP_CONFIG);
    return run_start(run, run->spec);
}

static void make_json(void *arg)
{
    struct simbdp_row *row = arg;
    row->json.n = 0;
    json_from_bson(&row->doc, &row->json);
}

struct store_call {
    struct simbdp_row *row;
    int code;
};

static void store(void *arg)
{
    struct store_call *c = arg;
    struct simbdp_row *row = c->row;
    struct simbdp *run = row->run;
    c->code = run->drain ? 0 : start(run);
    if (c->code)
        return;
    if (run->drain) {
        c->code = stream_store(run, bson_get_data(&row->doc) + 4, row->doc.len - 5);
        return;
    }
    AUTO_BUF struct buf elements = {0};
    int64_t number = row->number >= 0 ? row->number : run->in.base;
    make_json(row);
    struct record rec = {.raw = row->json.p, .n = row->json.n, .offset = number - run->in.base};
    run->rows_one_by_one = true;
    run->in.report.parsed++;
    buf_add(&elements, bson_get_data(&row->doc) + 4, row->doc.len - 5);
    int r = ingest_row(&run->in, run->spec, &rec, 1, &elements, &run->err);
    run->in.base++;
    if (r < 0)
        c->code = run_fail(run, run_code(run, r));
}

int simbdp_row_store(struct simbdp_row *row)
{
    struct simbdp *run = row->run;
    struct store_call c = {row, run->failed};
    if (run->finished) {
        err_set(&run->err, ERR_USAGE, "the run is finished");
        c.code = SIMBDP_USAGE;
    } else if (!run->failed && !mem_try(store, &c)) {
        c.code = run_exhausted(run);
    }
    simbdp_row_free(row);
    return c.code;
}

int simbdp_row_set_number(struct simbdp_row *row, int64_t number)
{
    if (number < 0 || number > (int64_t)1 << 62 || row->rec || row->run->drain)
        return SIMBDP_USAGE;
    row->number = number;
    return SIMBDP_OK;
}

static bool find(const struct simbdp_row *row, const char *field, bson_iter_t *ret)
{
    bson_iter_t it;
    return field && (bson_iter_init_find(ret, &row->doc, field) ||
                     (strchr(field, '.') && bson_iter_init(&it, &row->doc) && bson_iter_find_descendant(&it, field, ret)));
}

enum simbdp_type simbdp_row_type(const struct simbdp_row *row, const char *field)
{
    bson_iter_t it;
    if (!find(row, field, &it))
        return SIMBDP_NONE;
    switch (bson_iter_type(&it)) {
    case BSON_TYPE_NULL:
        return SIMBDP_NULL;
    case BSON_TYPE_UTF8:
        return SIMBDP_STRING;
    case BSON_TYPE_INT32:
    case BSON_TYPE_INT64:
        return SIMBDP_INTEGER;
    case BSON_TYPE_DOUBLE:
        return SIMBDP_DOUBLE;
    case BSON_TYPE_BOOL:
        return SIMBDP_BOOL;
    case BSON_TYPE_DATE_TIME:
        return SIMBDP_DATETIME;
    default:
        return SIMBDP_OTHER;
    }
}

int simbdp_row_get_string(const struct simbdp_row *row, const char *field, const char **ret, size_t *ret_size)
{
    bson_iter_t it;
    uint32_t n;
    if (!find(row, field, &it) || !BSON_ITER_HOLDS_UTF8(&it))
        return SIMBDP_NOT_FOUND;
    *ret = bson_iter_utf8(&it, &n);
    if (ret_size)
        *ret_size = n;
    return SIMBDP_OK;
}

int simbdp_row_get_int(const struct simbdp_row *row, const char *field, int64_t *ret)
{
    bson_iter_t it;
    if (!find(row, field, &it))
        return SIMBDP_NOT_FOUND;
    if (BSON_ITER_HOLDS_INT(&it)) {
        *ret = bson_iter_as_int64(&it);
        return SIMBDP_OK;
    }
    double d = BSON_ITER_HOLDS_DOUBLE(&it) ? bson_iter_double(&it) : 0.5;
    if (d != floor(d) || fabs(d) > 9007199254740992.0)
        return SIMBDP_NOT_FOUND;
    *ret = (int64_t)d;
    return SIMBDP_OK;
}

int simbdp_row_get_double(const struct simbdp_row *row, const char *field, double *ret)
{
    bson_iter_t it;
    if (!find(row, field, &it) || !(BSON_ITER_HOLDS_INT(&it) || BSON_ITER_HOLDS_DOUBLE(&it)))
        return SIMBDP_NOT_FOUND;
    if (BSON_ITER_HOLDS_INT64(&it) && (bson_iter_int64(&it) > (int64_t)1 << 53 || bson_iter_int64(&it) < -((int64_t)1 << 53)))
        return SIMBDP_NOT_FOUND;
    *ret = bson_iter_as_double(&it);
    return SIMBDP_OK;
}

int simbdp_row_get_bool(const struct simbdp_row *row, const char *field, int *ret)
{
    bson_iter_t it;
    if (!find(row, field, &it) || !BSON_ITER_HOLDS_BOOL(&it))
        return SIMBDP_NOT_FOUND;
    *ret = bson_iter_bool(&it);
    return SIMBDP_OK;
}

int simbdp_row_get_datetime(const struct simbdp_row *row, const char *field, int64_t *ret_ms)
{
    bson_iter_t it;
    if (!find(row, field, &it) || !BSON_ITER_HOLDS_DATE_TIME(&it))
        return SIMBDP_NOT_FOUND;
    *ret_ms = bson_iter_date_time(&it);
    return SIMBDP_OK;
}

/* --- changing it --- */

static bool is_name(const char *field)
{
    return field && *field && *field != '$' && strcmp(field, "_id") && !strchr(field, '.') && utf8_valid(field, strlen(field));
}

/* The change of a field. */
struct change {
    struct simbdp_row *row;
    const char *field;
    bson_type_t type; /* BSON_TYPE_EOD: it is removed */
    union {
        int64_t i;
        double d;
        struct {
            const char *p;
            size_t n;
        } s;
    } v;
    int code;
};

static void add_element(struct buf *b, const struct change *c)
{
    char type = (char)c->type;
    buf_add(b, &type, 1);
    buf_add(b, c->field, strlen(c->field) + 1);
    switch (c->type) {
    case BSON_TYPE_UTF8:
        le_add_u32(b, (uint32_t)c->v.s.n + 1);
        buf_add(b, c->v.s.p, c->v.s.n);
        buf_add(b, "", 1);
        break;
    case BSON_TYPE_BOOL:
        buf_add(b, c->v.i ? "\1" : "", 1);
        break;
    case BSON_TYPE_INT32:
        le_add_u32(b, (uint32_t)c->v.i);
        break;
    case BSON_TYPE_DOUBLE: {
        uint64_t bits;
        memcpy(&bits, &c->v.d, sizeof bits);
        le_add_u64(b, bits);
        break;
    }
    case BSON_TYPE_INT64:
    case BSON_TYPE_DATE_TIME:
        le_add_u64(b, (uint64_t)c->v.i);
        break;
    default: /* null */
        break;
    }
}

/* Builds the document again with the field changed in its place, or appended. */
static void apply(void *arg)
{
    struct change *c = arg;
    struct simbdp_row *row = c->row;
    AUTO_BUF struct buf doc = {0};
    bson_iter_t it;
    bool there = false;
    buf_reserve(&doc, row->doc.len + strlen(c->field) + (c->type == BSON_TYPE_UTF8 ? c->v.s.n : 0) + 32);
    le_add_u32(&doc, 0);
    bson_iter_init(&it, &row->doc);
    while (bson_iter_next(&it)) {
        bool is = !strcmp(bson_iter_key(&it), c->field);
        if (is && c->type != BSON_TYPE_EOD)
            add_element(&doc, c);
        else if (!is)
            buf_add(&doc, bson_get_data(&row->doc) + bson_iter_offset(&it), it.next_off - bson_iter_offset(&it));
        there |= is;
    }
    if (!there && c->type != BSON_TYPE_EOD)
        add_element(&doc, c);
    buf_add(&doc, "", 1);
    c->code = !there && c->type == BSON_TYPE_EOD ? SIMBDP_NOT_FOUND : doc.n > SINK_MAX_DOCUMENT ? SIMBDP_USAGE : SIMBDP_OK;
    if (c->code)
        return;
    le_set_u32(doc.p, (uint32_t)doc.n);
    set_doc(row, &doc);
    row->changed = true;
}

static int change(struct change *c)
{
    if (c->type == BSON_TYPE_EOD ? !c->field : !is_name(c->field))
        return SIMBDP_USAGE;
    return mem_try(apply, c) ? c->code : run_no_memory(c->row->run);
}

int simbdp_row_set_string(struct simbdp_row *row, const char *field, const char *value, size_t size)
{
    if (size > SINK_MAX_DOCUMENT || !utf8_valid(value, size))
        return SIMBDP_USAGE;
    bson_type_t type = value ? BSON_TYPE_UTF8 : BSON_TYPE_NULL;
    return change(&(struct change){.row = row, .field = field, .type = type, .v.s = {value, size}});
}

int simbdp_row_set_int(struct simbdp_row *row, const char *field, int64_t value)
{
    bson_type_t type = value >= INT32_MIN && value <= INT32_MAX ? BSON_TYPE_INT32 : BSON_TYPE_INT64;
    return change(&(struct change){.row = row, .field = field, .type = type, .v.i = value});
}

int simbdp_row_set_double(struct simbdp_row *row, const char *field, double value)
{
    return change(&(struct change){.row = row, .field = field, .type = BSON_TYPE_DOUBLE, .v.d = value});
}

int simbdp_row_set_bool(struct simbdp_row *row, const char *field, int value)
{
    return change(&(struct change){.row = row, .field = field, .type = BSON_TYPE_BOOL, .v.i = value != 0});
}

int simbdp_row_set_datetime(struct simbdp_row *row, const char *field, int64_t ms)
{
    return change(&(struct change){.row = row, .field = field, .type = BSON_TYPE_DATE_TIME, .v.i = ms});
}

int simbdp_row_set_null(struct simbdp_row *row, const char *field)
{
    return change(&(struct change){.row = row, .field = field, .type = BSON_TYPE_NULL});
}

int simbdp_row_remove(struct simbdp_row *row, const char *field)
{
    return change(&(struct change){.row = row, .field = field, .type = BSON_TYPE_EOD});
}

const char *simbdp_row_json(struct simbdp_row *row)
{
    if (mem_try(make_json, row))
        return row->json.p;
    run_no_memory(row->run);
    return NULL;
}

struct json_call {
    struct simbdp_row *row;
    const char *json;
    size_t size;
    int code;
};

/* The reader's check of a JSON record also holds for rows that are made one by one. */
static void read_json(void *arg)
{
    static const struct spec any = {.format = READER_JSON};
    struct json_call *c = arg;
    struct record rec = {.raw = c->json, .n = c->size};
    AUTO_BUF struct buf elements = {0};
    c->code = reader_json_row(&any, &rec, &elements) < 0 ? SIMBDP_USAGE : SIMBDP_OK;
    if (c->code)
        return;
    set_elements(c->row, &elements);
    c->row->changed = true;
}

int simbdp_row_set_json(struct simbdp_row *row, const char *json, size_t size)
{
    struct json_call c = {row, json, size, SIMBDP_OK};
    if (!utf8_valid(json, size) || memchr(json, 0, size))
        return SIMBDP_USAGE;
    return mem_try(read_json, &c) ? c.code : run_no_memory(row->run);
}

int64_t simbdp_row_line(const struct simbdp_row *row)
{
    return row->rec ? row->rec->line : 0;
}

int64_t simbdp_row_offset(const struct simbdp_row *row)
{
    return row->rec ? row->rec->offset : 0;
}

void simbdp_row_reject(struct simbdp_row *row, const char *why)
{
    snprintf(row->why, sizeof row->why, "%s", why ? why : "");
}
