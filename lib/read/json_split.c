#include "json_split.h"
#include "scan.h"

#include <string.h>

enum { MAX_DEPTH = 64, SCAN_MORE = 0, SCAN_WHOLE, SCAN_DAMAGED };

/* --- one value --- */

static bool in_array(const struct json_scan *s)
{
    return s->depth <= MAX_DEPTH && s->arrays >> (s->depth - 1) & 1;
}

static bool may_open(const struct json_scan *s)
{
    return !s->depth || s->depth > MAX_DEPTH || s->last == ':' || s->last == '[' || (s->last == ',' && in_array(s));
}

static void open_container(struct json_scan *s, bool array)
{
    if (s->depth < MAX_DEPTH) {
        s->arrays &= ~(1ULL << s->depth);
        s->arrays |= (uint64_t)array << s->depth;
    }
    s->depth++;
}

static void pass_string(struct json_scan *s, const char *p, size_t n)
{
    for (; s->i < n; s->i++) {
        if (s->escaped) {
            s->escaped = false;
        } else if (p[s->i] == '\\') {
            s->escaped = true;
        } else if (p[s->i] == '"') {
            s->string = false;
            return;
        } else if (p[s->i] == '\n') {
            return;
        }
    }
}

/* Scans a value that is neither object nor array: a string, or the longest run of bytes that may be a number or a word. */
static int scan_scalar(struct json_scan *s, const char *p, size_t n)
{
    if (s->first != '"') {
        while (s->i < n && !scan_is_blank(p[s->i]) && !memchr(",:[]{}\"", p[s->i], 7))
            s->i++;
        return s->i < n ? SCAN_WHOLE : SCAN_MORE;
    }
    while (s->i < n) {
        pass_string(s, p, n);
        s->i += s->i < n;
        if (!s->string)
            return SCAN_WHOLE;
    }
    return SCAN_MORE;
}

/* Goes on to the end of the object or array that p begins with. by_lines: strings end on their line, and containers begin only
 * where they may, so that a line that was damaged does not take the next ones with it. Damage is at s->i. */
static int scan_container(struct json_scan *s, const char *p, size_t n, bool by_lines)
{
    while (s->i < n) {
        char c = p[s->i];
        if (s->string) {
            pass_string(s, p, n);
            if (s->i < n && s->string && by_lines)
                return SCAN_DAMAGED;
            s->i += s->i < n;
            continue;
        }
        if (c == '{' || c == '[') {
            if (by_lines && !may_open(s))
                return SCAN_DAMAGED;
            open_container(s, c == '[');
        } else if (c == '}' || c == ']') {
            if (s->depth <= MAX_DEPTH && in_array(s) != (c == ']'))
                return SCAN_DAMAGED;
            if (--s->depth == 0) {
                s->i++;
                return SCAN_WHOLE;
            }
        } else if (c == '"') {
            s->string = true;
        } else if (c == ':') {
            s->members += s->depth == 1;
        } else if (c == '\n' && !s->first_lf) {
            s->first_lf = s->i + 1;
            s->next_line = true;
        }
        if (!scan_is_blank(c)) {
            s->last = c;
            s->next_line = false;
        }
        s->i++;
    }
    return SCAN_MORE;
}

static int scan(struct json_split *j, const char *p, size_t n)
{
    struct json_scan *s = &j->scan;
    if (s->whole)
        return SCAN_WHOLE;
    int r = s->first == '{' || s->first == '[' ? scan_container(s, p, n, !j->array) : scan_scalar(s, p, n);
    s->whole = r == SCAN_WHOLE;
    return r;
}

/* --- the file --- */

static void begin(struct json_split *j, char first)
{
    j->scan = (struct json_scan){.first = first, .string = first == '"', .i = first == '"'};
    j->scanning = true;
    j->by_line = false;
    j->damage = NULL;
    j->spot = 0;
}

static int row(struct json_split *j, struct json_row *ret, size_t n, size_t next)
{
    *ret = (struct json_row){n, next, j->scan.members, j->damage, j->spot, j->discards};
    j->scanning = j->discards = false;
    return JSON_ROW;
}

