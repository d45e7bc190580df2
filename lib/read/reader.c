/* The window holds the input from the start of the current record on. A record is split in place when it is complete;
 * otherwise the window is read on (at most to max_row_bytes and two blocks) and the record is split again.
 *
 * Rows at the end of a CSV file that are remarks ("Total: 7", "(3 rows)") are not records. Only the end of the file shows what
 * they are. So behind a row that may be a remark up to FOOTER_AHEAD bytes are read ahead. If the file ends there and only such
 * rows follow, all of them are left out. */
#include "reader.h"
#include "base/mem.h"
#include "header.h"
#include "json_split.h"
#include "plan.h"
#include "scan.h"
#include "sniff.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { FOOTER_AHEAD = 64 << 10, FOOTER_ROWS = 10, FOOTER_MAX_AHEAD = 32 << 20, RAW_OF_TOO_LONG = 4096 };

struct reader {
    const struct spec *spec;
    size_t max_row;
    struct window w;
    struct dialect dialect;
    struct csv csv;
    bool started, has_header, skip_to_line_end;
    struct json_split json;
    struct header header;
    struct plan *plan;
    struct figures *figures;
    int64_t footers;
    char why[500];
};

struct reader *reader_new(struct src *s, const struct spec *spec)
{
    struct reader *r = xcalloc(1, sizeof *r);
    int64_t max = spec->max_row_bytes;
    r->spec = spec;
    r->max_row = max < 0 || max > SPEC_MAX_ROW_BYTES ? SPEC_MAX_ROW_BYTES : (size_t)max;
    r->w = (struct window){.src = s, .line = 1};
    return r;
}

void reader_free(struct reader *r)
{
    if (!r)
        return;
    header_fini(&r->header);
    plan_free(r->plan);
    csv_fini(&r->csv);
    window_fini(&r->w);
    free(r);
}

size_t reader_n_columns(const struct reader *r)
{
    return r->header.n;
}

const char *reader_column(const struct reader *r, size_t i)
{
    return r->header.names[i];
}

const struct dialect *reader_dialect(const struct reader *r)
{
    return &r->dialect;
}

const struct cell *reader_cells(const struct reader *r, size_t *ret_n)
{
    *ret_n = r->csv.n_cells;
    return r->csv.cells;
}

const char *reader_header_repair(const struct reader *r, int64_t *ret_line, int64_t *ret_offset)
{
    *ret_line = r->header.line;
    *ret_offset = r->header.offset;
    return r->header.repaired.n ? r->header.repaired.p : NULL;
}

int64_t reader_offset(const struct reader *r)
{
    return r->w.offset;
}

int64_t reader_footers(const struct reader *r)
{
    return r->footers;
}

void reader_set_figures(struct reader *r, struct figures *f)
{
    r->figures = f;
    if (r->plan)
        plan_set_figures(r->plan, f);
}

static int grow(struct reader *r, struct err *e)
{
    size_t shift;
    int n = window_grow(&r->w, &shift, e);
    if (n == 0)
        csv_moved(&r->csv, shift);
    return n;
}

static void refuse(struct record *rec, const char *rule, const char *why, size_t column, size_t spot)
{
    if (rec->reject)
        return;
    rec->reject = why;
    rec->repaired = NULL;
    rec->rule = rule;
    rec->column = (int)column;
    rec->spot = spot;
}

static bool repairs(const struct reader *r)
{
    return r->spec->damaged == DAMAGED_REPAIR;
}

static void note_repair(struct record *rec, const char *rule, const char *what, size_t column, size_t spot)
{
    rec->repaired = what;
    rec->rule = rule;
    rec->column = (int)column;
    rec->spot = spot;
}

/* The cells of a damaged record, as far as they can be told apart. */
static void mend_quotes(struct reader *r, struct record *rec, const struct csv_row *row)
{
    if (repairs(r) && !strcmp(row->rule, "quote") && csv_repair(&r->csv, &r->w, row)) {
        note_repair(rec, row->rule, "a stray quote is text", row->cell, row->spot);
        return;
    }
    refuse(rec, row->rule, row->damage, row->cell, row->spot);
}

/* --- footers --- */

static bool is_remark(const char *p, size_t n)
{
    static const char *const starts[] = {"#",       "(",      "--",   "==",        "total",  "sum",       "rows",
                                         "records", "source", "note", "generated", "end of", "copyright", "eof"};
    while (n && (*p == ' ' || *p == '"'))
        p++, n--;
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++)
        if (n >= strlen(starts[i]) && !strncasecmp(p, starts[i], strlen(starts[i])))
            return true;
    return false;
}

