#include "sniff.h"
#include "base/mem.h"
#include "csv.h"
#include "scan.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ROWS = 1000, MAX_KEPT = 64, MAX_PATTERNS = 64, MAX_HEADER = 3 };

/* Candidates, in order of preference among equals. */
static const char *const delimiters[] = {",",   ";",  "\t", "|", "||",   "::",   ";;", "|~|", "~|~",
                                         "|#|", "<>", "~",  "^", "\x1f", "\x01", ", ", "; "};

static void add_why(char *why, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static void add_why(char *why, size_t size, const char *fmt, ...)
{
    size_t n = strlen(why);
    if (n && n + 2 < size) {
        memcpy(why + n, "; ", 3);
        n += 2;
    }
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why + n, size - n, fmt, ap);
    va_end(ap);
}

/* How many rows hold bytes that are not UTF-8, and whether all of these could be letters of a Western European encoding. */
struct bytes_seen {
    size_t rows_utf8, rows_other, c1, holes, odd_places;
};

static struct bytes_seen look_at_bytes(const unsigned char *p, size_t n)
{
    struct bytes_seen b = {0};
    bool utf8 = false, other = false;
    for (size_t i = 0; i < n;) {
        size_t len = p[i] < 0x80 ? 1 : utf8_len(p + i, n - i);
        if (p[i] == '\n' || p[i] == '\r') {
            b.rows_utf8 += utf8;
            b.rows_other += other;
            utf8 = other = false;
        } else if (len > 1) {
            utf8 = true;
        } else if (!len && n - i < 4 && p[i] >= 0xc2) {
            break; /* the sample ends within a character */
        } else if (!len) {
            other = true;
            len = 1;
            bool letters = (i > 0 && isalpha(p[i - 1])) || (i + 1 < n && isalpha(p[i + 1])) || (i > 0 && p[i - 1] >= 0xc0);
            if (p[i] == 0x81 || p[i] == 0x8d || p[i] == 0x8f || p[i] == 0x90 || p[i] == 0x9d)
                b.holes++;
            else if (p[i] < 0xa0)
                b.c1++;
            else if (p[i] >= 0xc0 && !letters)
                b.odd_places++;
        }
        i += len;
    }
    b.rows_utf8 += utf8;
    b.rows_other += other;
    return b;
}

enum encoding sniff_encoding(const struct spec *s, const char *text, size_t n, size_t *ret_bom, char why[256], double *ret_sure)
{
    const unsigned char *p = (const unsigned char *)text;
    bool le = n >= 2 && p[0] == 0xff && p[1] == 0xfe, be = n >= 2 && p[0] == 0xfe && p[1] == 0xff;
    bool utf8_bom = n >= 3 && !memcmp(p, "\xef\xbb\xbf", 3);
    const char *given = s->format == READER_CSV ? s->encoding : NULL;
    *ret_sure = 1;
    *ret_bom = 0;
    why[0] = 0;
    if (given) {
        enum encoding e = (enum encoding)encoding_parse(given);
        bool utf16 = e == ENC_UTF16LE || e == ENC_UTF16BE;
        bool open = utf16 && !strpbrk(given + 4, "lLbB"); /* "utf-16": the mark decides */
        if (utf16 && (le || be)) {
            *ret_bom = 2;
            e = open ? (be ? ENC_UTF16BE : ENC_UTF16LE) : e;
        } else if (e == ENC_UTF8 && utf8_bom) {
            *ret_bom = 3;
        }
        return e;
    }
    if (utf8_bom || le || be) {
        *ret_bom = utf8_bom ? 3 : 2;
        add_why(why, 256, "a byte order mark");
        return utf8_bom ? ENC_UTF8 : le ? ENC_UTF16LE : ENC_UTF16BE;
    }
    size_t even = 0, odd = 0, look = n < 4096 ? n & ~(size_t)1 : 4096;
    for (size_t i = 0; i < look; i++)
        *(i & 1 ? &odd : &even) += p[i] == 0;
    if (look >= 4 && (even >= look * 2 / 5 || odd >= look * 2 / 5) &&
        (even == 0 || odd == 0 || even > 20 * odd || odd > 20 * even)) {
        add_why(why, 256, "every other byte is NUL");
        *ret_sure = 0.9;
        return odd > even ? ENC_UTF16LE : ENC_UTF16BE;
    }
    struct bytes_seen b = look_at_bytes(p, n);
    if (!b.rows_other)
        return ENC_UTF8;
    if (!b.rows_utf8 && b.rows_other >= 2 && !b.holes && !b.odd_places) {
        *ret_sure = 0.7;
        add_why(why, 256, "%zu rows hold letters as %s has them and none holds UTF-8", b.rows_other,
                b.c1 ? "windows-1252" : "latin-1");
        return b.c1 ? ENC_WINDOWS1252 : ENC_LATIN1;
    }
    *ret_sure = 0.6;
    add_why(why, 256, "%zu rows at its beginning are not valid UTF-8; if it has another encoding, name it", b.rows_other);
    return ENC_UTF8;
}