/* The n bytes include a line end, which does not belong to the record. */
static int row_of_line(struct json_split *j, struct json_row *ret, const char *p, size_t n)
{
    size_t next = n;
    n -= n && p[n - 1] == '\n';
    n -= n && p[n - 1] == '\r';
    if (j->spot > n) /* the string is cut off by the end of its line */
        j->spot = n;
    return row(j, ret, n, next);
}

static int refuse(const struct window *w, size_t at, const char *why, struct err *e)
{
    int64_t line = w->line;
    for (size_t i = 0; i < at; i++)
        line += w->p[w->at + i] == '\n';
    return err_set(e, ERR_FORMAT, "line %lld: %s", (long long)line, why);
}

static int cut_off(const struct window *w, const char *what, struct err *e)
{
    return err_set(e, ERR_FORMAT, "line %lld: %s begins here and is cut off", (long long)w->line, what);
}

/* --- an array --- */

/* To the first byte of the next element: JSON_ROW. */
static int to_element(struct json_split *j, struct window *w, struct err *e)
{
    for (; w->at < w->n; window_advance_text(w, 1)) {
        char c = w->p[w->at];
        if (scan_is_blank(c))
            continue;
        if (j->closed)
            return refuse(w, 0, "something stands behind the array", e);
        if (c == ',' && j->place != JSON_BEHIND_VALUE)
            return refuse(w, 0, "a comma where an object of the array should be", e);
        if (c == ']' && j->place == JSON_BEHIND_COMMA)
            return refuse(w, 0, "the array ends behind a comma", e);
        if (c == ',') {
            j->place = JSON_BEHIND_COMMA;
        } else if (c == ']') {
            j->closed = true;
        } else if (j->place == JSON_BEHIND_VALUE) {
            return refuse(w, 0, "no comma between two elements of the array", e);
        } else if (memchr("}:", c, 2)) {
            return refuse(w, 0, "no object of the array begins here", e);
        } else {
            return JSON_ROW;
        }
    }
    if (!w->end)
        return JSON_MORE;
    return j->closed ? JSON_END : refuse(w, 0, "the array is not closed: it is cut off", e);
}

static int split_array(struct json_split *j, struct window *w, struct json_row *ret, struct err *e)
{
    int at = j->scanning ? JSON_ROW : to_element(j, w, e);
    if (at != JSON_ROW)
        return at;
    const char *p = w->p + w->at;
    if (!j->scanning)
        begin(j, *p);
    switch (scan(j, p, w->n - w->at)) {
    case SCAN_MORE:
        return w->end ? cut_off(w, "an element of the array", e) : JSON_MORE;
    case SCAN_DAMAGED:
        return refuse(w, j->scan.i, "the brackets in this element of the array do not match", e);
    default:
        j->place = JSON_BEHIND_VALUE;
        if (j->scan.first != '{')
            j->damage = "not a JSON object";
        return row(j, ret, j->scan.i, j->scan.i);
    }
}

/* --- objects behind one another --- */

/* The record is the whole line, whose end is at `from` or behind it. */
static int whole_line(struct json_split *j, const struct window *w, size_t from, struct json_row *ret)
{
    const char *p = w->p + w->at, *lf = memchr(p + from, '\n', w->n - w->at - from);
    j->by_line = true;
    if (!lf && !w->end)
        return JSON_MORE;
    return row_of_line(j, ret, p, lf ? (size_t)(lf + 1 - p) : w->n - w->at);
}

static int on_whole(struct json_split *j, const struct window *w, size_t lead, struct json_row *ret)
{
    size_t end = lead + j->scan.i, i = end, n = w->n - w->at;
    const char *p = w->p + w->at;
    while (i < n && scan_is_blank(p[i]) && p[i] != '\n')
        i++;
    if (i == n && !w->end)
        return JSON_MORE;
    if (i < n && p[i] != '\n' && p[i] != '{') {
        j->damage = "something stands behind the JSON object";
        j->spot = i;
        return whole_line(j, w, i, ret);
    }
    j->spans_lines |= j->scan.first_lf > 0;
    return row(j, ret, end, i < n && p[i] == '\n' ? i + 1 : i);
}

