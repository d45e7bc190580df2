#include "prom.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const types[] = {"gauge", "counter", "histogram"};

void prom_init(struct prom *p, struct buf *out, bool open_metrics, size_t max_bytes)
{
    *p = (struct prom){.out = out, .open_metrics = open_metrics, .max_bytes = max_bytes, .from = out->n};
}

void prom_family(struct prom *p, const struct prom_family *f)
{
    p->family = f;
    p->begun = false;
}

static bool ends_with(const char *s, size_t n, const char *end)
{
    size_t k = strlen(end);
    return n > k && !memcmp(s + n - k, end, k);
}

/* OpenMetrics names a counter's family without _total, and says the unit. */
static void begin(struct prom *p)
{
    static const char *const units[] = {"seconds", "bytes"};
    const struct prom_family *f = p->family;
    size_t n = strlen(f->name);
    if (p->begun)
        return;
    p->begun = true;
    if (p->open_metrics && f->type == PROM_COUNTER && ends_with(f->name, n, "_total"))
        n -= strlen("_total");
    buf_addf(p->out, "# TYPE %.*s %s\n", (int)n, f->name, types[f->type]);
    for (size_t i = 0; p->open_metrics && i < sizeof units / sizeof *units; i++)
        if (ends_with(f->name, n, units[i]))
            buf_addf(p->out, "# UNIT %.*s %s\n", (int)n, f->name, units[i]);
    buf_addf(p->out, "# HELP %.*s %s\n", (int)n, f->name, f->help);
}

static bool has_room(struct prom *p)
{
    bool room = p->out->n - p->from < p->max_bytes;
    p->n_left_out += !room;
    return room;
}

static void add_char(struct buf *b, char c)
{
    buf_add(b, &c, 1);
}

void prom_label(struct buf *labels, const char *name, const char *value)
{
    const unsigned char *p = (const unsigned char *)value;
    size_t n = strlen(value);
    if (labels->n)
        add_char(labels, ',');
    buf_adds(labels, name);
    buf_adds(labels, "=\"");
    while (n) {
        size_t len = utf8_len(p, n);
        if (*p == '\n')
            buf_adds(labels, "\\n");
        else if (*p == '"' || *p == '\\')
            buf_addf(labels, "\\%c", *p);
        else if (len)
            buf_add(labels, p, len);
        else
            buf_adds(labels, "\xef\xbf\xbd");
        len = len ? len : 1;
        p += len;
        n -= len;
    }
    add_char(labels, '"');
}

/* Most figures are counts, and there may be very many. */
static void add_number(struct buf *b, double v)
{
    char text[32], *end = text + sizeof text, *at = end;
    if (v < 0 || v >= 1e15 || v != floor(v)) {
        if (isinf(v))
            buf_adds(b, v > 0 ? "+Inf" : "-Inf");
        else
            buf_addf(b, "%.12g", v);
        return;
    }
    uint64_t n = (uint64_t)v;
    do
        *--at = (char)('0' + n % 10);
    while (n /= 10);
    buf_add(b, at, (size_t)(end - at));
}

static char *put(char *at, const char *s, size_t n)
{
    if (n)
        memcpy(at, s, n);
    return at + n;
}

/* suffix of the name, and the last label (le) or NULL. Room is made once: there are very many series. */
static void add_series(struct prom *p, const char *suffix, const char *labels, const char *le)
{
    struct buf *b = p->out;
    const size_t n_name = strlen(p->family->name), n_suffix = strlen(suffix), n_labels = labels ? strlen(labels) : 0,
                 n_le = le ? strlen(le) : 0;
    buf_reserve(b, n_name + n_suffix + n_labels + n_le + sizeof "{,le=\"\"} ");
    char *at = b->p + b->n;
    at = put(at, p->family->name, n_name);
    at = put(at, suffix, n_suffix);
    if (n_labels || le) {
        *at++ = '{';
        at = put(at, labels, n_labels);
        if (le) {
            at = n_labels ? put(at, ",le=\"", 5) : put(at, "le=\"", 4);
            at = put(at, le, n_le);
            *at++ = '"';
        }
        *at++ = '}';
    }
    *at++ = ' ';
    *at = 0;
    b->n = (size_t)(at - b->p);
}

void prom_sample(struct prom *p, const char *labels, double value)
{
    if (isnan(value) || !has_room(p))
        return;
    begin(p);
    add_series(p, "", labels, NULL);
    add_number(p->out, value);
    add_char(p->out, '\n');
}

static void add_exemplar(struct buf *b, const struct prom_exemplar *x)
{
    AUTO_BUF struct buf label = {0};
    prom_label(&label, x->name, x->value);
    buf_addf(b, " # {%s} %.12g %lld.%03d", label.p, x->observed, (long long)(x->wall_ms / 1000), (int)(x->wall_ms % 1000));
}

void prom_histogram(struct prom *p, const char *labels, const struct prom_bound *bounds, size_t n, const uint64_t *counts,
                    double sum, const struct prom_exemplar *exemplar)
{
    uint64_t below = 0, all = 0;
    for (size_t i = 0; i <= n; i++)
        all += counts[i];
    if (!all || !has_room(p))
        return;
    begin(p);
    for (size_t i = 0; i <= n; i++) {
        bool holds = exemplar && exemplar->wall_ms >= 0 && p->open_metrics && (i == n || exemplar->observed <= bounds[i].at) &&
                     (!i || exemplar->observed > bounds[i - 1].at);
        below += counts[i];
        add_series(p, "_bucket", labels, i < n ? bounds[i].text : "+Inf");
        add_number(p->out, (double)below);
        if (holds)
            add_exemplar(p->out, exemplar);
        add_char(p->out, '\n');
    }
    add_series(p, "_sum", labels, NULL);
    add_number(p->out, sum);
    buf_adds(p->out, "\n");
    add_series(p, "_count", labels, NULL);
    add_number(p->out, (double)all);
    add_char(p->out, '\n');
}
