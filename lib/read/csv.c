/* scan.c indexes the positions of delimiters, line ends, quotes and escapes, a stretch at a time. Splitting a record walks over
 * this index. When the window ends within a record, more is read and the record is split again from its start. The index is
 * kept and the window doubles, so the cost stays linear.
 *
 * Stray quotes do not make it quadratic. A search for the closing quote that fails has ended at the next quote that opens a cell
 * (from inside a quoted cell it looks like a closing one), so no byte is searched in vain more than once. */
#include "csv.h"
#include "base/mem.h"
#include "scan.h"

#include <string.h>

static const char never_closed[] = "a quote is opened and never closed";
enum { STRETCH = 64 << 10 };

static void add_to_set(struct csv *c, int byte)
{
    if (byte == NO_CHAR)
        return;
    for (size_t i = 0; i < c->n_set; i++)
        if (c->set[i] == byte)
            return;
    c->set[c->n_set++] = (unsigned char)byte;
}

void csv_init(struct csv *c, const struct dialect *d)
{
    *c = (struct csv){.d = d};
    add_to_set(c, (unsigned char)d->delimiter[0]);
    if (d->line_end != LINE_CR)
        add_to_set(c, '\n');
    if (d->line_end != LINE_LF)
        add_to_set(c, '\r');
    add_to_set(c, d->quote);
    add_to_set(c, d->escape);
}

void csv_fini(struct csv *c)
{
    free(c->index);
    free(c->cells);
    buf_fini(&c->arena);
    *c = (struct csv){0};
}

void csv_moved(struct csv *c, size_t shift)
{
    if (!shift)
        return;
    if (c->n_index > c->next) /* nothing may be indexed yet */
        memmove(c->index, c->index + c->next, (c->n_index - c->next) * sizeof *c->index);
    c->n_index -= c->next;
    c->next = 0;
    for (size_t i = 0; i < c->n_index; i++)
        c->index[i] -= (uint32_t)shift;
    c->indexed = c->indexed > shift ? c->indexed - shift : 0;
}

void csv_resync(struct csv *c, const struct window *w)
{
    while (c->next < c->n_index && c->index[c->next] < w->at)
        c->next++;
    if (c->indexed < w->at)
        c->indexed = w->at;
}

void csv_advance(struct csv *c, struct window *w, const struct csv_row *row)
{
    window_advance(w, row->next, row->lines);
    csv_resync(c, w);
}

/* Indexes the next stretch; false at the end of the window. */
static bool more_places(struct csv *c, const struct window *w)
{
    if (c->indexed >= w->n)
        return false;
    size_t to = w->n - c->indexed > STRETCH ? c->indexed + STRETCH : w->n;
    if (c->cap_index - c->n_index < to - c->indexed) {
        c->cap_index = c->n_index + (to - c->indexed) + c->cap_index / 2;
        c->index = xrealloc(c->index, c->cap_index * sizeof *c->index);
    }
    c->n_index += scan_index(c->set, c->n_set, w->p, c->indexed, to, c->index + c->n_index);
    c->indexed = to;
    return true;
}

static bool is_end(const struct csv *c, char b)
{
    return (b == '\n' && c->d->line_end != LINE_CR) || (b == '\r' && c->d->line_end != LINE_LF);
}

bool csv_line(const struct csv *c, const struct window *w, size_t *ret_n, size_t *ret_next)
{
    const char *p = w->p + w->at, *end = w->p + w->n;
    const char *lf = c->d->line_end != LINE_CR ? memchr(p, '\n', (size_t)(end - p)) : NULL;
    const char *cr = c->d->line_end != LINE_LF ? memchr(p, '\r', (size_t)((lf ? lf : end) - p)) : NULL;
    const char *stop = cr ? cr : lf;
    if (!stop && !w->end)
        return false;
    if (!stop)
        stop = end;
    if (stop + 1 == end && *stop == '\r' && c->d->line_end == LINE_ANY && !w->end)
        return false;
    size_t n = (size_t)(stop - p);
    *ret_next = n + (stop < end) + (stop + 1 < end && *stop == '\r' && stop[1] == '\n' && c->d->line_end == LINE_ANY);
    *ret_n = n && c->d->line_end == LINE_LF && p[n - 1] == '\r' ? n - 1 : n;
    return true;
}

/* The state of one split. */
struct walk {
    struct csv *c;
    const struct window *w;
    size_t i;    /* next entry of the index */
    size_t cell; /* where the current cell starts */
    size_t lines;
    struct csv_row *row;
};

enum step { STEP_CELL, STEP_ROW, STEP_MORE, STEP_LINE };

