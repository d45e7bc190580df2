/* mysimbdp preview: what the reader makes of a file. It needs no running platform, and a home only for --tenant and --dataset. */
#include "base/fd.h"
#include "base/mem.h"
#include "cli.h"
#include "preview_spec.h"
#include "read/format.h"
#include "read/reader.h"
#include "term/progress.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    SHOWN_ROWS = 10,
    SHOWN_REJECTS = 20,
    SHOWN_COLUMNS = 12,
    CELL_WIDTH = 20,
    RAW_WIDTH = 100,
    OUT_BYTES = 256 << 10,
    SHOW_EVERY = 1024
};

struct preview {
    const char *file, *to, *format;
    struct spec *spec;
    enum src_compression compression;
    struct figures *figures;
    int64_t rows, rejects, repaired;
    struct buf out;                         /* the format of --to */
    char *table[SHOWN_ROWS][SHOWN_COLUMNS]; /* how many first rows are shown */
    size_t n_table;
    struct buf complaints, repairs;
    char **keys; /* JSON to CSV: the columns, which are all members of all objects */
    size_t n_keys;
    struct progress progress;
    bool shows;            /* how far it is */
    int64_t n_read, bytes; /* records that were read; of the file, negative where it is not known */
};

/* --- the file --- */

/* Finds format and compression by the file's name, else by its first bytes. A pipe has neither: CSV. */
static void guess_format(struct preview *p, int fd)
{
    unsigned char first[512];
    p->compression = src_compression_of(p->file, NULL);
    ssize_t n = pread(fd, first, sizeof first, 0), i = 0;
    if (n >= 2 && first[0] == 0x1f && first[1] == 0x8b)
        p->compression = SRC_GZIP;
    else if (n >= 4 && !memcmp(first, "\x28\xb5\x2f\xfd", 4))
        p->compression = SRC_ZSTD;
    if (p->format)
        return;
    while (i < n && strchr(" \t\r\n\xef\xbb\xbf", first[i]))
        i++;
    enum reader_format format;
    if (format_of_name(p->file, &format) < 0)
        format = p->compression == SRC_PLAIN && i < n && (first[i] == '{' || first[i] == '[') ? READER_JSON : READER_CSV;
    p->format = format_name(format);
}

/* --- what is printed --- */

/* Shows text on a terminal: no control bytes, at most `width` characters. *ret_at: how many characters stand before byte `spot`. */
static void add_shown(struct buf *b, const char *p, size_t n, size_t width, size_t spot, size_t *ret_at)
{
    size_t shown = 0;
    *ret_at = 0;
    for (size_t i = 0; i < n && shown < width;) {
        size_t len = utf8_len((const unsigned char *)p + i, n - i);
        if (i <= spot)
            *ret_at = shown;
        if (!len)
            buf_adds(b, "\xef\xbf\xbd");
        else if (utf8_is_control((const unsigned char *)p + i, len))
            buf_adds(b, p[i] == '\t' ? " " : "\xc2\xb7");
        else
            buf_add(b, p + i, len);
        i += len ? len : 1;
        shown++;
        if (i <= spot)
            *ret_at = shown;
    }
}

/* Shows the record with a caret under the spot; `nth`: which of the file's rejects it is. */
static void complain(struct buf *b, int64_t nth, const struct record *rec, const char *what)
{
    size_t from = 0, at;
    if (nth > SHOWN_REJECTS)
        return;
    buf_addf(b, "line %lld, byte %lld", (long long)rec->line, (long long)rec->offset);
    if (rec->column > 0)
        buf_addf(b, ", column %d", rec->column);
    buf_addf(b, ": %s\n", what);
    if (rec->spot > RAW_WIDTH * 2 / 3) { /* start later, so that the spot is in what is shown */
        from = rec->spot - RAW_WIDTH / 3;
        while (from < rec->n && ((unsigned char)rec->raw[from] & 0xc0) == 0x80)
            from++;
    }
    buf_adds(b, from ? "    ..." : "    ");
    add_shown(b, rec->raw + from, rec->n - from, RAW_WIDTH, rec->spot - from, &at);
    buf_addf(b, "\n    %*s^\n", (int)(at + (from ? 3 : 0)), "");
}

