#include "table.h"
#include "colour.h"
#include "text.h"

#include "base/mem.h"
#include "host/home.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

enum { GAP = 2, DEFAULT_ROOM = 80, MIN_ID = 10, MAX_HEAD = 16, MIN_TAIL = 4, MIN_LONG = 16, MIN_TEXT = 6 };

struct table {
    const struct col *cols;
    size_t n_cols, n_rows;
    char **cells; /* texts of the cells, row by row */
    size_t *widths;
    bool *shown;
};

static enum table_style style;

void table_set_style(enum table_style s)
{
    style = s;
}

enum table_style table_get_style(void)
{
    return style;
}

/* ---- text ---- */

size_t table_room(void)
{
    struct winsize w;
    if (!isatty(STDOUT_FILENO))
        return 0;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col ? w.ws_col : DEFAULT_ROOM;
}

/* The character at p: how many bytes it has, and how many columns it takes. */
static size_t next_char(const char *p, size_t *ret_columns)
{
    static locale_t utf8;
    wchar_t c;
    mbstate_t state = {0};
    if (!utf8)
        utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", NULL);
    locale_t before = utf8 ? uselocale(utf8) : NULL;
    size_t n = mbrtowc(&c, p, strlen(p), &state);
    bool known = n && n <= 4;
    int columns = known ? wcwidth(c) : 1;
    if (before)
        uselocale(before);
    *ret_columns = columns < 0 ? 1 : (size_t)columns;
    return known ? n : 1;
}

size_t table_width(const char *text)
{
    size_t columns = 0, one;
    for (; *text; columns += one)
        text += next_char(text, &one);
    return columns;
}

size_t table_bytes_within(const char *text, size_t columns)
{
    size_t at = 0, used = 0, one;
    while (text[at]) {
        size_t n = next_char(text + at, &one);
        if (used + one > columns)
            break;
        used += one;
        at += n;
    }
    return at;
}

char *table_shorten(const char *text, size_t columns)
{
    const size_t width = table_width(text);
    if (width <= columns)
        return xstrdup(text);
    if (!columns)
        return xstrdup("");
    const size_t head = columns / 2, tail = columns - 1 - head;
    const char *end = text;
    for (size_t left = width, one; left > tail; left -= one)
        end += next_char(end, &one);
    while (*end && (*end & 0xc0) == 0x80)
        end++;
    return xasprintf("%.*s…%s", (int)table_bytes_within(text, head), text, end);
}

char *table_plain(const char *text)
{
    AUTO_BUF struct buf b = {0}, line = {0};
    buf_add(&line, "", 0);
    text_append(&b, text, strlen(text), false);
    for (size_t i = 0; i < b.n; i++)
        if (b.p[i] == '\n' || b.p[i] == '\t')
            buf_addf(&line, "\\x%02x", (unsigned char)b.p[i]);
        else
            buf_add(&line, b.p + i, 1);
    return xstrdup(line.p);
}

void table_fold(struct buf *out, const char *text, size_t at, size_t indent, size_t room)
{
    for (;;) {
        size_t left = room > at ? room - at : 1, n = room ? table_bytes_within(text, left) : strlen(text);
        if (text[n]) {
            size_t space = n;
            while (space && text[space] != ' ')
                space--;
            n = space ? space : at > indent ? 0 : n ? n : 1;
        }
        buf_add(out, text, n);
        text += n + (text[n] == ' ');
        if (!*text)
            return;
        buf_addf(out, "\n%*s", (int)indent, "");
        at = indent;
    }
}

/* ---- rows ---- */

struct table *table_new(const struct col *cols, size_t n_cols)
{
    struct table *t = xcalloc(1, sizeof *t);
    t->cols = cols;
    t->n_cols = n_cols;
    t->widths = xcalloc(n_cols, sizeof *t->widths);
    t->shown = xcalloc(n_cols, sizeof *t->shown);
    return t;
}

void table_free(struct table *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->n_rows * t->n_cols; i++)
        free(t->cells[i]);
    free(t->cells);
    free(t->widths);
    free(t->shown);
    free(t);
}

void table_add(struct table *t, char *const *cells)
{
    t->cells = xgrow(t->cells, t->n_rows, t->n_cols * sizeof *t->cells);
    for (size_t k = 0; k < t->n_cols; k++) {
        t->cells[t->n_rows * t->n_cols + k] = cells[k] ? table_plain(cells[k]) : xstrdup(style == TABLE_CSV ? "" : "-");
        free(cells[k]);
    }
    t->n_rows++;
}

static char **cell(const struct table *t, size_t row, size_t k)
{
    return &t->cells[row * t->n_cols + k];
}

/* ---- what fits ---- */

static bool is_long(const struct col *c)
{
    return c->kind == COL_WORDS || c->kind == COL_LONG;
}