static bool place(struct walk *k, size_t *ret)
{
    while (k->i == k->c->n_index)
        if (!more_places(k->c, k->w))
            return false;
    *ret = k->c->index[k->i];
    return true;
}

static void add_cell(struct csv *c, const char *p, size_t n, bool quoted)
{
    if (c->n_cells == c->cap_cells) {
        c->cap_cells = c->cap_cells ? c->cap_cells * 2 : 64;
        c->cells = xrealloc(c->cells, c->cap_cells * sizeof *c->cells);
    }
    c->cells[c->n_cells++] = (struct cell){p, (uint32_t)n, quoted};
}

static void damage(struct walk *k, const char *rule, const char *why, size_t spot)
{
    if (k->row->damage)
        return;
    k->row->damage = why;
    k->row->rule = rule;
    k->row->cell = k->c->n_cells + 1;
    k->row->spot = spot - k->w->at;
}

/* Removes escapes from p[0, n). A quote that is not doubled escapes nothing. */
static void add_unescaped(struct csv *c, const char *p, size_t n, bool quoted)
{
    size_t from = c->arena.n;
    buf_reserve(&c->arena, n);
    char *o = c->arena.p + from;
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)p[i] == c->d->escape && i + 1 < n && (c->d->escape != c->d->quote || p[i + 1] == p[i]))
            i++;
        *o++ = p[i];
    }
    c->arena.n = (size_t)(o - c->arena.p);
    add_cell(c, NULL, c->arena.n - from, quoted); /* its pointer is set when the record is done, since the arena may move */
}

/* True when the delimiter stands at `pos`. MORE when the window ends before that is known. */
static enum step delimiter_at(const struct walk *k, size_t pos, bool *ret)
{
    const struct dialect *d = k->c->d;
    if (k->w->n - pos < d->n_delimiter) {
        *ret = false;
        return k->w->end ? STEP_CELL : STEP_MORE;
    }
    *ret = !memcmp(k->w->p + pos, d->delimiter, d->n_delimiter);
    return STEP_CELL;
}

/* The record ends with the line end at pos. */
static enum step end_row(struct walk *k, size_t pos)
{
    const struct window *w = k->w;
    if (w->p[pos] == '\r' && k->c->d->line_end == LINE_ANY) {
        if (pos + 1 == w->n && !w->end)
            return STEP_MORE;
        if (pos + 1 < w->n && w->p[pos + 1] == '\n')
            pos++;
    }
    k->row->next = pos + 1 - w->at;
    k->lines++;
    return STEP_ROW;
}

static size_t trim_cr(const struct walk *k, size_t from, size_t to)
{
    return k->c->d->line_end == LINE_LF && to > from && k->w->p[to - 1] == '\r' ? to - 1 : to;
}

/* Goes on behind a cell that ended at `pos`, where a delimiter or a line end stands or the file ends. */
static enum step unquoted(struct walk *k)
{
    const struct window *w = k->w;
    bool escaped = false;
    for (size_t pos;; k->i++) {
        if (!place(k, &pos)) {
            if (!w->end)
                return STEP_MORE;
            pos = w->n;
        } else if (pos < k->cell) {
            continue;
        }
        bool eof = pos == w->n, delimiter = false;
        char b = eof ? 0 : w->p[pos];
        if (!eof && b == k->c->d->delimiter[0] && delimiter_at(k, pos, &delimiter) == STEP_MORE)
            return STEP_MORE;
        if (!eof && !delimiter && !is_end(k->c, b)) {
            if ((unsigned char)b == k->c->d->escape && k->c->d->escape != k->c->d->quote) {
                if (pos + 1 == w->n && !w->end)
                    return STEP_MORE;
                escaped = true;
                size_t next; /* the escaped byte has no meaning, even if it is in the index */
                k->i++;
                if (place(k, &next) && next == pos + 1)
                    continue;
                k->i--;
            }
            continue;
        }
        size_t to = delimiter ? pos : trim_cr(k, k->cell, pos);
        if (escaped)
            add_unescaped(k->c, w->p + k->cell, to - k->cell, false);
        else
            add_cell(k->c, w->p + k->cell, to - k->cell, false);
        if (delimiter) {
            k->i++;
            k->cell = pos + k->c->d->n_delimiter;
            return STEP_CELL;
        }
        k->row->n = to - w->at;
        if (eof) {
            k->row->next = w->n - w->at;
            return STEP_ROW;
        }
        return end_row(k, pos);
    }
}