static bool flush(struct preview *p, size_t above)
{
    int r = p->out.n > above ? fd_write_all(STDOUT_FILENO, p->out.p, p->out.n) : 0;
    if (p->out.n > above)
        p->out.n = 0;
    return r == 0;
}

static void add_csv_cell(struct buf *b, size_t i, const char *text, size_t n)
{
    buf_reserve(b, 2 * n + 3);
    char *o = b->p + b->n;
    if (i)
        *o++ = ',';
    *o++ = '"';
    for (const char *end = text + n, *q; text < end; text = q) {
        q = memchr(text, '"', (size_t)(end - text));
        q = q ? q + 1 : end;
        memcpy(o, text, (size_t)(q - text));
        o += q - text;
        if (q[-1] == '"')
            *o++ = '"';
    }
    *o++ = '"';
    b->n = (size_t)(o - b->p);
}

static void add_csv_header(struct preview *p, const struct reader *r)
{
    for (size_t i = 0; i < reader_n_columns(r); i++)
        add_csv_cell(&p->out, i, reader_column(r, i), strlen(reader_column(r, i)));
    buf_adds(&p->out, "\n");
}

static void add_csv_row(struct preview *p, const struct reader *r)
{
    size_t n, columns = reader_n_columns(r);
    const struct cell *cells = reader_cells(r, &n);
    for (size_t i = 0; i < n || i < columns; i++)
        add_csv_cell(&p->out, i, i < n ? cells[i].p : "", i < n ? cells[i].n : 0);
    buf_add(&p->out, "\n", 1);
}

static bool doc_of(struct buf *row, bson_t *ret)
{
    uint32_t n = (uint32_t)row->n + 1;
    buf_add(row, "", 1);
    n = BSON_UINT32_TO_LE(n);
    memcpy(row->p, &n, 4);
    return bson_init_static(ret, (const uint8_t *)row->p, row->n);
}

/* A member as a CSV cell: strings as they are, null empty, all else as JSON. */
static void member_text(const bson_t *doc, const char *key, struct buf *text)
{
    bson_iter_t it;
    bson_t one = BSON_INITIALIZER;
    uint32_t n;
    text->n = 0;
    if (!bson_iter_init_find(&it, doc, key) || BSON_ITER_HOLDS_NULL(&it))
        return;
    if (BSON_ITER_HOLDS_UTF8(&it)) {
        const char *s = bson_iter_utf8(&it, &n);
        buf_add(text, s, n);
        return;
    }
    bson_append_iter(&one, "v", 1, &it);
    json_from_bson(&one, text); /* {"v":...} */
    memmove(text->p, text->p + 5, text->n - 6);
    text->n -= 6;
    bson_destroy(&one);
}

static void add_json_as_csv(struct preview *p, const bson_t *doc)
{
    AUTO_BUF struct buf text = {0};
    for (size_t i = 0; i < p->n_keys; i++) {
        member_text(doc, p->keys[i], &text);
        add_csv_cell(&p->out, i, text.p ? text.p : "", text.n);
    }
    buf_add(&p->out, "\n", 1);
}

static void keep_row(struct preview *p, const bson_t *doc)
{
    bson_iter_t it;
    size_t i = 0;
    if (p->n_table == SHOWN_ROWS || !bson_iter_init(&it, doc))
        return;
    for (; i < SHOWN_COLUMNS && i < figures_n_columns(p->figures); i++) {
        AUTO_BUF struct buf text = {0};
        member_text(doc, figures_name(p->figures, i), &text);
        p->table[p->n_table][i] = xstrndup(text.p ? text.p : "", text.n);
    }
    p->n_table++;
}

static void keep_cells(struct preview *p, const struct reader *r)
{
    size_t n;
    const struct cell *cells = reader_cells(r, &n);
    for (size_t i = 0; i < n && i < SHOWN_COLUMNS; i++)
        p->table[p->n_table][i] = xstrndup(cells[i].p, cells[i].n);
    p->n_table++;
}