static int not_closed(struct json_split *j, const struct window *w, size_t lead, size_t next, struct json_row *ret)
{
    j->damage = "malformed JSON: the object is not closed on its line";
    j->spot = lead;
    return row_of_line(j, ret, w->p + w->at, next);
}

static int on_damage(struct json_split *j, const struct window *w, size_t lead, struct json_row *ret, struct err *e)
{
    size_t at = lead + j->scan.i;
    char c = w->p[w->at + at];
    if (j->scan.next_line && c == '{')
        return not_closed(j, w, lead, j->discards ? at : lead + j->scan.first_lf, ret);
    j->damage = j->scan.string         ? "malformed JSON: a string is not closed on its line"
                : c == '{' || c == '[' ? "malformed JSON: something begins here that may not stand here"
                                       : "malformed JSON: the brackets of this object do not match";
    if (j->scan.first_lf || j->spans_lines)
        return refuse(w, at, j->damage, e);
    j->spot = at;
    return whole_line(j, w, at, ret);
}

/* An unfinished value on a complete line is damage. Without a line end, the file was not sent to its end. */
static int on_end(struct json_split *j, const struct window *w, size_t lead, struct json_row *ret, struct err *e)
{
    if (!j->scan.next_line || memchr("{[,:", j->scan.last, 4) || j->discards)
        return cut_off(w, "an object", e);
    return not_closed(j, w, lead, lead + j->scan.first_lf, ret);
}

/* Skips blank lines. Returns how many blanks precede the first byte of a line, or SIZE_MAX when the window ends first. */
static size_t to_line(struct window *w)
{
    size_t i = w->at;
    while (i < w->n && scan_is_blank(w->p[i]))
        if (w->p[i++] == '\n') {
            window_advance_text(w, i - w->at);
            i = w->at;
        }
    return i < w->n ? i - w->at : SIZE_MAX;
}

static int split_lines(struct json_split *j, struct window *w, struct json_row *ret, struct err *e)
{
    size_t lead = j->discards ? 0 : to_line(w);
    if (lead == SIZE_MAX || w->at == w->n) {
        if (!w->end)
            return JSON_MORE;
        if (j->discards && j->scanning && !j->by_line && !j->scan.whole)
            return cut_off(w, "an object", e);
        window_advance_text(w, w->n - w->at);
        return JSON_END;
    }
    const char *p = w->p + w->at + lead;
    if (!j->scanning) {
        begin(j, *p);
        j->by_line = *p != '{'; /* the row is refused later, since it is not an object */
    }
    if (j->by_line)
        return whole_line(j, w, lead, ret);
    switch (scan(j, p, w->n - w->at - lead)) {
    case SCAN_WHOLE:
        return on_whole(j, w, lead, ret);
    case SCAN_DAMAGED:
        return on_damage(j, w, lead, ret, e);
    default:
        return w->end ? on_end(j, w, lead, ret, e) : JSON_MORE;
    }
}

/* --- */

/* The first byte that is not blank decides. */
static int start(struct json_split *j, struct window *w)
{
    size_t lead = to_line(w);
    if (lead == SIZE_MAX)
        return w->end ? JSON_END : JSON_MORE;
    j->started = true;
    j->array = w->p[w->at + lead] == '[';
    if (j->array)
        window_advance_text(w, lead + 1);
    return JSON_ROW;
}

int json_split(struct json_split *j, struct window *w, struct json_row *ret, struct err *e)
{
    int r = j->started || j->discards ? JSON_ROW : start(j, w);
    if (r != JSON_ROW)
        return r;
    return j->array ? split_array(j, w, ret, e) : split_lines(j, w, ret, e);
}

void json_discard(struct json_split *j, struct window *w)
{
    size_t n = w->n - w->at;
    if (j->scan.first_lf)
        j->scan.first_lf = 1; /* remember that there was one */
    j->scan.i = 0;
    j->spot = 0;
    j->discards = true;
    window_advance_text(w, n);
}
