/* The window holds the input from the start of the current record on. A record is split in place when it is complete;
 * otherwise the window grows (at most to max_row_bytes + one block) and the record is scanned again, so the cost stays
 * linear. An unclosed quote that reaches the cap or the end of the file makes its first line a damaged record, and
 * reading goes on at the line after it. */
#include "reader.h"
#include "common/buf.h"
#include "common/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 256 << 10, MAX_COLUMNS = 65536 };
enum split { SPLIT_DONE, SPLIT_MORE };

struct reader {
    struct src *src;
    enum reader_format format;
    size_t max_row;
    char *win;
    size_t at, n, cap; /* current record starts at win + at; n is the end of what was read */
    bool end, started, cr_only, skip_to_line_end;
    bool in_array, array_closed, array_first;
    int64_t offset, line; /* of win + at */
    struct cell *cells;
    size_t n_cells, cap_cells;
    struct buf arena; /* unescaped quoted cells; cells point into it by offset until split is done */
    char **columns;
    size_t n_columns;
};

struct reader *reader_new(struct src *s, enum reader_format f, int64_t max_row_bytes)
{
    struct reader *r = xcalloc(1, sizeof *r);
    r->src = s;
    r->format = f;
    r->max_row = max_row_bytes < 0 || max_row_bytes > READER_MAX_ROW_BYTES ? READER_MAX_ROW_BYTES : (size_t)max_row_bytes;
    r->line = 1;
    return r;
}

void reader_free(struct reader *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->n_columns; i++)
        free(r->columns[i]);
    free(r->columns);
    free(r->cells);
    free(r->win);
    buf_fini(&r->arena);
    free(r);
}

size_t reader_n_columns(const struct reader *r)
{
    return r->n_columns;
}

int64_t reader_offset(const struct reader *r)
{
    return r->offset;
}

static int grow(struct reader *r, struct err *e)
{
    if (r->at > 0 && (r->at == r->n || r->at >= BLOCK)) {
        memmove(r->win, r->win + r->at, r->n - r->at);
        r->n -= r->at;
        r->at = 0;
    }
    if (r->cap - r->n < BLOCK) {
        r->cap = r->cap * 2 > r->n + BLOCK ? r->cap * 2 : r->n + BLOCK;
        r->win = xrealloc(r->win, r->cap);
    }
    ssize_t got = src_read(r->src, r->win + r->n, r->cap - r->n, e);
    if (got < 0)
        return (int)got;
    r->n += (size_t)got;
    r->end = got == 0;
    return 0;
}

/* Moves the start of the record by n bytes, counting lines. */
static void advance(struct reader *r, size_t n)
{
    const char *p = r->win + r->at, *end = p + n;
    char eol = r->cr_only ? '\r' : '\n';
    while (p < end && (p = memchr(p, eol, (size_t)(end - p)))) {
        r->line++;
        p++;
    }
    r->at += n;
    r->offset += (int64_t)n;
}

static bool is_eol(const struct reader *r, char c)
{
    return c == (r->cr_only ? '\r' : '\n');
}

static void add_cell(struct reader *r, const char *p, size_t n, bool quoted)
{
    if (r->n_cells == r->cap_cells) {
        r->cap_cells = r->cap_cells ? r->cap_cells * 2 : 64;
        r->cells = xrealloc(r->cells, r->cap_cells * sizeof *r->cells);
    }
    r->cells[r->n_cells++] = (struct cell){p, n, quoted};
}

static void refuse(struct record *rec, const char *why, size_t column)
{
    if (!rec->reject) {
        rec->reject = why;
        rec->column = (int)column;
    }
}

/* Length of the line at the record's start, without its end; SPLIT_MORE when no end was read yet. */
static enum split line_length(struct reader *r, size_t *ret, size_t *ret_next)
{
    const char *p = r->win + r->at, *eol = memchr(p, r->cr_only ? '\r' : '\n', r->n - r->at);
    if (!eol && !r->end)
        return SPLIT_MORE;
    size_t n = eol ? (size_t)(eol - p) : r->n - r->at;
    *ret_next = n + (eol != NULL);
    *ret = n && eol && p[n - 1] == '\r' ? n - 1 : n;
    return SPLIT_DONE;
}