static void on_row(struct preview *p, struct reader *r, struct buf *row)
{
    bool csv_file = p->spec->format == READER_CSV;
    bson_t doc;
    if (p->to && !strcmp(p->to, "csv") && csv_file) {
        add_csv_row(p, r);
    } else if (p->to && doc_of(row, &doc)) {
        if (!strcmp(p->to, "csv")) {
            add_json_as_csv(p, &doc);
        } else {
            json_from_bson(&doc, &p->out);
            buf_add(&p->out, "\n", 1);
        }
    } else if (!p->to && p->n_table < SHOWN_ROWS) {
        if (csv_file)
            keep_cells(p, r);
        else if (doc_of(row, &doc))
            keep_row(p, &doc);
    }
}

/* After each record. What goes to the same terminal is in no bar's way. */
static void show_progress(struct preview *p, int fd, const char *phase)
{
    if (p->shows && p->n_read++ % SHOW_EVERY == 0)
        progress_show(&p->progress, phase, lseek(fd, 0, SEEK_CUR), p->bytes, p->bytes > 0 ? "B" : NULL);
}

/* Collects every member that any object of the file has: CSV needs its header first. */
static int collect_keys(struct preview *p, int fd, struct err *e)
{
    struct src *s = src_new(fd, p->compression, -1, NULL, NULL);
    struct reader *r = reader_new(s, p->spec);
    struct record rec;
    AUTO_BUF struct buf row = {0};
    int n;
    while ((n = reader_next(r, &rec, e)) > 0) {
        bson_t doc;
        bson_iter_t it;
        show_progress(p, fd, "looking for columns");
        row.n = 0;
        buf_add(&row, "\0\0\0\0", 4);
        if (reader_row(r, &rec, &row) < 0 || !doc_of(&row, &doc) || !bson_iter_init(&it, &doc))
            continue;
        for (size_t i = 0; bson_iter_next(&it); i++) {
            const char *key = bson_iter_key(&it);
            size_t k = i < p->n_keys && !strcmp(p->keys[i], key) ? i : 0; /* most stand where they stood before */
            while (k < p->n_keys && strcmp(p->keys[k], key))
                k++;
            if (k == p->n_keys) {
                p->keys = xrealloc(p->keys, (k + 1) * sizeof *p->keys);
                p->keys[p->n_keys++] = xstrdup(key);
            }
        }
    }
    reader_free(r);
    src_free(s);
    if (n == 0 && lseek(fd, 0, SEEK_SET) < 0)
        n = err_sys(e, -errno, "JSON becomes CSV in two passes, and this cannot be read twice");
    for (size_t i = 0; i < p->n_keys; i++)
        add_csv_cell(&p->out, i, p->keys[i], strlen(p->keys[i]));
    buf_adds(&p->out, "\n");
    return n;
}

