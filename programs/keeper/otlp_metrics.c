#include "otlp_metrics.h"
#include "otlp_json.h"

#include "base/mem.h"

#include <math.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LABELS = 16, MAX_BOUNDS = 64, MAX_NAME = 200, POINTS = 500, POINTS_BYTES = 32 << 10, MISSES = 10, FIRST_ROOM = 1024 };

/* What was last seen of a counter or histogram; hash 0: none. */
struct series {
    uint64_t hash;
    double value;
    int64_t start_ms;
    int misses; /* times that it was not there */
};

/* By hash, open addressing; `room` is a power of two, and at most half of it is used. */
struct table {
    struct series *v;
    size_t n, room;
};

struct label {
    const char *name;
    char *value; /* into `text` */
};

struct labels {
    struct label v[MAX_LABELS];
    size_t n;
    struct buf text;
};

/* The buckets of a histogram that have come so far. */
struct histogram {
    double bounds[MAX_BOUNDS], sum;
    uint64_t below[MAX_BOUNDS + 1];
    size_t n; /* buckets */
    bool bad;
    struct buf exemplars;
    size_t n_exemplars;
};

enum type { NONE, GAUGE, COUNTER, HISTOGRAM };

struct otlp_metrics {
    unsigned char key[crypto_shorthash_KEYBYTES];
    struct table seen;
    int64_t last_ms; /* 0: nothing was written yet */
    /* of the text that is being read */
    struct table next;
    int64_t now_ms;
    otlp_metrics_fn *fn;
    void *arg;
    char family[MAX_NAME], unit[16];
    struct buf help, points;
    enum type type;
    int64_t n_points;
    struct labels labels;
    struct histogram hist;
};

struct otlp_metrics *otlp_metrics_new(void)
{
    struct otlp_metrics *m = xcalloc(1, sizeof *m);
    crypto_shorthash_keygen(m->key);
    return m;
}

void otlp_metrics_free(struct otlp_metrics *m)
{
    if (!m)
        return;
    free(m->seen.v);
    buf_fini(&m->help);
    buf_fini(&m->points);
    buf_fini(&m->labels.text);
    buf_fini(&m->hist.exemplars);
    free(m);
}

/* ---- since when a series counts ---- */

/* Where it is, or where it would be. */
static struct series *slot(const struct table *t, uint64_t hash)
{
    size_t i = hash & (t->room - 1);
    while (t->v[i].hash && t->v[i].hash != hash)
        i = (i + 1) & (t->room - 1);
    return &t->v[i];
}

static void put(struct table *t, const struct series *s)
{
    if (t->n * 2 >= t->room) {
        struct table bigger = {.room = t->room ? t->room * 2 : FIRST_ROOM};
        bigger.v = xcalloc(bigger.room, sizeof *bigger.v);
        for (size_t i = 0; i < t->room; i++)
            if (t->v[i].hash)
                *slot(&bigger, t->v[i].hash) = t->v[i];
        bigger.n = t->n;
        free(t->v);
        *t = bigger;
    }
    struct series *at = slot(t, s->hash);
    t->n += !at->hash;
    *at = *s;
}

/* One that is new began after the last time, when it was not there. */
static int64_t start_of(struct otlp_metrics *m, const char *name, size_t n, double value)
{
    struct series s = {.value = value, .start_ms = m->last_ms ? m->last_ms : m->now_ms};
    unsigned char hash[crypto_shorthash_BYTES];
    crypto_shorthash(hash, (const unsigned char *)name, n, m->key);
    memcpy(&s.hash, hash, sizeof s.hash);
    s.hash |= 1;
    const struct series *before = m->seen.room ? slot(&m->seen, s.hash) : NULL;
    if (before && before->hash && value >= before->value)
        s.start_ms = before->start_ms;
    put(&m->next, &s);
    return s.start_ms;
}

/* What was not there this time is remembered for a while: its program may not have answered. */
static void turn_over(struct otlp_metrics *m)
{
    for (size_t i = 0; i < m->seen.room; i++) {
        struct series s = m->seen.v[i];
        if (!s.hash || ++s.misses > MISSES || (m->next.room && slot(&m->next, s.hash)->hash))
            continue;
        put(&m->next, &s);
    }
    free(m->seen.v);
    m->seen = m->next;
    m->next = (struct table){0};
    m->last_ms = m->now_ms;
}

/* ---- what is written ---- */

static void flush(struct otlp_metrics *m)
{
    static const char *const kinds[] = {[GAUGE] = "gauge", [COUNTER] = "sum", [HISTOGRAM] = "histogram"};
    AUTO_BUF struct buf b = {0};
    if (!m->n_points)
        return;
    json_begin(&b, NULL, '{');
    json_str(&b, "name", m->family);
    json_str(&b, "description", m->help.n ? m->help.p : "");
    if (*m->unit)
        json_str(&b, "unit", m->unit);
    json_begin(&b, kinds[m->type], '{');
    json_begin(&b, "dataPoints", '[');
    buf_add(&b, m->points.p, m->points.n);
    json_end(&b, ']');
    if (m->type != GAUGE)
        json_i64(&b, "aggregationTemporality", 2); /* cumulative */
    if (m->type == COUNTER)
        json_bool(&b, "isMonotonic", true);
    json_end(&b, '}');
    json_end(&b, '}');
    m->fn(m->arg, b.p, m->n_points);
    buf_reset(&m->points);
    m->n_points = 0;
}