/* The index of the quote that closes the cell whose opening quote stands at k->cell. */
static enum step closing_quote(struct walk *k, size_t *ret, bool *ret_escaped)
{
    const struct window *w = k->w;
    const struct dialect *d = k->c->d;
    size_t pos;
    for (;; k->i++) {
        if (!place(k, &pos))
            return w->end ? STEP_LINE : STEP_MORE;
        if (pos <= k->cell)
            continue;
        unsigned char b = (unsigned char)w->p[pos];
        if (is_end(k->c, (char)b)) {
            if (b == '\n' && k->c->d->line_end == LINE_ANY && w->p[pos - 1] == '\r')
                continue;
            k->lines++;
        } else if (b == d->escape && (d->escape != d->quote || (pos + 1 < w->n && w->p[pos + 1] == d->quote))) {
            if (pos + 1 == w->n && !w->end)
                return STEP_MORE;
            *ret_escaped = true;
            size_t next;
            k->i++;
            if (!place(k, &next) || next != pos + 1)
                k->i--;
            else if (is_end(k->c, w->p[next]))
                k->lines++;
        } else if (b == d->quote) {
            if (pos + 1 == w->n && !w->end)
                return STEP_MORE; /* the byte after it may be a second quote */
            *ret = pos;
            k->i++;
            return STEP_CELL;
        }
    }
}

static enum step quoted(struct walk *k)
{
    const struct window *w = k->w;
    size_t close = 0, lines_before = k->lines;
    bool escaped = false, delimiter = false;
    enum step s = closing_quote(k, &close, &escaped);
    if (s == STEP_LINE)
        damage(k, "quote", never_closed, k->cell);
    if (s != STEP_CELL)
        return s;
    size_t pos = close + 1;
    if (pos < w->n && w->p[pos] == k->c->d->delimiter[0] && delimiter_at(k, pos, &delimiter) == STEP_MORE)
        return STEP_MORE;
    if (pos < w->n && !delimiter && !is_end(k->c, w->p[pos])) {
        if (w->p[pos] == '\r' && k->c->d->line_end == LINE_LF) {
            if (pos + 1 == w->n && !w->end)
                return STEP_MORE;
            if (pos + 1 == w->n || w->p[pos + 1] == '\n')
                pos++;
        }
        if (pos < w->n && !is_end(k->c, w->p[pos])) {
            if (k->lines > lines_before) { /* a stray quote, most likely, that took further lines along */
                damage(k, "quote", never_closed, k->cell);
                return STEP_LINE;
            }
            damage(k, "quote", "characters behind a closing quote", pos);
            k->cell = pos;
            return unquoted(k);
        }
    }
    const char *text = w->p + k->cell + 1;
    size_t n = close - k->cell - 1;
    if (escaped)
        add_unescaped(k->c, text, n, true);
    else
        add_cell(k->c, text, n, true);
    if (delimiter) {
        k->cell = pos + k->c->d->n_delimiter;
        return STEP_CELL;
    }
    k->row->n = close + 1 - w->at;
    if (pos >= w->n) {
        k->row->next = w->n - w->at;
        return STEP_ROW;
    }
    return end_row(k, pos);
}

/* Only the first line is the damaged record; the following lines are read again. */
static bool first_line(struct walk *k)
{
    size_t n, next;
    if (!csv_line(k->c, k->w, &n, &next))
        return false;
    k->row->n = n;
    k->row->next = next;
    k->row->lines = next > n;
    if (k->row->spot > n)
        k->row->spot = n;
    k->c->n_cells = 0;
    return true;
}

/* The cells of a row that are plain: unquoted, with a delimiter of one byte behind them and known places. Most are, and this
 * loop is what reading costs then. Stops where anything else stands; STEP_ROW when that was the row's end. */
static enum step plain_cells(struct walk *k)
{
    struct csv *c = k->c;
    const char *p = k->w->p, delimiter = c->d->delimiter[0];
    size_t i = k->i, n_index = c->n_index, cell = k->cell;
    while (i < n_index && c->index[i] < cell) /* of the cell before */
        i++;
    while (i < n_index && c->n_cells < c->cap_cells) {
        size_t pos = c->index[i];
        if (p[pos] == delimiter) {
            c->cells[c->n_cells++] = (struct cell){p + cell, (uint32_t)(pos - cell), false};
            cell = pos + 1;
            i++;
        } else if (p[pos] == '\n' && c->d->line_end == LINE_LF) {
            size_t to = pos > cell && p[pos - 1] == '\r' ? pos - 1 : pos;
            c->cells[c->n_cells++] = (struct cell){p + cell, (uint32_t)(to - cell), false};
            k->row->n = to - k->w->at;
            k->row->next = pos + 1 - k->w->at;
            k->row->lines = 1;
            return STEP_ROW;
        } else {
            break;
        }
    }
    k->i = i;
    k->cell = cell;
    return STEP_CELL;
}