static void measure(struct table *t, size_t k)
{
    t->widths[k] = strlen(t->cols[k].name);
    for (size_t r = 0; r < t->n_rows; r++) {
        size_t w = table_width(*cell(t, r, k));
        t->widths[k] = w > t->widths[k] ? w : t->widths[k];
    }
}

/* How wide the table is. least: with its long texts cut as far as they may be. */
static size_t total(const struct table *t, bool least)
{
    size_t n = 0;
    for (size_t k = 0; k < t->n_cols; k++)
        if (t->shown[k])
            n += (least && is_long(&t->cols[k]) && t->widths[k] > MIN_LONG ? MIN_LONG : t->widths[k]) + (n ? GAP : 0);
    return n;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *short_id(const char *id, size_t head, size_t tail)
{
    return strlen(id) <= head + strlen(ID_GAP) + tail ? xstrdup(id)
           : tail                                     ? xasprintf("%.*s%s%s", (int)head, id, ID_GAP, id + strlen(id) - tail)
                                                      : xstrndup(id, head);
}

/* Whether the ids of the column can still be told apart when only so much of them is left. */
static bool tells_apart(const struct table *t, size_t k, size_t head, size_t tail)
{
    char **sorted = xcalloc(t->n_rows, sizeof *sorted);
    bool same = false;
    for (size_t r = 0; r < t->n_rows; r++)
        sorted[r] = short_id(*cell(t, r, k), head, tail);
    qsort(sorted, t->n_rows, sizeof *sorted, by_text);
    for (size_t r = 1; r < t->n_rows; r++)
        same |= !strcmp(sorted[r], sorted[r - 1]) && sorted[r][0] != '-';
    for (size_t r = 0; r < t->n_rows; r++)
        free(sorted[r]);
    free(sorted);
    return !same;
}

/* Shortens ids as far as those in this table can still be told apart: to their beginning, or to that and the end, which counts up
 * within a millisecond. Verbs take both (cli_whole_id). */
static void shorten_ids(struct table *t, size_t k)
{
    size_t head = MIN_ID, tail = 0;
    while (head < MAX_HEAD && !tells_apart(t, k, head, 0))
        head++;
    if (head == MAX_HEAD)
        for (head = MIN_ID, tail = MIN_TAIL; tail < ID_SIZE - 1 - MIN_ID && !tells_apart(t, k, head, tail);)
            tail++;
    for (size_t r = 0; r < t->n_rows; r++) {
        char *shorter = short_id(*cell(t, r, k), head, tail);
        free(*cell(t, r, k));
        *cell(t, r, k) = shorter;
    }
    measure(t, k);
}

static bool is_blank(const struct table *t, size_t k)
{
    for (size_t r = 0; r < t->n_rows; r++)
        if (strcmp(*cell(t, r, k), "-") != 0)
            return false;
    return true;
}

/* Leaves out the column that matters least: one in which no row says anything, else the one of the highest rank. False: none can
 * go. */
static bool leave_out(struct table *t)
{
    size_t worst = t->n_cols;
    for (size_t k = t->n_cols; k-- > 0;) {
        if (!t->shown[k] || t->cols[k].rank == 1)
            continue;
        if (is_blank(t, k)) {
            worst = k;
            break;
        }
        if (worst == t->n_cols || t->cols[k].rank > t->cols[worst].rank)
            worst = k;
    }
    if (worst == t->n_cols)
        return false;
    t->shown[worst] = false;
    return true;
}

/* Cuts the widest texts until the table fits. False: it does not fit. */
static bool squeeze(struct table *t, bool names, size_t room)
{
    while (total(t, false) > room) {
        size_t widest = t->n_cols;
        for (size_t k = 0; k < t->n_cols; k++) {
            const bool may = names ? t->cols[k].kind == COL_TEXT || is_long(&t->cols[k]) : is_long(&t->cols[k]);
            if (t->shown[k] && may && t->widths[k] > (names ? MIN_TEXT : MIN_LONG) &&
                (widest == t->n_cols || t->widths[k] > t->widths[widest]))
                widest = k;
        }
        if (widest == t->n_cols)
            return false;
        t->widths[widest]--;
    }
    return true;
}

static void fit(struct table *t, size_t room)
{
    for (size_t k = 0; k < t->n_cols; k++) {
        t->shown[k] = style == TABLE_WIDE ? t->cols[k].kind != COL_JSON : t->cols[k].rank > 0;
        measure(t, k);
    }
    for (size_t k = 0; room && total(t, false) > room && k < t->n_cols; k++)
        if (t->cols[k].kind == COL_ID && t->shown[k])
            shorten_ids(t, k);
    while (room && total(t, true) > room && leave_out(t)) {
    }
    if (room && !squeeze(t, false, room))
        squeeze(t, true, room);
}

/* ---- printing ---- */

/* Of a name the middle goes, for the end tells it from others like it; of a sentence the end. */
static char *cut(const char *text, size_t columns)
{
    return strchr(text, ' ') ? xasprintf("%.*s…", (int)table_bytes_within(text, columns - 1), text) : table_shorten(text, columns);
}

static void add_cell(const struct table *t, struct buf *line, const char *text, size_t k)
{
    const enum col_kind kind = t->cols[k].kind;
    size_t w = t->widths[k], n = table_width(text);
    AUTO_FREE char *shorter = n > w ? cut(text, w) : NULL;
    if (shorter) {
        text = shorter;
        n = table_width(text);
    }
    bool right = kind == COL_COUNT || kind == COL_NUMBER;
    buf_addf(line, "%*s%s%*s", right ? (int)(w - n) : 0, "", text, (right ? 0 : (int)(w - n)) + GAP, "");
}

/* Columns whose words have colours. */
static bool is_coloured(const struct col *c)
{
    return !strcmp(c->name, "state") || !strcmp(c->name, "outcome");
}

struct coloured {
    size_t from, to;
    enum colour colour;
};
enum { MAX_COLOURED = 4 };

static void print_row(const struct table *t, const char *(*text)(const struct table *, size_t, size_t), size_t row, size_t room)
{
    AUTO_BUF struct buf line = {0};
    struct coloured parts[MAX_COLOURED];
    size_t n = 0, at = 0;
    buf_add(&line, "", 0);
    for (size_t k = 0; k < t->n_cols; k++) {
        if (!t->shown[k])
            continue;
        const enum colour colour = n < MAX_COLOURED && is_coloured(&t->cols[k]) ? colour_of_state(text(t, row, k)) : COLOUR_none;
        const size_t from = line.n;
        add_cell(t, &line, text(t, row, k), k);
        if (colour != COLOUR_none)
            parts[n++] = (struct coloured){from, line.n - GAP, colour};
    }
    while (line.n && line.p[line.n - 1] == ' ')
        line.p[--line.n] = 0;
    if (room)
        line.p[line.n = table_bytes_within(line.p, room)] = 0;
    for (size_t i = 0; i < n; i++) {
        const size_t to = parts[i].to < line.n ? parts[i].to : line.n;
        if (to <= at)
            break;
        colour_print(line.p + at, to - at, parts[i].from - at, to - at, parts[i].colour);
        at = to;
    }
    puts(line.p + at);
}

static const char *name_of(const struct table *t, size_t row, size_t k)
{
    (void)row;
    return t->cols[k].name;
}

static const char *text_of(const struct table *t, size_t row, size_t k)
{
    return *cell(t, row, k);
}

/* Only for people, who may miss a column: names those that were left out. */
static void tell_left_out(const struct table *t)
{
    AUTO_BUF struct buf names = {0};
    for (size_t k = 0; k < t->n_cols; k++)
        if (t->cols[k].rank && !t->shown[k] && !is_blank(t, k))
            buf_addf(&names, "%s%s", names.n ? ", " : "", t->cols[k].name);
    fflush(stdout);
    if (names.n && isatty(STDERR_FILENO)) {
        AUTO_BUF struct buf b = {0};
        AUTO_FREE char *text = xasprintf("(left out: %s; --output wide shows all)", names.p);
        table_fold(&b, text, 0, 1, table_room());
        fprintf(stderr, "%s\n", b.p);
    }
}

void table_csv_line(const char *const *cells, size_t n)
{
    AUTO_BUF struct buf b = {0};
    for (size_t k = 0; k < n; k++) {
        const char *text = cells[k] ? cells[k] : "";
        const bool quoted = text[strcspn(text, ",\"\r\n")] != 0;
        buf_adds(&b, k ? "," : "");
        buf_adds(&b, quoted ? "\"" : "");
        for (; *text; text++)
            buf_add(&b, *text == '"' ? "\"\"" : text, *text == '"' ? 2 : 1);
        buf_adds(&b, quoted ? "\"" : "");
    }
    puts(b.p);
}

static void print_csv(const struct table *t)
{
    const char **line = xcalloc(t->n_cols, sizeof *line);
    for (size_t r = 0; r <= t->n_rows; r++) {
        size_t n = 0;
        for (size_t k = 0; k < t->n_cols; k++)
            if (t->cols[k].kind != COL_WORDS)
                line[n++] = r ? *cell(t, r - 1, k) : t->cols[k].name;
        table_csv_line(line, n);
    }
    free(line);
}

void table_print(struct table *t)
{
    const size_t room = style == TABLE_WIDE ? 0 : table_room();
    if (style == TABLE_CSV) {
        print_csv(t);
        return;
    }
    if (!t->n_rows)
        return;
    fit(t, room);
    print_row(t, name_of, 0, room);
    for (size_t r = 0; r < t->n_rows; r++)
        print_row(t, text_of, r, room);
    if (room)
        tell_left_out(t);
}