/* A quoted cell from p (behind its opening quote). Returns where its closing quote stands, NULL when that is missing. */
static const char *quoted_cell(struct reader *r, const char *p, const char *end)
{
    size_t start = r->arena.n;
    const char *from = p;
    for (;;) {
        const char *q = memchr(p, '"', (size_t)(end - p));
        if (!q || (q + 1 == end && !r->end))
            return NULL; /* the byte after it may be a second quote */
        if (q + 1 < end && q[1] == '"') {
            buf_add(&r->arena, from, (size_t)(q + 1 - from));
            from = p = q + 2;
            continue;
        }
        if (r->arena.n == start) {
            add_cell(r, from, (size_t)(q - from), true);
        } else {
            buf_add(&r->arena, from, (size_t)(q - from));
            add_cell(r, NULL, r->arena.n - start, true); /* its place is set when the record is done */
        }
        return q;
    }
}

static enum split split_csv(struct reader *r, struct record *rec, size_t *ret_n, size_t *ret_next)
{
    const char *start = r->win + r->at, *p = start, *end = r->win + r->n;
    r->n_cells = 0;
    buf_reset(&r->arena);
    for (;;) {
        if (p < end && *p == '"') {
            const char *close = quoted_cell(r, p + 1, end);
            if (!close) {
                if (!r->end)
                    return SPLIT_MORE;
                /* Never closed: the first line is damaged, the rest is read again. */
                refuse(rec, "a quote is opened and never closed", r->n_cells + 1);
                return line_length(r, ret_n, ret_next);
            }
            p = close + 1;
            if (p < end && *p != ',' && !is_eol(r, *p) && !(*p == '\r' && p + 1 < end && p[1] == '\n')) {
                if (*p == '\r' && p + 1 == end && !r->end)
                    return SPLIT_MORE;
                refuse(rec, "characters behind a closing quote", r->n_cells);
                while (p < end && !is_eol(r, *p))
                    p++;
            }
        } else {
            const char *cell = p;
            while (p < end && *p != ',' && !is_eol(r, *p))
                p++;
            size_t n = (size_t)(p - cell);
            if (p < end && *p == '\n' && n && p[-1] == '\r')
                n--;
            add_cell(r, cell, n, false);
        }
        if (p == end && !r->end)
            return SPLIT_MORE;
        if (p < end && *p == '\r' && !r->cr_only)
            p++;
        if (p == end || is_eol(r, *p))
            break;
        if (r->n_cells >= MAX_COLUMNS) {
            refuse(rec, "more than 65536 columns", 0);
            return line_length(r, ret_n, ret_next);
        }
        p++;
    }
    *ret_next = (size_t)(p - start) + (p < end);
    *ret_n = (size_t)(p - start);
    if (*ret_n && start[*ret_n - 1] == '\r' && !r->cr_only)
        (*ret_n)--;
    size_t used = 0;
    for (size_t i = 0; i < r->n_cells; i++)
        if (!r->cells[i].p) {
            r->cells[i].p = r->arena.p + used;
            used += r->cells[i].n;
        }
    return SPLIT_DONE;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* One element of a JSON array: up to the brace that closes it. */
static enum split split_element(struct reader *r, struct record *rec, size_t *ret_n, size_t *ret_next)
{
    const char *start = r->win + r->at, *p = start, *end = r->win + r->n;
    int depth = 0;
    bool string = false;
    if (p < end && *p != '{') {
        refuse(rec, "not a JSON object", 0);
        while (p < end && *p != '{' && *p != ']')
            p++;
        if (p == end && !r->end)
            return SPLIT_MORE;
        *ret_n = *ret_next = (size_t)(p - start);
        return SPLIT_DONE;
    }
    for (; p < end; p++) {
        if (string) {
            if (*p == '\\' && p + 1 < end)
                p++;
            else if (*p == '"')
                string = false;
        } else if (*p == '"') {
            string = true;
        } else if (*p == '{' || *p == '[') {
            depth++;
        } else if ((*p == '}' || *p == ']') && --depth == 0) {
            *ret_n = *ret_next = (size_t)(p + 1 - start);
            return SPLIT_DONE;
        }
    }
    if (!r->end)
        return SPLIT_MORE;
    refuse(rec, "the file ends within this object", 0);
    *ret_n = *ret_next = (size_t)(end - start);
    return SPLIT_DONE;
}

/* Skips what stands between array elements. Returns 1 at an element, 0 at the array's end, 2 when more must be read. */
static int to_element(struct reader *r)
{
    while (r->at < r->n) {
        char c = r->win[r->at];
        if (is_space(c) || c == ',') {
            advance(r, 1);
        } else if (c == ']') {
            r->array_closed = true;
            return 0;
        } else {
            return 1;
        }
    }
    return r->end ? 0 : 2;
}

static int start_file(struct reader *r, struct err *e)
{
    while (r->n - r->at < 4096 && !r->end) {
        int n = grow(r, e);
        if (n < 0)
            return n;
    }
    r->started = true;
    if (r->n - r->at >= 3 && !memcmp(r->win + r->at, "\xef\xbb\xbf", 3))
        advance(r, 3);
    if (r->format == READER_JSON) {
        size_t i = r->at;
        while (i < r->n && is_space(r->win[i]))
            i++;
        if (i < r->n && r->win[i] == '[') {
            advance(r, i + 1 - r->at);
            r->in_array = true;
        }
        return 0;
    }
    for (;;) {
        const char *p = r->win + r->at;
        size_t n = r->n - r->at;
        const char *cr = n ? memchr(p, '\r', n) : NULL, *lf = n ? memchr(p, '\n', n) : NULL;
        if (cr || lf || r->end || n > r->max_row) {
            r->cr_only = cr && (!lf || cr < lf) && !(cr + 1 < p + n && cr[1] == '\n') && !(cr + 1 == p + n && !r->end);
            return 0;
        }
        int g = grow(r, e);
        if (g < 0)
            return g;
    }
}

/* The next record of any kind, before checks of its content. */
static int next_raw(struct reader *r, struct record *rec, struct err *e)
{
    for (;;) {
        size_t n = 0, next = 0;
        enum split s = SPLIT_DONE;
        *rec = (struct record){0};
        if (r->in_array) {
            int at = r->array_closed ? 0 : to_element(r);
            if (at == 0)
                return 0;
            s = at == 2 ? SPLIT_MORE : split_element(r, rec, &n, &next);
        } else {
            if (r->at == r->n && r->end)
                return 0;
            s = r->skip_to_line_end || r->format == READER_JSON ? line_length(r, &n, &next) : split_csv(r, rec, &n, &next);
        }
        if (s == SPLIT_MORE && r->n - r->at > r->max_row + BLOCK) {
            /* Too long to hold. Give its beginning, then skip: an unclosed quote costs its first line only. */
            rec->raw = r->win + r->at;
            rec->n = r->max_row < 4096 ? r->max_row : 4096;
            rec->line = r->line;
            rec->offset = r->offset;
            bool skipping = r->skip_to_line_end;
            rec->too_long = true;
            refuse(rec, "the row is longer than max_row_bytes", 0);
            if (line_length(r, &n, &next) == SPLIT_DONE && n <= r->max_row) {
                rec->n = n;
                rec->too_long = false;
                rec->reject = "a quote is opened and never closed";
                advance(r, next);
                return 1;
            }
            advance(r, r->n - r->at);
            r->skip_to_line_end = true;
            if (skipping)
                continue;
            return 1;
        }
        if (s == SPLIT_MORE) {
            int g = grow(r, e);
            if (g < 0)
                return g;
            continue;
        }
        rec->raw = r->win + r->at;
        rec->n = n;
        rec->line = r->line;
        rec->offset = r->offset;
        bool skipped = r->skip_to_line_end;
        r->skip_to_line_end = false;
        advance(r, next);
        bool blank = n == 0;
        if (r->format == READER_JSON && !r->in_array)
            for (blank = true, next = 0; blank && next < n; next++)
                blank = is_space(rec->raw[next]);
        if (skipped || blank)
            continue;
        if (n > r->max_row) {
            rec->too_long = true;
            refuse(rec, "the row is longer than max_row_bytes", 0);
        }
        return 1;
    }
}

static char *column_name(const struct cell *c, size_t i)
{
    if (!c->n)
        return xasprintf("column_%zu", i + 1);
    char *name = xstrndup(c->p, c->n);
    if (name[0] == '$')
        name[0] = '_';
    for (char *p = name; *p; p++)
        if (*p == '.')
            *p = '_';
    return name;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_header(struct reader *r, struct err *e)
{
    struct record rec;
    int n = next_raw(r, &rec, e);
    if (n <= 0)
        return n;
    if (rec.reject || !utf8_valid(rec.raw, rec.n) || memchr(rec.raw, 0, rec.n))
        return err_set(e, ERR_FORMAT, "the header row is damaged: %s", rec.reject ? rec.reject : "not valid UTF-8");
    r->columns = xcalloc(r->n_cells, sizeof *r->columns);
    for (size_t i = 0; i < r->n_cells; i++)
        r->columns[r->n_columns++] = column_name(&r->cells[i], i);
    AUTO_FREE char **sorted = xcalloc(r->n_columns, sizeof *sorted);
    memcpy(sorted, r->columns, r->n_columns * sizeof *sorted);
    qsort(sorted, r->n_columns, sizeof *sorted, by_name);
    for (size_t i = 1; i < r->n_columns; i++)
        if (!strcmp(sorted[i - 1], sorted[i]))
            return err_set(e, ERR_FORMAT, "the header names column '%.100s' twice", sorted[i]);
    return 1;
}

static size_t count_members(const char *p, size_t n)
{
    size_t colons = 0;
    int depth = 0;
    bool string = false;
    for (size_t i = 0; i < n; i++) {
        if (string) {
            if (p[i] == '\\')
                i++;
            else if (p[i] == '"')
                string = false;
        } else if (p[i] == '"')
            string = true;
        else if (p[i] == '{' || p[i] == '[')
            depth++;
        else if (p[i] == '}' || p[i] == ']')
            depth--;
        else if (p[i] == ':' && depth == 1)
            colons++;
    }
    return colons;
}

int reader_next(struct reader *r, struct record *rec, struct err *e)
{
    int n = r->started ? 1 : start_file(r, e);
    if (n < 0)
        return n;
    if (r->format == READER_CSV && !r->columns && (n = read_header(r, e)) <= 0)
        return n;
    n = next_raw(r, rec, e);
    if (n <= 0)
        return n;
    if (!rec->reject && memchr(rec->raw, 0, rec->n))
        refuse(rec, "a NUL byte", 0);
    if (!rec->reject && !utf8_valid(rec->raw, rec->n))
        refuse(rec, "not valid UTF-8", 0);
    if (r->format == READER_JSON) {
        rec->n_columns = rec->reject ? 0 : count_members(rec->raw, rec->n);
        return 1;
    }
    rec->n_columns = rec->reject ? 0 : r->n_cells;
    if (!rec->reject && r->n_cells < r->n_columns)
        refuse(rec, "fewer cells than the header has columns", r->n_cells + 1);
    else if (!rec->reject && r->n_cells > r->n_columns)
        refuse(rec, "more cells than the header has columns", r->n_columns + 1);
    return 1;
}

/* Digits of a canonical number at p: no plus, no leading zero. Returns its length, with the digits behind the point. */
static size_t number_length(const char *p, size_t n, size_t *digits, size_t *decimals)
{
    size_t i = n && p[0] == '-';
    size_t first = i;
    while (i < n && p[i] >= '0' && p[i] <= '9')
        i++;
    if (i == first || (p[first] == '0' && i - first > 1))
        return 0;
    *digits = i - first;
    *decimals = 0;
    if (i < n && p[i] == '.') {
        size_t point = i++;
        while (i < n && p[i] >= '0' && p[i] <= '9')
            i++;
        *decimals = i - point - 1;
        if (!*decimals)
            return 0;
    }
    return i;
}

static void append_cell(bson_t *doc, const char *name, const struct cell *c)
{
    size_t digits = 0, decimals = 0;
    char text[64], back[128];
    if (!c->n && !c->quoted) {
        bson_append_null(doc, name, -1);
        return;
    }
    if (c->n == 4 && !memcmp(c->p, "true", 4)) {
        bson_append_bool(doc, name, -1, true);
        return;
    }
    if (c->n == 5 && !memcmp(c->p, "false", 5)) {
        bson_append_bool(doc, name, -1, false);
        return;
    }
    if (c->n < sizeof text && c->n && number_length(c->p, c->n, &digits, &decimals) == c->n &&
        !(c->p[0] == '-' && c->p[1] == '0' && c->n == 2)) {
        memcpy(text, c->p, c->n);
        text[c->n] = 0;
        if (!decimals && digits <= 18) {
            long long v = strtoll(text, NULL, 10);
            if (v >= INT32_MIN && v <= INT32_MAX)
                bson_append_int32(doc, name, -1, (int32_t)v);
            else
                bson_append_int64(doc, name, -1, v);
            return;
        }
        double d = strtod(text, NULL);
        snprintf(back, sizeof back, "%.*f", (int)decimals, d);
        if (decimals && !strcmp(text, back)) {
            bson_append_double(doc, name, -1, d);
            return;
        }
    }
    bson_append_utf8(doc, name, -1, c->p, (int)c->n);
}

static int by_key(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* MongoDB would store both members and readers would see either; which one was meant nobody can tell. */
static bool has_twin_keys(const bson_t *doc)
{
    AUTO_FREE const char **keys = NULL;
    size_t n = 0;
    bool twins = false;
    bson_iter_t it;
    bson_t inner;
    uint32_t size;
    const uint8_t *p;
    if (!bson_iter_init(&it, doc))
        return false;
    while (!twins && bson_iter_next(&it)) {
        if ((n & (n + 1)) == 0)
            keys = xrealloc(keys, (2 * n + 2) * sizeof *keys);
        keys[n++] = bson_iter_key(&it);
        if (BSON_ITER_HOLDS_DOCUMENT(&it))
            bson_iter_document(&it, &size, &p);
        else if (BSON_ITER_HOLDS_ARRAY(&it))
            bson_iter_array(&it, &size, &p);
        else
            continue;
        twins = bson_init_static(&inner, p, size) && has_twin_keys(&inner); /* libbson bounds the depth */
    }
    if (n > 1)
        qsort(keys, n, sizeof *keys, by_key);
    for (size_t i = 1; !twins && i < n; i++)
        twins = !strcmp(keys[i - 1], keys[i]);
    return twins;
}

int reader_bson(struct reader *r, struct record *rec, bson_t *doc, const char **ret_type)
{
    *ret_type = NULL;
    if (rec->reject)
        return ERR_FORMAT;
    if (r->format == READER_CSV) {
        for (size_t i = 0; i < r->n_columns; i++)
            append_cell(doc, r->columns[i], &r->cells[i]);
        return 0;
    }
    *ret_type = "json";
    bson_t parsed;
    size_t i = 0;
    while (i < rec->n && is_space(rec->raw[i]))
        i++;
    if (i == rec->n || rec->raw[i] != '{') {
        rec->reject = "not a JSON object";
        return ERR_FORMAT;
    }
    if (!bson_init_from_json(&parsed, rec->raw, (ssize_t)rec->n, NULL)) {
        rec->reject = "malformed JSON";
        return ERR_FORMAT;
    }
    if (bson_has_field(&parsed, "_id"))
        rec->reject = "'_id' is set by the platform; name the field otherwise";
    else if (has_twin_keys(&parsed))
        rec->reject = "a key stands twice in one object";
    else if (!bson_concat(doc, &parsed))
        rec->reject = "too large for a document";
    bson_destroy(&parsed);
    return rec->reject ? ERR_FORMAT : 0;
}