static enum line_end sniff_line_end(const char *p, size_t n)
{
    size_t lf = 0, cr = 0;
    bool quoted = false; /* a guess is enough: the quote most files have */
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '"')
            quoted = !quoted;
        else if (p[i] == '\n' && !quoted)
            lf++;
        else if (p[i] == '\r' && !quoted && (i + 1 >= n || p[i + 1] != '\n'))
            cr++;
    }
    return !lf && cr ? LINE_CR : lf && cr > lf / 10 ? LINE_ANY : LINE_LF;
}

/* How the sample splits with one candidate. */
struct trial {
    size_t rows, damaged, several; /* several: rows of more than one cell */
    size_t usual, n_usual;         /* the most frequent number of cells above one, and how many rows have it */
    double score;
};

static bool like_a_value(const struct cell *c)
{
    struct value v;
    if (!c->n)
        return true;
    value_infer(c->p, c->n, &v);
    if (v.type != VALUE_string || value_parse(VALUE_datetime, c->p, c->n, &v) || value_parse(VALUE_double, c->p, c->n, &v))
        return true;
    for (size_t i = 0; i < c->n; i++) {
        unsigned char b = (unsigned char)c->p[i];
        if (!isalnum(b) && b < 0x80 && !(strchr(" _-./:'()%&+#@", b) && i > 0))
            return false;
    }
    return true;
}

static struct window sample_window(const char *p, size_t n, bool whole)
{
    return (struct window){.p = (char *)p, .n = n, .end = whole, .line = 1};
}

static void skip_lines(struct csv *c, struct window *w, int lines)
{
    size_t n, next;
    for (; lines > 0 && w->at < w->n && csv_line(c, w, &n, &next); lines--)
        window_advance(w, next, 1);
    csv_resync(c, w);
}

static struct trial try_dialect(const struct dialect *d, const char *p, size_t n, bool whole)
{
    struct window w = sample_window(p, n, whole);
    struct trial t = {0};
    struct {
        size_t cells, rows;
    } patterns[MAX_PATTERNS] = {0};
    size_t n_patterns = 0, cells = 0, values = 0;
    AUTO_CSV struct csv c = {0};
    struct csv_row row;
    csv_init(&c, d);
    skip_lines(&c, &w, d->skip_rows > 0 ? d->skip_rows : 0);
    while (t.rows < MAX_ROWS && w.at < w.n && csv_split(&c, &w, &row)) {
        csv_advance(&c, &w, &row);
        if (!row.n)
            continue;
        t.rows++;
        t.damaged += row.damage != NULL;
        if (row.damage)
            continue;
        size_t i = 0;
        while (i < n_patterns && patterns[i].cells != c.n_cells)
            i++;
        if (i == n_patterns && n_patterns < MAX_PATTERNS) {
            patterns[n_patterns].cells = c.n_cells;
            patterns[n_patterns++].rows = 0;
        }
        if (i < n_patterns)
            patterns[i].rows++;
        t.several += c.n_cells > 1;
        for (size_t k = 0; k < c.n_cells; k++)
            values += like_a_value(&c.cells[k]);
        cells += c.n_cells;
    }
    double sum = 0;
    for (size_t i = 0; i < n_patterns; i++) {
        double columns = (double)patterns[i].cells;
        sum += (double)patterns[i].rows * (columns > 1 ? columns - 1 : 0.001) / columns;
        if (t.several * 3 >= t.rows && patterns[i].cells == 1)
            continue;
        if (patterns[i].rows > t.n_usual) { /* among equals, the first */
            t.n_usual = patterns[i].rows;
            t.usual = patterns[i].cells;
        }
    }
    if (n_patterns && cells)
        t.score = sum / (double)n_patterns * (double)values / (double)cells * (double)(t.rows - t.damaged) / (double)t.rows;
    return t;
}

