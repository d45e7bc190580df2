#include "message.h"
#include "base/mem.h"

#include <string.h>

/* The first line is a header when each of its cells, without its quotes, is the name of a column. */
static bool names_columns(const struct spec *spec, const char *p, size_t n)
{
    const char *end = memchr(p, '\n', n), *delimiter = spec->delimiter;
    size_t n_delimiter = strlen(delimiter);
    end = end ? end : p + n;
    if (end > p && end[-1] == '\r')
        end--;
    for (bool more = true; more;) {
        const char *cell = p, *stop = memmem(p, (size_t)(end - p), delimiter, n_delimiter);
        more = stop != NULL;
        stop = stop ? stop : end;
        p = stop + n_delimiter;
        while (cell < stop && (*cell == ' ' || *cell == '"'))
            cell++;
        while (stop > cell && (stop[-1] == ' ' || stop[-1] == '"'))
            stop--;
        const struct rule *u = spec_rule(spec, cell, (size_t)(stop - cell));
        if (!u || u->value)
            return false;
    }
    return true;
}

/* The spec of one message; borrows from `spec`. */
static struct spec settle(const struct spec *spec, int64_t published_ms, const char *p, size_t n)
{
    static char comma[] = ",", quote[] = "\"", utf8[] = "utf-8";
    struct spec s = *spec;
    size_t i = 0;
    s.now_ms = published_ms;
    if (!s.encoding)
        s.encoding = utf8;
    while (i < n && p[i] && strchr(" \t\r\n", p[i]))
        i++;
    if (i < n && (p[i] == '{' || p[i] == '['))
        s.format = READER_JSON;
    if (s.format == READER_JSON)
        return s;
    if (!s.delimiter)
        s.delimiter = comma;
    if (!s.quote)
        s.quote = quote;
    if (s.skip_rows == SNIFFED)
        s.skip_rows = 0;
    if (s.footer_rows == SNIFFED)
        s.footer_rows = 0;
    bool named = false;
    for (i = 0; i < s.n_rules; i++)
        named |= !s.rules[i].value;
    if (s.header_rows == SNIFFED)
        s.header_rows = !named || names_columns(&s, p, n);
    s.fixed_columns = named;
    return s;
}

bool message_looks_like_csv(const char *p, size_t n)
{
    size_t i = 0;
    while (i < n && p[i] && strchr(" \t\r\n", p[i]))
        i++;
    if (i >= n || p[i] == '{' || p[i] == '[')
        return false;
    const char *eol = memchr(p + i, '\n', n - i);
    size_t line = eol ? (size_t)(eol - p) - i : n - i;
    return memchr(p + i, ',', line) || (eol && eol + 1 < p + n);
}

static void take(struct message_rows *r)
{
    if (r->n == r->cap) {
        r->cap = r->cap ? r->cap * 2 : 16;
        r->ends = xrealloc(r->ends, r->cap * sizeof *r->ends);
    }
    r->ends[r->n++] = r->elements.n;
}

/* Counts a refusal of the message as a whole. */
static void count_reject(struct message_rows *rows, const char *rule)
{
    if (rows->figures)
        figures_reject(rows->figures, -1, rule);
}

/* Applies the agreement's limits of a message's rows and columns; r: the result so far. */
static int keep_limits(const struct spec *s, const struct reader *rd, const struct record *rec, size_t seen, int r,
                       struct message_rows *rows, struct err *e)
{
    size_t csv = s->format == READER_CSV ? reader_n_columns(rd) : 0, columns = csv ? csv : rec->n_columns;
    bool too_many = s->max_rows >= 0 && (int64_t)seen > s->max_rows;
    bool too_wide = s->max_columns >= 0 && r >= 0 && (int64_t)columns > s->max_columns;
    if (r >= 0 && (too_many || too_wide))
        count_reject(rows, too_many ? "max_rows" : "max_columns");
    if (too_many)
        return err_set(e, ERR_FORMAT, "more than %lld rows (max_rows)", (long long)s->max_rows);
    if (too_wide)
        return err_set(e, ERR_FORMAT, "line %lld: %zu columns; max_columns is %lld", (long long)rec->line, columns,
                       (long long)s->max_columns);
    return 0;
}

int message_read(const struct spec *spec, int64_t published_ms, const void *p, size_t n, message_row_fn fn, void *arg,
                 struct message_rows *ret, struct err *e)
{
    struct spec s = settle(spec, published_ms, p, n);
    AUTO_SRC struct src *src = src_new_text(p, n);
    AUTO_READER struct reader *rd = reader_new(src, &s);
    if (ret->figures)
        reader_set_figures(rd, ret->figures);
    struct record rec;
    AUTO_BUF struct buf row = {0};
    int r = 0, got = 0;
    size_t seen = 0;
    ret->elements.n = ret->n = 0;
    while (r >= 0 && (got = reader_next(rd, &rec, e)) > 0) {
        size_t at = ret->elements.n;
        seen++;
        row.n = 0;
        r = reader_row(rd, &rec, fn ? &row : &ret->elements);
        if (r == 0 && fn) {
            r = fn(arg, &rec, &row);
            if (r < 0)
                count_reject(ret, "app");
            if (r == 0)
                buf_add(&ret->elements, row.p, row.n);
        }
        if (r == 0)
            take(ret);
        else
            ret->elements.n = at;
        int kept = keep_limits(&s, rd, &rec, seen, r, ret, e);
        if (kept < 0)
            r = kept;
        else if (r < 0)
            err_set(e, ERR_FORMAT, "line %lld: %s", (long long)rec.line, rec.reject ? rec.reject : "refused");
    }
    if (r >= 0 && (got < 0 || !seen))
        count_reject(ret, got < 0 ? "format" : "empty");
    if (r >= 0 && got < 0)
        r = e->code = ERR_FORMAT; /* a bad header is also the fault of this message */
    if (r >= 0 && !seen)
        r = err_set(e, ERR_FORMAT, "the message has no rows");
    return r < 0 ? ERR_FORMAT : 0;
}

void message_rows_fini(struct message_rows *r)
{
    buf_fini(&r->elements);
    free(r->ends);
    *r = (struct message_rows){0};
}