/* A row with text in its first cell only. */
static bool lone_cell(const struct csv *c)
{
    if (!c->n_cells || !c->cells[0].n)
        return false;
    for (size_t i = 1; i < c->n_cells; i++)
        if (c->cells[i].n)
            return false;
    return true;
}

/* Whether only few rows without a delimiter follow the row of the window's start; all of it is in the window. */
static bool only_remarks_follow(const struct reader *r, size_t from)
{
    struct window w = r->w;
    size_t n, next;
    int rows = 0;
    for (w.at += from; w.at < w.n && csv_line(&r->csv, &w, &n, &next); w.at += next)
        if (n && (++rows > FOOTER_ROWS || memmem(w.p + w.at, n, r->dialect.delimiter, r->dialect.n_delimiter)))
            return false;
    return true;
}

static size_t rows_behind(const struct reader *r, size_t from, size_t enough)
{
    struct window w = r->w;
    size_t n, next, rows = 0;
    for (w.at += from; rows < enough && w.at < w.n && csv_line(&r->csv, &w, &n, &next); w.at += next)
        rows += n > 0;
    return rows;
}

/* Whether the row at the window's start belongs to the footer: 1, 0, or 2 when more must be read to tell. */
static int is_footer(const struct reader *r, const struct csv_row *row)
{
    const struct window *w = &r->w;
    if (r->dialect.footer_rows > 0) {
        size_t n = (size_t)r->dialect.footer_rows, behind = rows_behind(r, row->next, n);
        return behind >= n || w->n - w->at > FOOTER_MAX_AHEAD ? 0 : w->end ? 1 : 2;
    }
    if (r->dialect.footer_rows == 0 || r->header.n < 2 || row->damage || r->csv.n_cells == r->header.n || !lone_cell(&r->csv))
        return 0;
    bool behind_blank = w->at > 0 && (w->p[w->at - 1] == '\n' || w->p[w->at - 1] == '\r') &&
                        (w->at == 1 || w->p[w->at - 2] == '\n' ||
                         (w->p[w->at - 2] == '\r' && (w->at < 3 || w->p[w->at - 3] == '\n' || w->p[w->at - 3] == '\r')));
    if (!is_remark(w->p + w->at, row->n) && !(behind_blank && r->header.n > 2))
        return 0;
    if (w->end)
        return only_remarks_follow(r, row->next);
    return w->n - w->at - row->next < FOOTER_AHEAD ? 2 : 0;
}

/* --- records --- */

/* The record is longer than the limit: gives its beginning. */
static void give_beginning(const struct reader *r, struct record *rec)
{
    *rec = (struct record){.raw = r->w.p + r->w.at,
                           .n = r->max_row < RAW_OF_TOO_LONG ? r->max_row : RAW_OF_TOO_LONG,
                           .line = r->w.line,
                           .offset = r->w.offset};
}

static void refuse_length(struct record *rec)
{
    rec->too_long = true;
    refuse(rec, "max_row_bytes", "the row is longer than max_row_bytes", 0, 0);
}

static bool is_too_much(const struct reader *r)
{
    return r->w.n - r->w.at > r->max_row + 2 * WINDOW_BLOCK;
}

/* Skips the rest of a record that is too long; an unclosed quote costs only its first line. 1: there is a record, 0: there is none.
 */
static int too_long_csv(struct reader *r, struct record *rec)
{
    size_t n = 0, next = 0;
    bool skipping = r->skip_to_line_end;
    give_beginning(r, rec);
    if (csv_line(&r->csv, &r->w, &n, &next) && n <= r->max_row) {
        struct csv_row row = {n, next, 1, "a quote is opened and never closed", "quote", 0, 0};
        rec->n = n;
        mend_quotes(r, rec, &row);
        csv_advance(&r->csv, &r->w, &row);
        return 1;
    }
    refuse_length(rec);
    window_advance(&r->w, r->w.n - r->w.at, 0);
    csv_resync(&r->csv, &r->w);
    r->skip_to_line_end = true;
    return !skipping;
}