static void set_delimiter(struct dialect *d, const char *text)
{
    d->n_delimiter = strlen(text);
    memcpy(d->delimiter, text, d->n_delimiter);
}

/* Colons and blanks are in times and texts, too: they delimit only where nothing else does and every row has the same number
 * of cells, more than a time has. */
static const char *sniff_weak_delimiter(struct dialect *d, const char *p, size_t n, bool whole, struct trial *ret)
{
    static const char *const weak[] = {":", " "};
    for (size_t i = 0; i < sizeof weak / sizeof *weak; i++) {
        set_delimiter(d, weak[i]);
        struct trial t = memchr(p, weak[i][0], n) ? try_dialect(d, p, n, whole) : (struct trial){0};
        if (t.rows >= 3 && t.n_usual == t.rows && t.usual >= 4) {
            *ret = t;
            return weak[i];
        }
    }
    return NULL;
}

/* A delimiter that ends with a blank counts only where the same delimiter never stands without the blank. */
static bool always_followed(const char *p, size_t n, const char *delimiter)
{
    for (size_t i = 0; i + 1 < n; i++)
        if (p[i] == delimiter[0] && p[i + 1] != delimiter[1])
            return false;
    return true;
}

static bool occurs(const char *p, size_t n, const char *delimiter)
{
    size_t k = strlen(delimiter);
    if (!memmem(p, n, delimiter, k))
        return false;
    return k != 2 || delimiter[1] != ' ' || always_followed(p, n, delimiter);
}

static void sniff_delimiter(const struct spec *s, const char *p, size_t n, bool whole, struct dialect *d)
{
    struct trial best = {0};
    double second = 0;
    const char *chosen = NULL;
    if (s->delimiter) {
        set_delimiter(d, s->delimiter);
        return;
    }
    for (size_t i = 0; i < sizeof delimiters / sizeof *delimiters; i++) {
        if (!occurs(p, n, delimiters[i]) || (d->quote != NO_CHAR && strchr(delimiters[i], d->quote)))
            continue;
        set_delimiter(d, delimiters[i]);
        struct trial t = try_dialect(d, p, n, whole);
        bool wider = chosen && strlen(delimiters[i]) > 1 && strchr(delimiters[i], chosen[0]) && t.usual >= 2 &&
                     t.usual <= best.usual && t.n_usual >= best.n_usual; /* "||" over "|", ", " over "," */
        /* Preambles, footers and dirt aside, most rows that have the delimiter must be alike. */
        if (t.usual >= 2 && t.n_usual * 2 >= t.several && t.n_usual * 3 >= t.rows &&
            (t.score > best.score || (wider && t.score >= best.score * 0.7))) {
            second = chosen && !wider ? best.score : second;
            best = t;
            chosen = delimiters[i];
        } else if (t.score > second) {
            second = t.score;
        }
    }
    if (!chosen)
        chosen = sniff_weak_delimiter(d, p, n, whole, &best);
    set_delimiter(d, chosen ? chosen : ",");
    if (!chosen) {
        bool none = true;
        for (size_t i = 0; i < 4; i++)
            none &= !occurs(p, n, delimiters[i]);
        d->confidence *= none ? 0.9 : 0.3;
        add_why(d->why, sizeof d->why,
                none ? "no delimiter: one column" : "no delimiter makes rows alike: read as comma-separated");
        return;
    }
    double alike = (double)best.n_usual / (double)best.rows;
    double ahead = best.score > 0 ? 1 - 0.5 * second / best.score : 0.5;
    d->confidence *= alike * (ahead < 0.5 ? 0.5 : ahead);
    add_why(d->why, sizeof d->why, "%zu of %zu rows have %zu cells", best.n_usual, best.rows, best.usual);
}