/* Cells without a pointer lie in the arena, in order. */
static void place_unescaped(struct csv *c)
{
    size_t used = 0;
    for (size_t i = 0; c->arena.n && i < c->n_cells; i++)
        if (!c->cells[i].p) {
            c->cells[i].p = c->arena.p + used;
            used += c->cells[i].n;
        }
}

bool csv_split(struct csv *c, struct window *w, struct csv_row *ret)
{
    struct csv_row row = {0};
    struct walk k = {c, w, c->next, w->at, 0, &row};
    bool plain = c->d->n_delimiter == 1 && (c->d->escape == c->d->quote || c->d->escape == NO_CHAR);
    c->n_cells = 0;
    c->arena.n = 0;
    for (;;) {
        enum step s;
        if (plain && !row.damage && plain_cells(&k) == STEP_ROW) {
            row.lines += k.lines;
            break;
        }
        if (k.cell >= w->n && !w->end)
            return false;
        if (c->n_cells >= CSV_MAX_CELLS) {
            damage(&k, "columns", "more than 65536 cells", k.cell);
            s = STEP_LINE;
        } else {
            s = k.cell < w->n && (unsigned char)w->p[k.cell] == c->d->quote ? quoted(&k) : unquoted(&k);
        }
        if (s == STEP_MORE)
            return false;
        if (s == STEP_LINE) {
            if (!first_line(&k))
                return false;
            break;
        }
        if (s == STEP_ROW) {
            row.lines = k.lines;
            break;
        }
    }
    place_unescaped(c);
    *ret = row;
    return true;
}

/* --- repair --- */

/* A damaged record is walked over byte by byte, without the index: few records are damaged. */
struct mend {
    struct csv *c;
    const char *p;
    size_t n;
    size_t barren; /* no quote before this position closes a cell, except perhaps the first after the opening one */
};

static bool has_delimiter(const struct mend *m, size_t at)
{
    const struct dialect *d = m->c->d;
    return m->n - at >= d->n_delimiter && !memcmp(m->p + at, d->delimiter, d->n_delimiter);
}

static bool behind_delimiter(const struct mend *m, size_t at)
{
    size_t n = m->c->d->n_delimiter;
    return at >= n && has_delimiter(m, at - n);
}

/* The quote that closes the cell whose first byte is the quote at `open`; 0: none does. A quote behind a delimiter opens another
 * cell, so that this one was never closed. From any quote within what was searched in vain, pairs of quotes look the same but
 * for those that it touches itself: only the first single one behind it is looked at, and the cost stays linear. */
static size_t closing_in_record(struct mend *m, size_t open, bool *ret_escaped)
{
    const struct dialect *d = m->c->d;
    bool first_only = open < m->barren;
    size_t i = open + 1;
    for (; i < m->n; i++) {
        unsigned char b = (unsigned char)m->p[i];
        if (b == d->escape && i + 1 < m->n && (d->escape != d->quote || (unsigned char)m->p[i + 1] == d->quote)) {
            *ret_escaped = true;
            i++;
        } else if (b == d->quote) {
            if (i + 1 == m->n || has_delimiter(m, i + 1))
                return i;
            if (first_only || behind_delimiter(m, i))
                break;
        }
    }
    if (i > m->barren)
        m->barren = i;
    return 0;
}

static size_t end_of_text(const struct mend *m, size_t from, bool *ret_escaped)
{
    const struct dialect *d = m->c->d;
    for (size_t i = from; i < m->n; i++) {
        if (m->p[i] == d->delimiter[0] && has_delimiter(m, i))
            return i;
        if ((unsigned char)m->p[i] == d->escape && d->escape != d->quote) {
            *ret_escaped = true;
            i++;
        }
    }
    return m->n;
}

bool csv_repair(struct csv *c, const struct window *w, const struct csv_row *row)
{
    struct mend m = {c, w->p + w->at, row->n, 0};
    size_t at = 0, end;
    c->n_cells = 0;
    c->arena.n = 0;
    do {
        bool escaped = false, opened = at < m.n && (unsigned char)m.p[at] == c->d->quote;
        size_t close = opened ? closing_in_record(&m, at, &escaped) : 0;
        size_t from = close ? at + 1 : at;
        if (c->n_cells == CSV_MAX_CELLS)
            return false;
        if (!close)
            escaped = false;
        end = close ? close : end_of_text(&m, at, &escaped);
        if (escaped)
            add_unescaped(c, m.p + from, end - from, close > 0);
        else
            add_cell(c, m.p + from, end - from, close > 0);
        end += close > 0;
        at = end + c->d->n_delimiter;
    } while (end < m.n);
    place_unescaped(c);
    return true;
}
