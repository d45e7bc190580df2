#include "report.h"

#include "base/clk.h"
#include "base/hist.h"
#include "base/json.h"
#include "base/le.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STALE_MS = 60000, FUTURE_MS = 5000 };

#define MAX_FIGURE 1e15 /* what a double counts exactly, and no app reaches */

const char *report_refusal_name(enum report_refusal r)
{
    static const char *const names[] = {
#define X(name) #name,
        REPORT_REFUSALS(X)
#undef X
    };
    return names[r];
}

struct reading {
    int64_t now_ms;
    struct report *out;
    enum report_refusal *why;
    struct err *e;
};

static int refuse(struct reading *r, enum report_refusal why, const char *field, const char *what)
{
    *r->why = why;
    return err_set(r->e, ERR_FORMAT, "%s: %s", field, what);
}

/* ---- values ---- */

static bool is_no_number(const char *s)
{
    return !strcasecmp(s, "nan") || !strcasecmp(s, "infinity") || !strcasecmp(s, "-infinity");
}

static int figure(struct reading *r, const bson_iter_t *it, double *ret)
{
    const char *key = bson_iter_key(it);
    double v;
    switch (bson_iter_type_unsafe(it)) { /* the one value that a report has many of */
    case BSON_TYPE_DOUBLE:
        v = bson_iter_double_unsafe(it);
        break;
    case BSON_TYPE_INT32:
        v = bson_iter_int32_unsafe(it);
        break;
    case BSON_TYPE_INT64:
        v = (double)bson_iter_int64_unsafe(it);
        break;
    case BSON_TYPE_NULL:
        return 0;
    case BSON_TYPE_UTF8: /* extended JSON has no other way for these in text */
        if (is_no_number(bson_iter_utf8(it, NULL)))
            return refuse(r, REPORT_not_a_number, key, "not a number");
        __attribute__((fallthrough));
    default:
        return refuse(r, REPORT_malformed, key, "a number is expected");
    }
    if (!isfinite(v))
        return refuse(r, REPORT_not_a_number, key, "not a number");
    if (v < 0)
        return refuse(r, REPORT_negative, key, "below zero");
    if (v > MAX_FIGURE)
        return refuse(r, REPORT_huge, key, "larger than any real figure");
    *ret = v;
    return 0;
}

/* may_cut: what goes wrong is told, but is no reason to lose the figures. */
static int text(struct reading *r, const bson_iter_t *it, bool may_cut, char *ret, size_t size)
{
    uint32_t n;
    if (BSON_ITER_HOLDS_NULL(it))
        return 0;
    if (!BSON_ITER_HOLDS_UTF8(it))
        return refuse(r, REPORT_malformed, bson_iter_key(it), "a string is expected");
    const char *s = bson_iter_utf8(it, &n);
    if (!may_cut && (n >= size || strlen(s) != n))
        return refuse(r, REPORT_huge, bson_iter_key(it), "the string is too long");
    n = (uint32_t)strnlen(s, n < size - 1 ? n : size - 1);
    while (n && (s[n] & 0xc0) == 0x80)
        n--;
    memcpy(ret, s, n);
    ret[n] = 0;
    return 0;
}

/* Seconds or milliseconds since 1970, a BSON date, or the text of one; Python's str(datetime) is taken for UTC. */
static int moment(struct reading *r, const bson_iter_t *it, int64_t *ret)
{
    double v = 0;
    if (BSON_ITER_HOLDS_NULL(it))
        return 0;
    if (BSON_ITER_HOLDS_DATE_TIME(it)) {
        *ret = bson_iter_date_time(it);
        return *ret > 0 ? 0 : refuse(r, REPORT_malformed, bson_iter_key(it), "no time of this century");
    }
    if (BSON_ITER_HOLDS_UTF8(it)) {
        char s[CLK_RFC3339_SIZE] = {0}, *fraction;
        uint32_t n;
        const char *p = bson_iter_utf8(it, &n);
        if (n >= sizeof s || strlen(p) != n)
            return refuse(r, REPORT_malformed, bson_iter_key(it), "no time");
        memcpy(s, p, n);
        if (n > 10 && s[10] == ' ')
            s[10] = 'T';
        fraction = strchr(s, '.');
        size_t digits = fraction ? strspn(fraction + 1, "0123456789") : 0;
        if (digits > 3)
            memmove(fraction + 4, fraction + 1 + digits, strlen(fraction + 1 + digits) + 1);
        if (n > 10 && !strpbrk(s + 11, "Z+-z"))
            strncat(s, "Z", sizeof s - strlen(s) - 1);
        return clk_parse(s, ret) == 0 && *ret > 0 ? 0 : refuse(r, REPORT_malformed, bson_iter_key(it), "no time");
    }
    int e = figure(r, it, &v);
    if (e == 0)
        *ret = (int64_t)(v < 1e11 ? v * 1000 : v);
    return e;
}