static size_t width_of(const char *text)
{
    size_t n = 0;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static void print_cell(const char *text, size_t width)
{
    AUTO_BUF struct buf b = {0};
    size_t at;
    add_shown(&b, text, strlen(text), CELL_WIDTH, 0, &at);
    buf_add(&b, "", 0);
    size_t n = width_of(b.p);
    printf("%s%*s  ", b.p, (int)(width > n ? width - n : 0), "");
}

static void print_table(const struct preview *p)
{
    size_t n = figures_n_columns(p->figures), shown = n < SHOWN_COLUMNS ? n : SHOWN_COLUMNS;
    size_t widths[SHOWN_COLUMNS];
    for (size_t i = 0; i < shown; i++) {
        widths[i] = width_of(figures_name(p->figures, i));
        for (size_t k = 0; k < p->n_table; k++)
            if (p->table[k][i] && width_of(p->table[k][i]) > widths[i])
                widths[i] = width_of(p->table[k][i]);
        if (widths[i] > CELL_WIDTH)
            widths[i] = CELL_WIDTH;
    }
    printf("\nfirst rows%s\n  ", n > shown ? " (of the first columns)" : "");
    for (size_t i = 0; i < shown; i++)
        print_cell(figures_name(p->figures, i), widths[i]);
    puts("");
    for (size_t k = 0; k < p->n_table; k++) {
        fputs("  ", stdout);
        for (size_t i = 0; i < shown; i++)
            print_cell(p->table[k][i] ? p->table[k][i] : "", widths[i]);
        puts("");
    }
}

static const char *char_name(int c, char text[8])
{
    snprintf(text, 8, c == NO_CHAR ? "none" : c == '\t' ? "tab" : "%c", c);
    return text;
}

static void print_header_repair(const struct reader *r, const char *indent, FILE *to)
{
    int64_t line, offset;
    const char *repaired = reader_header_repair(r, &line, &offset);
    if (repaired)
        fprintf(to, "%sheader at line %lld repaired: %s\n", indent, (long long)line, repaired);
}

static void print_dialect(const struct preview *p, const struct reader *r)
{
    const struct dialect *d = reader_dialect(r);
    char quote[8], escape[8];
    AUTO_BUF struct buf delimiter = {0};
    static const char *const compressions[] = {"", ", gzip", ", zstd"};
    printf("%s: %s, %s%s\n", p->file, p->format, encoding_name(d->encoding), compressions[p->compression]);
    if (p->spec->format == READER_JSON || !d->n_delimiter || !reader_n_columns(r))
        return;
    json_strn(&delimiter, NULL, d->delimiter, d->n_delimiter);
    printf("  delimiter %s  quote %s  escape %s  line ends %s\n", delimiter.p, char_name(d->quote, quote),
           d->escape == d->quote ? "doubled" : char_name(d->escape, escape),
           d->line_end == LINE_LF   ? "LF or CRLF"
           : d->line_end == LINE_CR ? "CR"
                                    : "mixed");
    printf("  lines before the header %d  header rows %d  footer rows %lld\n", d->skip_rows, d->header_rows,
           (long long)reader_footers(r));
    print_header_repair(r, "  ", stdout);
    printf("  %.0f %% sure%s%s\n", d->confidence * 100, *d->why ? ": " : "", d->why);
}

static void print_columns(const struct preview *p)
{
    size_t n = figures_n_columns(p->figures);
    printf("\ncolumns (%zu)\n", n);
    for (size_t i = 0; i < n; i++) {
        printf("  %3zu  ", i + 1);
        print_cell(figures_name(p->figures, i), CELL_WIDTH);
        printf("%-9s %lld null", figures_type(p->figures, i), (long long)figures_nulls(p->figures, i));
        if (figures_changed_at(p->figures, i))
            printf("; changes its type at line %lld", (long long)figures_changed_at(p->figures, i));
        puts("");
    }
}

static int read_all(struct preview *p, int fd, struct err *e)
{
    struct src *s = src_new(fd, p->compression, -1, NULL, NULL);
    struct reader *r = reader_new(s, p->spec);
    struct record rec;
    AUTO_BUF struct buf row = {0};
    bool header = false, csv = p->to && !strcmp(p->to, "csv") && p->spec->format == READER_CSV;
    int n;
    if (!p->to)
        reader_set_figures(r, p->figures);
    while ((n = reader_next(r, &rec, e)) > 0) {
        if (csv && !header)
            add_csv_header(p, r);
        header = true;
        show_progress(p, fd, "reading");
        row.n = 0;
        buf_add(&row, "\0\0\0\0", 4);
        p->rows++;
        if (reader_row(r, &rec, &row) < 0) {
            complain(&p->complaints, ++p->rejects, &rec, rec.reject);
        } else {
            if (rec.repaired)
                complain(&p->repairs, ++p->repaired, &rec, rec.repaired);
            on_row(p, r, &row);
        }
        if (!flush(p, OUT_BYTES))
            break;
    }
    if (n == 0 && csv && !header && reader_n_columns(r))
        add_csv_header(p, r);
    flush(p, 0);
    progress_clear(&p->progress);
    if (p->to)
        print_header_repair(r, "", stderr);
    if (!p->to) {
        print_dialect(p, r);
        if (n == 0)
            print_columns(p);
        if (p->n_table)
            print_table(p);
    }
    reader_free(r);
    src_free(s);
    return n > 0 ? err_set(e, -EPIPE, "cannot write to the standard output") : n;
}

static void print_rows(const struct preview *p, const char *title, int64_t n, const struct buf *shown, FILE *to)
{
    if (n)
        fprintf(to, "%s%s%s\n%s", p->to ? "" : "\n", title, n > SHOWN_REJECTS ? " (the first ones)" : "", shown->p);
}

static int preview(struct cli *c, struct preview *p, int fd)
{
    struct err e = {0};
    struct stat st;
    int r = 0;
    progress_begin(&p->progress, strrchr(p->file, '/') ? strrchr(p->file, '/') + 1 : p->file);
    p->shows = !p->to || !isatty(STDOUT_FILENO);
    p->bytes = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? st.st_size : -1;
    if (p->to && !strcmp(p->to, "csv") && p->spec->format == READER_JSON)
        r = collect_keys(p, fd, &e);
    if (r == 0)
        r = read_all(p, fd, &e);
    FILE *to = p->to ? stderr : stdout;
    print_rows(p, "repaired", p->repaired, &p->repairs, to);
    print_rows(p, "rejects", p->rejects, &p->complaints, to);
    if (r < 0) {
        fflush(stdout);
        err_context(&e, "%s", p->file);
        return cli_fail(c, &e);
    }
    if (!p->to && !p->rows && !figures_n_columns(p->figures))
        puts("\nthe file is empty");
    else if (!p->to || p->rejects || p->repaired)
        fprintf(to, p->repaired ? "%s%lld rows, %lld rejected, %lld repaired\n" : "%s%lld rows, %lld rejected\n", p->to ? "" : "\n",
                (long long)p->rows, (long long)p->rejects, (long long)p->repaired);
    return p->rejects ? CLI_FAILED : CLI_DONE;
}

int verb_preview(struct cli *c)
{
    struct preview p = {.to = cli_opt(c, "--to"), .format = cli_opt(c, "--format")};
    struct preview_options o = {cli_opt(c, "--delimiter"), cli_opt(c, "--quote"),     cli_opt(c, "--escape"),
                                cli_opt(c, "--encoding"),  cli_opt(c, "--skip-rows"), cli_opt(c, "--header-rows"),
                                cli_opt(c, "--ragged"),    cli_opt(c, "--damaged"),   cli_opt(c, "--types"),
                                cli_opt(c, "--tenant"),    cli_opt(c, "--dataset"),   cli_flag(c, "--no-header")};
    struct err e = {0};
    int r = cli_args(c, 1, 1);
    if (r)
        return r;
    if ((p.to && strcmp(p.to, "json") && strcmp(p.to, "csv")) || (p.format && strcmp(p.format, "json") && strcmp(p.format, "csv")))
        return cli_usage(c, "--to and --format take json or csv");
    if (!o.tenant != !o.dataset)
        return cli_usage(c, "--tenant and --dataset belong together");
    if (o.no_header && o.header_rows)
        return cli_usage(c, "--no-header and --header-rows contradict each other");
    p.file = c->argv[0];
    AUTO_FD int fd = !strcmp(p.file, "-") ? dup(STDIN_FILENO) : open(p.file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        err_sys(&e, -errno, "cannot open %s", p.file);
        return cli_fail(c, &e);
    }
    guess_format(&p, fd);
    r = preview_spec(c, p.format, &o, &p.spec);
    if (r)
        return r;
    p.figures = figures_new();
    r = preview(c, &p, fd);
    figures_free(p.figures);
    spec_free(p.spec);
    buf_fini(&p.out);
    buf_fini(&p.complaints);
    buf_fini(&p.repairs);
    for (size_t k = 0; k < p.n_table; k++)
        for (size_t i = 0; i < SHOWN_COLUMNS; i++)
            free(p.table[k][i]);
    for (size_t i = 0; i < p.n_keys; i++)
        free(p.keys[i]);
    free(p.keys);
    return r;
}