static size_t count_quoted(const char *p, size_t n, char quote, const struct dialect *d)
{
    size_t found = 0;
    for (size_t i = 0; i < n; i++)
        if (p[i] == quote && (i == 0 || p[i - 1] == '\n' || p[i - 1] == '\r' || p[i - 1] == d->delimiter[d->n_delimiter - 1]))
            found++;
    return found;
}

/* Quotes are '"' unless none stand where cells begin and apostrophes do; escapes double the quote unless that leaves damage
 * that a backslash explains. */
static void sniff_quote(const struct spec *s, const char *p, size_t n, bool whole, struct dialect *d)
{
    if (!s->quote && !memchr(p, '"', n) && count_quoted(p, n, '\'', d) >= 2) {
        struct dialect other = *d;
        other.quote = other.escape = '\'';
        struct trial with = try_dialect(&other, p, n, whole), without = try_dialect(d, p, n, whole);
        if (!with.damaged && with.score >= without.score) {
            d->quote = '\'';
            d->escape = s->escape ? d->escape : '\'';
            add_why(d->why, sizeof d->why, "cells stand in apostrophes");
        }
    }
    if (!s->escape && d->quote != NO_CHAR && memmem(p, n, (char[]){'\\', (char)d->quote}, 2)) {
        struct dialect other = *d;
        other.escape = '\\';
        struct trial with = try_dialect(&other, p, n, whole), without = try_dialect(d, p, n, whole);
        if (with.damaged < without.damaged || with.score > without.score * 1.0001) {
            d->escape = '\\';
            add_why(d->why, sizeof d->why, "quotes in cells stand behind backslashes");
        }
    }
    if (!s->quote && d->quote == '"' && memchr(p, '"', n)) {
        struct dialect other = *d;
        other.quote = other.escape = NO_CHAR;
        struct trial with = try_dialect(d, p, n, whole), without = try_dialect(&other, p, n, whole);
        if (with.damaged >= 3 && with.damaged * 10 > with.rows && without.n_usual == without.rows) {
            d->quote = d->escape = NO_CHAR;
            d->confidence *= 0.8;
            add_why(d->why, sizeof d->why, "quotes are text here: as such %zu rows come out damaged", with.damaged);
        }
    }
}

/* The first rows of the sample, as the kinds of their cells. */
enum kind { KIND_EMPTY, KIND_NUMBER, KIND_WORD };
struct first_rows {
    size_t n, usual;
    unsigned char kinds[MAX_KEPT][SNIFFED_COLUMNS];
    bool year[SNIFFED_COLUMNS], named; /* of the first: cells that are years; it names configured columns */
};

bool sniff_usual_null(const char *p, size_t n)
{
    static const char *const tokens[] = {"NA", "N/A", "n/a", "#N/A", "NULL", "null", "\\N", "nan", "NaN", "None"};
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++)
        if (strlen(tokens[i]) == n && !memcmp(tokens[i], p, n))
            return true;
    return false;
}

static enum kind kind_of(const struct cell *c)
{
    struct value v;
    if (!c->n || (!c->quoted && sniff_usual_null(c->p, c->n)))
        return KIND_EMPTY;
    return value_parse(VALUE_double, c->p, c->n, &v) || value_parse(VALUE_datetime, c->p, c->n, &v) ? KIND_NUMBER : KIND_WORD;
}

/* Full rows only (with as many cells as most have). *ret_preamble: the number of lines before the first of them. */
static void look_at_rows(const struct spec *s, const struct dialect *d, const char *p, size_t n, bool whole, size_t usual,
                         struct first_rows *f, int *ret_preamble)
{
    struct window w = sample_window(p, n, whole);
    AUTO_CSV struct csv c = {0};
    struct csv_row row;
    bool open = true;
    csv_init(&c, d);
    skip_lines(&c, &w, d->skip_rows > 0 ? d->skip_rows : 0);
    f->usual = usual < SNIFFED_COLUMNS ? usual : SNIFFED_COLUMNS;
    while (f->n < MAX_KEPT && w.at < w.n && csv_split(&c, &w, &row)) {
        csv_advance(&c, &w, &row);
        if (open && row.n && (usual == 1 || (c.n_cells > 1 && c.n_cells * 3 > usual)))
            open = false;
        if (open && row.n && s->skip_rows == SNIFFED)
            *ret_preamble = (int)w.line - 1;
        if (!row.n || row.damage || c.n_cells != usual || open)
            continue;
        for (size_t i = 0; i < f->usual; i++) {
            f->kinds[f->n][i] = (unsigned char)kind_of(&c.cells[i]);
            struct value v;
            if (f->n > 0)
                continue;
            f->year[i] = c.cells[i].n == 4 && value_parse(VALUE_int, c.cells[i].p, 4, &v) && v.i >= 1800 && v.i <= 2200;
            f->named |= spec_rule(s, c.cells[i].p, c.cells[i].n) != NULL;
        }
        f->n++;
    }
}