/* Splits off the next record: 1, 0 at the end, 2 when more must be read. */
static int split_csv(struct reader *r, struct record *rec, struct csv_row *row)
{
    bool complete;
    if (r->w.at == r->w.n)
        return r->w.end ? 0 : 2;
    if (r->skip_to_line_end) {
        complete = csv_line(&r->csv, &r->w, &row->n, &row->next);
        row->lines = row->next > row->n;
    } else {
        complete = csv_split(&r->csv, &r->w, row);
        if (complete && row->damage)
            mend_quotes(r, rec, row);
    }
    rec->n = row->n;
    return complete ? 1 : 2;
}

/* Skips a footer: 1 when there was one, 2 when more must be read to tell. */
static int pass_footer(struct reader *r, const struct csv_row *row)
{
    if (!r->has_header || r->skip_to_line_end || !r->dialect.footer_rows)
        return 0;
    int footer = is_footer(r, row);
    if (footer != 1)
        return footer;
    r->footers += row->n > 0;
    csv_advance(&r->csv, &r->w, row);
    return 1;
}

/* The next record of any kind, before checks of its content. */
static int next_csv(struct reader *r, struct record *rec, struct err *e)
{
    for (;;) {
        struct csv_row row = {0};
        *rec = (struct record){0};
        int s = split_csv(r, rec, &row), footer = s == 1 ? pass_footer(r, &row) : 0;
        if (s == 0)
            return 0;
        if (footer == 1)
            continue;
        if (s == 2 && is_too_much(r)) {
            if (too_long_csv(r, rec))
                return 1;
            continue;
        }
        if (s == 2 || footer == 2) {
            int n = grow(r, e);
            if (n < 0)
                return n;
            continue;
        }
        rec->raw = r->w.p + r->w.at;
        rec->line = r->w.line;
        rec->offset = r->w.offset;
        bool skipped = r->skip_to_line_end;
        r->skip_to_line_end = false;
        csv_advance(&r->csv, &r->w, &row);
        if (skipped || rec->n == 0)
            continue;
        if (rec->n > r->max_row)
            refuse_length(rec);
        return 1;
    }
}

static int next_json(struct reader *r, struct record *rec, struct err *e)
{
    for (;;) {
        struct json_row row;
        int s = json_split(&r->json, &r->w, &row, e);
        if (s == JSON_MORE && is_too_much(r)) {
            bool again = r->json.discards;
            give_beginning(r, rec);
            refuse_length(rec);
            json_discard(&r->json, &r->w);
            if (!again)
                return 1;
            continue;
        }
        if (s == JSON_MORE && (s = grow(r, e)) == 0)
            continue;
        if (s != JSON_ROW)
            return s;
        *rec = (struct record){.raw = r->w.p + r->w.at, .n = row.n, .line = r->w.line, .offset = r->w.offset};
        window_advance_text(&r->w, row.next);
        if (row.skipped)
            continue;
        if (row.damage)
            refuse(rec, "json", row.damage, 0, row.spot);
        else if (rec->n > r->max_row)
            refuse_length(rec);
        rec->n_columns = row.members;
        return 1;
    }
}

/* --- the header --- */

/* Columns of a file without a header are named by the configuration, in its order, else column_1 and so on. */
static int name_columns(struct reader *r, struct err *e)
{
    struct record rec = {0};
    struct csv_row row;
    size_t k = 0;
    int n;
    while ((n = split_csv(r, &rec, &row)) == 2 || (n == 1 && rec.n == 0)) {
        if (n == 1)
            csv_advance(&r->csv, &r->w, &row); /* a blank line */
        else if ((n = grow(r, e)) < 0)
            return n;
    }
    if (n == 0)
        return 0;
    /* As many columns as most rows have, or else as the first row, which is not consumed. */
    size_t n_columns = r->dialect.n_cells ? r->dialect.n_cells : r->csv.n_cells;
    if (r->spec->fixed_columns) {
        n_columns = 0;
        for (size_t i = 0; i < r->spec->n_rules; i++)
            n_columns += !r->spec->rules[i].value;
    }
    r->header.names = xcalloc(n_columns + 1, sizeof *r->header.names);
    r->header.n = n_columns;
    for (size_t i = 0; i < n_columns; i++) {
        while (k < r->spec->n_rules && r->spec->rules[k].value)
            k++;
        r->header.names[i] = k < r->spec->n_rules ? xstrdup(r->spec->rules[k++].name) : xasprintf("column_%zu", i + 1);
    }
    return 1;
}

