#include "base/json.h"
#include "base/mem.h"
#include "run.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

void row_init(struct simbdp_row *row, struct simbdp *run, const struct buf *elements, const struct record *rec)
{
    AUTO_BUF struct buf room = {0};
    bson_t view;
    *row = (struct simbdp_row){.run = run, .rec = rec, .number = -1};
    bson_init(&row->doc);
    if (!elements)
        return;
    if (json_doc_of_elements(elements->p, elements->n, &room, &view)) {
        bson_destroy(&row->doc);
        bson_copy_to(&view, &row->doc);
    }
}

void row_fini(struct simbdp_row *row)
{
    bson_destroy(&row->doc);
    buf_fini(&row->json);
}

int row_call(void *arg, struct record *rec, struct buf *elements)
{
    struct row_call *c = arg;
    struct simbdp_row row;
    row_init(&row, c->run, elements, rec);
    enum simbdp_verdict v = c->fn(&row, c->arg);
    if (v == SIMBDP_STORE && row.changed) {
        elements->n = 0;
        buf_add(elements, bson_get_data(&row.doc) + 4, row.doc.len - 5);
    } else if (v != SIMBDP_STORE && v != SIMBDP_SKIP) {
        snprintf(c->why, sizeof c->why, "%s", *row.why ? row.why : "rejected by the app");
        rec->reject = c->why;
        rec->rule = "app";
    }
    row_fini(&row);
    return v == SIMBDP_STORE ? 0 : v == SIMBDP_SKIP ? 1 : ERR_FORMAT;
}

struct simbdp_row *simbdp_row_new(struct simbdp *run)
{
    struct simbdp_row *row = xcalloc(1, sizeof *row);
    row_init(row, run, NULL, NULL);
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

int simbdp_row_store(struct simbdp_row *row)
{
    struct simbdp *run = row->run;
    AUTO_BUF struct buf elements = {0};
    if (run->finished)
        err_set(&run->err, ERR_USAGE, "the run is finished");
    int code = run->finished ? SIMBDP_USAGE : run->failed ? run->failed : run->drain ? 0 : start(run);
    if (code == 0 && run->drain) {
        code = stream_store(run, bson_get_data(&row->doc) + 4, row->doc.len - 5);
    } else if (code == 0) {
        int64_t number = row->number >= 0 ? row->number : run->in.base;
        const char *text = simbdp_row_json(row);
        struct record rec = {.raw = text, .n = strlen(text), .offset = number - run->in.base};
        run->rows_one_by_one = true;
        run->in.report.parsed++;
        buf_add(&elements, bson_get_data(&row->doc) + 4, row->doc.len - 5);
        int r = ingest_row(&run->in, run->spec, &rec, 1, &elements, &run->err);
        run->in.base++;
        if (r < 0)
            code = run_fail(run, run_code(run, r));
    }
    simbdp_row_free(row);
    return code;
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

/* Puts the only element of `one` in the place of the field of its name; NULL removes the field. TAKE one. */
static int replace(struct simbdp_row *row, const char *field, bson_t *one)
{
    bson_t doc = BSON_INITIALIZER;
    bson_iter_t it, value;
    bool there = false, ok = true;
    bson_iter_init(&it, &row->doc);
    if (one)
        ok = bson_iter_init(&value, one) && bson_iter_next(&value);
    while (ok && bson_iter_next(&it)) {
        if (strcmp(bson_iter_key(&it), field)) {
            ok = bson_append_iter(&doc, NULL, 0, &it);
        } else {
            there = true;
            if (one)
                ok = bson_append_iter(&doc, NULL, 0, &value);
        }
    }
    if (ok && one && !there)
        ok = bson_append_iter(&doc, NULL, 0, &value);
    if (one)
        bson_destroy(one);
    if (!ok || doc.len > SINK_MAX_DOCUMENT || (!one && !there)) {
        bson_destroy(&doc);
        return !one && !there ? SIMBDP_NOT_FOUND : SIMBDP_USAGE;
    }
    bson_destroy(&row->doc);
    bson_steal(&row->doc, &doc);
    row->changed = true;
    return SIMBDP_OK;
}

static bool is_name(const char *field)
{
    return field && *field && *field != '$' && strcmp(field, "_id") && !strchr(field, '.') && utf8_valid(field, strlen(field));
}

#define SET(append)                                                                                                                \
    bson_t one = BSON_INITIALIZER;                                                                                                 \
    if (!is_name(field) || !(append)) {                                                                                            \
        bson_destroy(&one);                                                                                                        \
        return SIMBDP_USAGE;                                                                                                       \
    }                                                                                                                              \
    return replace(row, field, &one)

int simbdp_row_set_string(struct simbdp_row *row, const char *field, const char *value, size_t size)
{
    if (size > SINK_MAX_DOCUMENT || !utf8_valid(value, size))
        return SIMBDP_USAGE;
    SET(bson_append_utf8(&one, field, -1, value, (int)size));
}

int simbdp_row_set_int(struct simbdp_row *row, const char *field, int64_t value)
{
    SET(value >= INT32_MIN && value <= INT32_MAX ? bson_append_int32(&one, field, -1, (int32_t)value)
                                                 : bson_append_int64(&one, field, -1, value));
}

int simbdp_row_set_double(struct simbdp_row *row, const char *field, double value)
{
    SET(bson_append_double(&one, field, -1, value));
}

int simbdp_row_set_bool(struct simbdp_row *row, const char *field, int value)
{
    SET(bson_append_bool(&one, field, -1, value != 0));
}

int simbdp_row_set_datetime(struct simbdp_row *row, const char *field, int64_t ms)
{
    SET(bson_append_date_time(&one, field, -1, ms));
}

int simbdp_row_set_null(struct simbdp_row *row, const char *field)
{
    SET(bson_append_null(&one, field, -1));
}

int simbdp_row_remove(struct simbdp_row *row, const char *field)
{
    return field ? replace(row, field, NULL) : SIMBDP_USAGE;
}

const char *simbdp_row_json(struct simbdp_row *row)
{
    row->json.n = 0;
    json_from_bson(&row->doc, &row->json);
    return row->json.p;
}

/* The reader's own check of a JSON record: what it takes, a row may be. */
int simbdp_row_set_json(struct simbdp_row *row, const char *json, size_t size)
{
    static const struct spec any = {.format = READER_JSON};
    struct record rec = {.raw = json, .n = size};
    AUTO_BUF struct buf elements = {0};
    struct simbdp_row fresh;
    if (!utf8_valid(json, size) || memchr(json, 0, size) || reader_json_row(&any, &rec, &elements) < 0)
        return SIMBDP_USAGE;
    row_init(&fresh, row->run, &elements, NULL);
    bson_destroy(&row->doc);
    bson_steal(&row->doc, &fresh.doc);
    row->changed = true;
    return SIMBDP_OK;
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