/* ---- the objects in it ---- */

static int buckets(struct reading *r, const bson_iter_t *it)
{
    bson_iter_t pair, value;
    double last = -1;
    if (BSON_ITER_HOLDS_NULL(it))
        return 0;
    if (!BSON_ITER_HOLDS_ARRAY(it) || !bson_iter_recurse(it, &pair))
        return refuse(r, REPORT_malformed, "histogram", "an array of [bucket, count] is expected");
    r->out->n_buckets = 0; /* BSON may have a key twice */
    while (bson_iter_next(&pair)) {
        double v[2] = {0};
        int n = 0;
        if (!BSON_ITER_HOLDS_ARRAY(&pair) || !bson_iter_recurse(&pair, &value))
            return refuse(r, REPORT_malformed, "histogram", "an array of [bucket, count] is expected");
        for (; n < 2 && bson_iter_next(&value); n++) {
            int e = BSON_ITER_HOLDS_NULL(&value) ? refuse(r, REPORT_malformed, "histogram", "a number is expected")
                                                 : figure(r, &value, &v[n]);
            if (e < 0)
                return e;
        }
        if (n != 2 || bson_iter_next(&value) || v[0] != floor(v[0]) || v[0] <= last)
            return refuse(r, REPORT_malformed, "histogram", "pairs of [bucket, count] in order are expected");
        if (v[0] >= HIST_BUCKETS)
            return refuse(r, REPORT_huge, "histogram", "there is no such bucket");
        last = v[0];
        r->out->buckets[r->out->n_buckets].bucket = (uint16_t)v[0];
        r->out->buckets[r->out->n_buckets++].n = (uint64_t)v[1];
    }
    return 0;
}

enum kind { FIGURE, TEXT, SHORTENED, MOMENT, BUCKETS };

struct field {
    const char *name;
    enum kind kind;
    size_t offset, size;
};

#define AT(name, kind, member)                                                                                                     \
    {                                                                                                                              \
        name, kind, offsetof(struct report, member), sizeof((struct report *)NULL)->member                                         \
    }
static const struct field metric_fields[] = {
    AT("processing_rate", FIGURE, processing_rate),         AT("throughput", FIGURE, throughput),
    AT("average_ingestion_time", FIGURE, average_s),        AT("total_ingestion_data_size", FIGURE, total_mb),
    AT("total_number_of_messages", FIGURE, total_messages), {NULL, FIGURE, 0, 0}};
static const struct field timeframe_fields[] = {AT("ingestion_start_time", MOMENT, began_ms),
                                                AT("measurement_start_time", MOMENT, from_ms),
                                                AT("measurement_end_time", MOMENT, to_ms),
                                                {NULL, MOMENT, 0, 0}};
static const struct field origin_fields[] = {AT("streaming_app_id", TEXT, app), AT("tenant_id", TEXT, tenant), {NULL, TEXT, 0, 0}};
static const struct field counter_fields[] = {AT("messages", FIGURE, messages),  AT("bytes", FIGURE, bytes),
                                              AT("errors", FIGURE, errors),      AT("busy_s", FIGURE, busy_s),
                                              AT("histogram", BUCKETS, buckets), {NULL, FIGURE, 0, 0}};
static const struct field own_fields[] = {
    AT("instance_id", TEXT, instance), AT("boot_id", TEXT, boot), AT("error", SHORTENED, error), {NULL, TEXT, 0, 0}};

static int take(struct reading *r, const struct field *f, const bson_iter_t *it)
{
    char *at = (char *)r->out + f->offset;
    switch (f->kind) {
    case FIGURE:
        return figure(r, it, (double *)(void *)at);
    case TEXT:
    case SHORTENED:
        return text(r, it, f->kind == SHORTENED, at, f->size);
    case MOMENT:
        return moment(r, it, (int64_t *)(void *)at);
    default:
        return buckets(r, it);
    }
}

/* Senders keep to one order, mostly the schema's: it is looked on behind *at, the last one that was found, first. */
static const struct field *find(const struct field *v, const struct field **at, const char *key)
{
    const struct field *f = *at;
    while (f->name && strcmp(f->name, key) != 0)
        f++;
    for (; !f->name && v < *at; v++)
        if (!strcmp(v->name, key))
            f = v;
    if (!f->name)
        return NULL;
    *at = f + 1;
    return f;
}