static int read_header(struct reader *r, struct err *e)
{
    struct record rec;
    size_t at;
    int n = 1;
    bool repair = repairs(r) && r->dialect.header_rows > 0;
    if (r->dialect.header_rows == 0) {
        n = name_columns(r, e);
    } else {
        for (int i = 0; n > 0 && i < r->dialect.header_rows; i++) {
            n = next_csv(r, &rec, e);
            if (n <= 0)
                break;
            if (rec.reject || (!repair && scan_text(rec.raw, rec.n, &at) != TEXT_OK))
                return err_set(e, ERR_FORMAT, "the header row is damaged: %s",
                               rec.reject ? rec.reject : "not valid UTF-8 or a NUL byte");
            if (i == 0) {
                r->header.line = rec.line;
                r->header.offset = rec.offset;
            }
            if (rec.repaired)
                header_repaired(&r->header, "%s", rec.repaired);
            header_add(&r->header, r->csv.cells, r->csv.n_cells, repair);
        }
    }
    if (n < 0 || (n == 0 && !r->header.n))
        return n;
    r->has_header = true;
    n = 0;
    if (repair)
        header_repair(&r->header, r->spec);
    else
        n = header_check(&r->header, e);
    if (n == 0)
        n = plan_new_csv(r->spec, &r->dialect, r->header.names, r->header.n, &r->plan, e);
    if (n == 0 && r->figures)
        plan_set_figures(r->plan, r->figures);
    return n < 0 ? n : 1;
}

static int start_file(struct reader *r, struct err *e)
{
    size_t bom;
    char why[256];
    double sure;
    while (r->w.n < SNIFF_BYTES && !r->w.end) {
        int n = grow(r, e);
        if (n < 0)
            return n;
    }
    r->started = true;
    size_t look = r->w.n < SNIFF_BYTES ? r->w.n : SNIFF_BYTES;
    enum encoding enc = sniff_encoding(r->spec, r->w.p, look, &bom, why, &sure);
    r->dialect.encoding = enc;
    r->w.at = bom;
    r->w.offset = (int64_t)bom;
    window_set_encoding(&r->w, enc);
    if (r->spec->format == READER_JSON) {
        r->plan = plan_new_json(r->spec);
        if (r->figures)
            plan_set_figures(r->plan, r->figures);
        return 0;
    }
    look = r->w.n - r->w.at < SNIFF_BYTES ? r->w.n - r->w.at : SNIFF_BYTES;
    sniff_dialect(r->spec, r->w.p + r->w.at, look, r->w.end && look == r->w.n - r->w.at, &r->dialect);
    if (*why) {
        size_t n = strlen(r->dialect.why);
        snprintf(r->dialect.why + n, sizeof r->dialect.why - n, "%s%s: %s", n ? "; " : "", encoding_name(enc), why);
        r->dialect.confidence *= sure;
    }
    csv_init(&r->csv, &r->dialect);
    csv_resync(&r->csv, &r->w);
    for (int i = 0; i < r->dialect.skip_rows; i++) {
        size_t n, next;
        while (r->w.at < r->w.n || !r->w.end) {
            if (csv_line(&r->csv, &r->w, &n, &next)) {
                struct csv_row row = {.next = next, .lines = 1};
                csv_advance(&r->csv, &r->w, &row);
                break;
            }
            int g = grow(r, e);
            if (g < 0)
                return g;
        }
    }
    return 0;
}

/* Appends to r->why, behind earlier repairs of the row, what is wrong with its number of cells. */
static void describe_ragged(struct reader *r, const struct record *rec, size_t have, size_t want)
{
    static const char others[] = {';', ',', '\t', '|'};
    bool fewer = have < want;
    int n = snprintf(r->why, sizeof r->why, "%s%s%s cells than the header has columns (%zu of %zu)%s",
                     rec->repaired ? rec->repaired : "", rec->repaired ? "; " : "", fewer ? "fewer" : "more", have, want,
                     !repairs(r) ? ""
                     : fewer     ? ": those that are missing are null"
                                 : ": further ones are in _extra");
    for (size_t i = 0; i < sizeof others; i++) {
        size_t found = 0;
        for (size_t k = 0; k < rec->n; k++)
            found += rec->raw[k] == others[i];
        if (have == 1 && found + 1 == want && others[i] != r->dialect.delimiter[0])
            snprintf(r->why + n, sizeof r->why - (size_t)n, "; it seems to be delimited by '%c'", others[i]);
    }
}