/* True when column i holds numbers and nothing else from row `from` on. */
static bool numbers_below(const struct first_rows *f, size_t from, size_t i)
{
    bool any = false;
    for (size_t r = from; r < f->n; r++) {
        if (f->kinds[r][i] == KIND_WORD)
            return false;
        any |= f->kinds[r][i] == KIND_NUMBER;
    }
    return any;
}

static int sniff_header(struct dialect *d, const struct first_rows *f)
{
    size_t numbers = 0, words = 0, years = 0;
    if (f->n < 2 || f->named)
        return 1;
    for (size_t i = 0; i < f->usual; i++) {
        bool below = numbers_below(f, 1, i);
        numbers += f->kinds[0][i] == KIND_NUMBER && below;
        years += f->kinds[0][i] == KIND_NUMBER && below && f->year[i];
        words += f->kinds[0][i] == KIND_WORD && below;
    }
    if (numbers && !words && years < numbers) {
        add_why(d->why, sizeof d->why, "no header: the first row has numbers where the others have some");
        d->confidence *= 0.9;
        return 0;
    }
    int rows = 1;
    for (; rows < MAX_HEADER && (size_t)rows + 1 < f->n; rows++) {
        size_t unlike = 0, like = 0;
        for (size_t i = 0; i < f->usual; i++) {
            bool below = numbers_below(f, (size_t)rows + 1, i);
            unlike += below && f->kinds[rows][i] == KIND_WORD;
            like += f->kinds[rows][i] == KIND_NUMBER;
        }
        if (unlike < 2 || like)
            break;
    }
    if (rows > 1) {
        add_why(d->why, sizeof d->why, "%d header rows: the columns of numbers begin below them", rows);
        d->confidence *= 0.8;
    }
    return rows;
}

void sniff_dialect(const struct spec *s, const char *p, size_t n, bool whole, struct dialect *ret)
{
    struct dialect d = {.confidence = 1, .encoding = ret->encoding, .footer_rows = s->footer_rows, .ragged = s->ragged};
    AUTO_FREE struct first_rows *f = xcalloc(1, sizeof *f);
    int preamble = 0;
    d.line_end = s->line_end != SNIFFED ? (enum line_end)s->line_end : sniff_line_end(p, n);
    d.quote = !s->quote ? '"' : *s->quote ? (unsigned char)*s->quote : NO_CHAR;
    d.escape = !s->escape ? d.quote : *s->escape ? (unsigned char)*s->escape : NO_CHAR;
    d.skip_rows = s->skip_rows;
    sniff_delimiter(s, p, n, whole, &d);
    sniff_quote(s, p, n, whole, &d);
    struct trial t = try_dialect(&d, p, n, whole);
    look_at_rows(s, &d, p, n, whole, t.usual, f, &preamble);
    d.n_cells = t.usual;
    if (s->skip_rows == SNIFFED) {
        d.skip_rows = f->n ? preamble : 0;
        if (d.skip_rows) {
            add_why(d.why, sizeof d.why, "%d lines stand before the table", d.skip_rows);
            d.confidence *= 0.9;
        }
    }
    d.header_rows = s->header_rows != SNIFFED ? s->header_rows : sniff_header(&d, f);
    for (size_t i = 0; i < f->usual && (size_t)d.header_rows < f->n; i++)
        if (numbers_below(f, (size_t)d.header_rows, i))
            d.numbers[i / 8] |= (unsigned char)(1 << i % 8);
    *ret = d;
}