static void add_attributes(struct buf *b, const char *key, const struct labels *l)
{
    json_begin(b, key, '[');
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->v[i].name, "le") != 0)
            otlp_str(b, l->v[i].name, l->v[i].value);
    json_end(b, ']');
}

static void end_point(struct otlp_metrics *m, const struct buf *point)
{
    buf_adds(&m->points, m->n_points ? "," : "");
    buf_add(&m->points, point->p, point->n);
    if (++m->n_points == POINTS || m->points.n > POINTS_BYTES)
        flush(m);
}

static void begin_point(struct otlp_metrics *m, struct buf *b, int64_t start_ms)
{
    json_begin(b, NULL, '{');
    add_attributes(b, "attributes", &m->labels);
    if (start_ms)
        otlp_nanos(b, "startTimeUnixNano", start_ms);
    otlp_nanos(b, "timeUnixNano", m->now_ms);
}

static void add_number(struct otlp_metrics *m, const char *series, size_t n, double value)
{
    AUTO_BUF struct buf b = {0};
    begin_point(m, &b, m->type == COUNTER ? start_of(m, series, n, value) : 0);
    json_f64(&b, "asDouble", value);
    json_end(&b, '}');
    end_point(m, &b);
}

static void reset_histogram(struct histogram *h)
{
    struct buf exemplars = h->exemplars;
    buf_reset(&exemplars);
    *h = (struct histogram){.exemplars = exemplars};
}

/* The last bucket is that without a bound, and has all. */
static bool is_whole(const struct histogram *h, double count)
{
    bool whole = h->n > 0 && !h->bad && isinf(h->bounds[h->n - 1]) && (double)h->below[h->n - 1] == count;
    for (size_t i = 1; whole && i < h->n; i++)
        whole = h->bounds[i] > h->bounds[i - 1] && h->below[i] >= h->below[i - 1];
    return whole;
}

static void add_histogram(struct otlp_metrics *m, const char *series, size_t n, double count)
{
    AUTO_BUF struct buf b = {0};
    const struct histogram *h = &m->hist;
    if (!is_whole(h, count))
        return;
    begin_point(m, &b, start_of(m, series, n, count));
    otlp_u64(&b, "count", h->below[h->n - 1]);
    json_f64(&b, "sum", h->sum);
    json_begin(&b, "bucketCounts", '[');
    for (size_t i = 0; i < h->n; i++)
        otlp_u64(&b, NULL, h->below[i] - (i ? h->below[i - 1] : 0));
    json_end(&b, ']');
    json_begin(&b, "explicitBounds", '[');
    for (size_t i = 0; i + 1 < h->n; i++)
        json_f64(&b, NULL, h->bounds[i]);
    json_end(&b, ']');
    if (h->n_exemplars) {
        json_begin(&b, "exemplars", '[');
        buf_add(&b, h->exemplars.p, h->exemplars.n);
        json_end(&b, ']');
    }
    json_end(&b, '}');
    end_point(m, &b);
}

/* ---- what is read ---- */

/* Of `{name="value",…}`; the text behind it, or NULL: it is none. Values are in l->text, which stays where it is. */
static const char *read_labels(struct labels *l, const char *p, const char *end)
{
    size_t starts[MAX_LABELS];
    l->n = 0;
    buf_reset(&l->text);
    if (p == end || *p != '{')
        return p;
    for (p++; p < end && *p != '}'; p += p < end && *p == ',') {
        const char *equals = memchr(p, '=', (size_t)(end - p));
        if (!equals || equals + 1 >= end || equals[1] != '"' || l->n == MAX_LABELS)
            return NULL;
        starts[l->n++] = l->text.n;
        buf_add(&l->text, p, (size_t)(equals - p));
        buf_add(&l->text, "", 1);
        for (p = equals + 2; p < end && *p != '"'; p++) {
            bool escaped = *p == '\\' && p + 1 < end;
            p += escaped;
            buf_add(&l->text, escaped && *p == 'n' ? "\n" : p, 1);
        }
        buf_add(&l->text, "", 1);
        if (p++ >= end)
            return NULL;
    }
    for (size_t i = 0; i < l->n; i++) {
        l->v[i].name = l->text.p + starts[i];
        l->v[i].value = l->text.p + starts[i] + strlen(l->v[i].name) + 1;
    }
    return p < end ? p + 1 : NULL;
}

/* A number at the beginning, behind blanks; NAN: there is none. *p is behind it. Lines end with a zero byte here. */
static double read_number(const char **p)
{
    char *end;
    double v = strtod(*p, &end);
    bool any = end != *p;
    *p = end;
    return any ? v : NAN;
}