/* Fields that are not known are a later version's, or the app's own. */
static int object(struct reading *r, const bson_iter_t *it, const struct field *fields)
{
    const struct field *last = fields;
    bson_iter_t at;
    int e = 0;
    if (!BSON_ITER_HOLDS_DOCUMENT(it) || !bson_iter_recurse(it, &at))
        return refuse(r, REPORT_malformed, bson_iter_key(it), "an object is expected");
    while (e == 0 && bson_iter_next(&at)) {
        const struct field *f = find(fields, &last, bson_iter_key(&at));
        e = f ? take(r, f, &at) : 0;
    }
    return e;
}

static int top(struct reading *r, const bson_iter_t *it)
{
    static const struct {
        const char *name;
        const struct field *fields;
    } objects[] = {
        {"metrics", metric_fields}, {"timeframe", timeframe_fields}, {"origin", origin_fields}, {"counters", counter_fields}};
    const char *key = bson_iter_key(it);
    double seq = -1;
    for (size_t i = 0; i < sizeof objects / sizeof *objects; i++)
        if (!strcmp(key, objects[i].name))
            return object(r, it, objects[i].fields);
    if (!strcmp(key, "seq")) {
        int e = figure(r, it, &seq);
        if (e == 0)
            r->out->seq = (int64_t)seq;
        return e;
    }
    const struct field *first = own_fields, *f = find(own_fields, &first, key);
    return f ? take(r, f, it) : 0;
}

static int check_times(struct reading *r)
{
    const struct report *p = r->out;
    if (p->to_ms && p->to_ms < r->now_ms - STALE_MS)
        return refuse(r, REPORT_stale, "measurement_end_time", "more than a minute ago (times are UTC)");
    if (p->to_ms > r->now_ms + FUTURE_MS || p->from_ms > r->now_ms + FUTURE_MS || p->began_ms > r->now_ms + FUTURE_MS)
        return refuse(r, REPORT_future, "timeframe", "a time that is still to come (times are UTC)");
    if (p->to_ms && p->from_ms > p->to_ms)
        return refuse(r, REPORT_malformed, "timeframe", "the measurement ends before it starts");
    return 0;
}

static int read_all(struct reading *r, const bson_t *doc)
{
    bson_iter_t it;
    int e = 0;
    if (!bson_iter_init(&it, doc))
        return refuse(r, REPORT_malformed, "report", "no object");
    while (e == 0 && bson_iter_next(&it))
        e = top(r, &it);
    if (e == 0 && it.err_off)
        e = refuse(r, REPORT_malformed, "report", "damaged BSON");
    return e < 0 ? e : check_times(r);
}

int report_parse(const void *p, size_t n, int64_t now_ms, struct report *ret, enum report_refusal *ret_why, struct err *e)
{
    struct reading r = {now_ms, ret, ret_why, e};
    bson_t view;
    ret->tenant[0] = ret->app[0] = ret->instance[0] = ret->boot[0] = ret->error[0] = 0;
    ret->seq = -1;
    ret->processing_rate = ret->throughput = ret->average_s = ret->total_mb = ret->total_messages = NAN;
    ret->messages = ret->bytes = ret->errors = ret->busy_s = NAN;
    ret->began_ms = ret->from_ms = ret->to_ms = 0;
    ret->n_buckets = 0;
    if (n > REPORT_MAX_BYTES)
        return refuse(&r, REPORT_huge, "report", "more than 64 KiB");
    if (n >= 5 && le_u32(p) == n && !((const char *)p)[n - 1]) { /* no text ends with a NUL */
        if (!bson_init_static(&view, p, n) || !bson_validate(&view, BSON_VALIDATE_UTF8, NULL))
            return refuse(&r, REPORT_malformed, "report", "damaged BSON");
        return read_all(&r, &view);
    }
    const char *first = p;
    while (first < (const char *)p + n && strchr(" \t\r\n", *first))
        first++;
    if (first == (const char *)p + n || *first != '{')
        return refuse(&r, REPORT_malformed, "report", "no JSON object, and no BSON");
    static bson_t doc = BSON_INITIALIZER; /* its memory is used again */
    bson_reinit(&doc);
    if (json_read(p, n, &doc, e) < 0) {
        bson_destroy(&doc);
        bson_init(&doc);
        *ret_why = REPORT_malformed;
        return ERR_FORMAT;
    }
    return read_all(&r, &doc);
}