/* A row with more or fewer cells than the table has columns. */
static void check_ragged(struct reader *r, struct record *rec)
{
    size_t have = r->csv.n_cells, want = r->header.n, spot = 0;
    if (have == want || (have < want && r->dialect.ragged != RAGGED_REJECT) ||
        (have > want && r->dialect.ragged == RAGGED_KEEP_EXTRA))
        return;
    describe_ragged(r, rec, have, want);
    if (have < want)
        spot = rec->n;
    else if (r->csv.cells[want].p >= rec->raw && r->csv.cells[want].p <= rec->raw + rec->n)
        spot = (size_t)(r->csv.cells[want].p - rec->raw);
    size_t column = have < want ? have + 1 : want + 1;
    if (!repairs(r)) {
        refuse(rec, "ragged", r->why, column, spot);
    } else if (rec->repaired) {
        rec->repaired = r->why; /* the spot stays the quote's */
    } else {
        note_repair(rec, "ragged", r->why, column, spot);
    }
}

/* Concatenated files repeat their header. */
static bool is_header_again(const struct reader *r)
{
    if (r->header.n < 2 || r->dialect.header_rows != 1 || r->csv.n_cells != r->header.n || !r->csv.cells[0].n ||
        r->csv.cells[0].p[0] != r->header.names[0][0])
        return false;
    for (size_t i = 0; i < r->header.n; i++) {
        const struct cell *c = &r->csv.cells[i];
        if (strlen(r->header.names[i]) != c->n || memcmp(r->header.names[i], c->p, c->n))
            return false;
    }
    return true;
}

static size_t cell_at(const struct reader *r, const struct record *rec, size_t at)
{
    for (size_t i = r->csv.n_cells; i-- > 0;)
        if (r->csv.cells[i].p >= rec->raw && (size_t)(r->csv.cells[i].p - rec->raw) <= at)
            return i + 1;
    return r->csv.n_cells ? 1 : 0;
}

int reader_next(struct reader *r, struct record *rec, struct err *e)
{
    size_t at = 0;
    int n = r->started ? 1 : start_file(r, e);
    bool csv = r->spec->format == READER_CSV;
    if (n < 0)
        return n;
    if (csv && !r->has_header && (n = read_header(r, e)) <= 0)
        return n;
    n = csv ? next_csv(r, rec, e) : next_json(r, rec, e);
    if (n <= 0)
        return n;
    enum text_fault fault = rec->reject ? TEXT_OK : scan_text(rec->raw, rec->n, &at);
    if (fault != TEXT_OK) {
        if (fault == TEXT_NUL)
            refuse(rec, "nul", "a NUL byte", csv ? cell_at(r, rec, at) : 0, at);
        else {
            snprintf(r->why, sizeof r->why, "not valid %s (byte 0x%02x)", r->dialect.encoding == ENC_UTF8 ? "UTF-8" : "UTF-16",
                     (unsigned char)rec->raw[at]);
            refuse(rec, "encoding", r->why, csv ? cell_at(r, rec, at) : 0, at);
        }
    }
    if (!csv) {
        rec->n_columns = rec->reject ? 0 : rec->n_columns;
        return 1;
    }
    rec->n_columns = rec->reject ? 0 : r->csv.n_cells;
    if (!rec->reject)
        check_ragged(r, rec);
    if (!rec->reject && is_header_again(r))
        refuse(rec, "header", "the header row again", 0, 0);
    return 1;
}

int reader_json_row(const struct spec *spec, struct record *rec, struct buf *out)
{
    AUTO_PLAN struct plan *p = plan_new_json(spec);
    int r = plan_json(p, rec, out);
    if (r < 0)
        rec->reject = "not an object that can be stored"; /* the plan's own text is freed with it */
    return r;
}

int reader_row(struct reader *r, struct record *rec, struct buf *out)
{
    int n = ERR_FORMAT;
    if (!rec->reject)
        n = r->spec->format == READER_CSV ? plan_row(r->plan, rec, r->csv.cells, r->csv.n_cells, out)
                                          : plan_json(r->plan, rec, out);
    if (n < 0 && r->figures)
        figures_reject(r->figures, plan_slot(r->plan, rec->column), rec->rule);
    else if (rec->repaired && r->figures)
        figures_repair(r->figures, rec->rule);
    return n;
}

bool reader_rejects_exceed(int64_t rejects, int64_t rows, double max_pct)
{
    return max_pct >= 0 && (double)rejects * 100 > (double)rows * max_pct * (1 + 1e-12);
}