/* ` # {name="value"} observed at_s`, behind a bucket's count. */
static void read_exemplar(struct histogram *h, const char *p, const char *end)
{
    AUTO_BUF struct buf b = {0};
    struct labels l = {0};
    p = p + 3 < end && !strncmp(p, " # ", 3) ? read_labels(&l, p + 3, end) : NULL;
    double observed = p ? read_number(&p) : NAN, at_s = p ? read_number(&p) : NAN;
    if (isfinite(observed) && at_s > 0 && at_s < 1e11) {
        json_begin(&b, NULL, '{');
        add_attributes(&b, "filteredAttributes", &l);
        otlp_nanos(&b, "timeUnixNano", (int64_t)(at_s * 1000 + 0.5));
        json_f64(&b, "asDouble", observed);
        json_end(&b, '}');
        buf_adds(&h->exemplars, h->n_exemplars++ ? "," : "");
        buf_add(&h->exemplars, b.p, b.n);
    }
    buf_fini(&l.text);
}

static void read_bucket(struct otlp_metrics *m, double value, const char *p, const char *end)
{
    struct histogram *h = &m->hist;
    const char *le = NULL;
    for (size_t i = 0; i < m->labels.n; i++)
        if (!strcmp(m->labels.v[i].name, "le"))
            le = m->labels.v[i].value;
    if (!le || h->n > MAX_BOUNDS - 1 || !(value >= 0 && value < 1e18)) {
        h->bad = true;
        return;
    }
    h->bounds[h->n] = strtod(le, NULL);
    h->below[h->n++] = (uint64_t)value;
    read_exemplar(h, p, end);
}

/* A sample of the family whose head came before it. */
static void read_sample(struct otlp_metrics *m, const char *line, const char *end)
{
    const size_t n_family = strlen(m->family), n_name = strcspn(line, "{ ");
    if (m->type == NONE || n_name < n_family || memcmp(line, m->family, n_family) != 0)
        return;
    AUTO_FREE char *suffix = xstrndup(line + n_family, n_name - n_family);
    const char *p = read_labels(&m->labels, line + n_name, end);
    const size_t n_series = p ? (size_t)(p - line) : 0;
    double value = p ? read_number(&p) : NAN;
    if (!isfinite(value))
        return;
    if ((m->type == GAUGE && !*suffix) || (m->type == COUNTER && !strcmp(suffix, "_total"))) {
        add_number(m, line, n_series, value);
    } else if (m->type == HISTOGRAM && !strcmp(suffix, "_bucket")) {
        read_bucket(m, value, p, end);
    } else if (m->type == HISTOGRAM && !strcmp(suffix, "_sum")) {
        m->hist.sum = value;
    } else if (m->type == HISTOGRAM && !strcmp(suffix, "_count")) {
        add_histogram(m, line, n_series, value);
        reset_histogram(&m->hist);
    }
}

/* `# TYPE name type`, `# UNIT name unit`, `# HELP name text`. */
static void read_head(struct otlp_metrics *m, const char *line)
{
    const char *name = line + 7, *rest = name + strcspn(name, " ");
    const size_t n = (size_t)(rest - name);
    rest += *rest == ' ';
    if (!strncmp(line, "# TYPE ", 7)) {
        flush(m);
        reset_histogram(&m->hist);
        buf_reset(&m->help);
        *m->unit = 0;
        m->type = n >= sizeof m->family        ? NONE
                  : !strcmp(rest, "gauge")     ? GAUGE
                  : !strcmp(rest, "counter")   ? COUNTER
                  : !strcmp(rest, "histogram") ? HISTOGRAM
                                               : NONE;
        memcpy(m->family, name, m->type ? n : 0);
        m->family[m->type ? n : 0] = 0;
    } else if (n == strlen(m->family) && !memcmp(name, m->family, n) && !strncmp(line, "# HELP ", 7)) {
        buf_reset(&m->help);
        buf_adds(&m->help, rest);
    } else if (n == strlen(m->family) && !memcmp(name, m->family, n) && !strncmp(line, "# UNIT ", 7)) {
        strcpy(m->unit, !strcmp(rest, "seconds") ? "s" : !strcmp(rest, "bytes") ? "By" : ""); /* UCUM's */
    }
}

void otlp_metrics_write(struct otlp_metrics *m, const char *text, size_t n, int64_t wall_ms, otlp_metrics_fn *fn, void *arg)
{
    AUTO_BUF struct buf line = {0};
    m->now_ms = wall_ms;
    m->fn = fn;
    m->arg = arg;
    m->type = NONE;
    for (const char *p = text, *end = text + n, *lf; p < end; p = lf + 1) {
        lf = memchr(p, '\n', (size_t)(end - p));
        if (!lf)
            break;
        buf_reset(&line);
        buf_add(&line, p, (size_t)(lf - p));
        buf_add(&line, "", 1);
        if (!strncmp(line.p, "# ", 2) && line.n > 8)
            read_head(m, line.p);
        else if (*line.p != '#')
            read_sample(m, line.p, line.p + strlen(line.p));
    }
    flush(m);
    turn_over(m);
}
