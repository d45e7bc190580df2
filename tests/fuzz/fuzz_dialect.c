/* Structure-aware: the input is a table and a way to write it, not a file. What was written must be read back cell by cell by
 * a reader that is told the dialect; one that has to find it out must at least keep its wits.
 *   byte 0 delimiter, 1 quote and escape, 2 encoding and line end, 3 columns; the rest: cells, 0xff ends one */
#include "read/reader.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const delimiters[] = {",", ";", "\t", "||", "~|~", " ", "::"};
static const char *const encodings[] = {"utf-8", "utf-16le", "utf-16be", "latin-1"};

struct table {
    struct buf text;
    struct {
        size_t at, n;
    } cells[256];
    size_t n_cells, n_columns;
};

/* ASCII, and of each encoding what it can hold: one character of two bytes in UTF-8. */
static void add_char(struct buf *b, uint8_t c)
{
    static const char line[] = "\n";
    if (c == 0 || c == '\r')
        buf_add(b, line, 1);
    else if (c < 0x80)
        buf_add(b, &c, 1);
    else
        buf_add(b, "\xc3\xa9", 2);
}

static void take_cells(struct table *t, const uint8_t *p, size_t n)
{
    size_t at = 0;
    for (size_t i = 0; i <= n && t->n_cells < 256; i++) {
        if (i < n && p[i] != 0xff) {
            add_char(&t->text, p[i]);
            continue;
        }
        t->cells[t->n_cells].at = at;
        t->cells[t->n_cells++].n = t->text.n - at;
        at = t->text.n;
    }
    t->n_cells -= t->n_cells % t->n_columns;
}

static void add_quoted(struct buf *b, const char *p, size_t n, char quote, char escape)
{
    buf_add(b, &quote, 1);
    for (size_t i = 0; i < n; i++) {
        if (p[i] == quote || p[i] == escape)
            buf_add(b, &escape, 1);
        buf_add(b, p + i, 1);
    }
    buf_add(b, &quote, 1);
}

static void encode(struct buf *b, const struct buf *text, int encoding)
{
    for (size_t i = 0; i < text->n; i++) {
        unsigned char c = (unsigned char)text->p[i];
        if (c == 0xc3)
            continue;
        unsigned char unit[2] = {c == 0xa9 ? 0xe9 : c, 0};
        if (encoding == 0)
            buf_add(b, c == 0xa9 ? "\xc3\xa9" : (const char *)unit, c == 0xa9 ? 2 : 1);
        else if (encoding == 3)
            buf_add(b, unit, 1);
        else if (encoding == 1)
            buf_add(b, unit, 2);
        else
            buf_add(b, (unsigned char[]){0, unit[0]}, 2);
    }
}

static void read_back(const struct buf *file, const char *json, const struct table *t)
{
    struct spec *spec = NULL;
    struct err e = {0};
    struct record rec;
    struct buf row = {0};
    int fd = memfd_create("fuzz", 0), r = spec_parse(json, strlen(json), &spec, NULL, &e);
    assert(r == 0 && write(fd, file->p, file->n) == (ssize_t)file->n);
    lseek(fd, 0, SEEK_SET);
    struct src *s = src_new(fd, SRC_PLAIN, -1, NULL, NULL);
    struct reader *rd = reader_new(s, spec);
    size_t next = 0;
    while ((r = reader_next(rd, &rec, &e)) > 0) {
        size_t n;
        const struct cell *cells = reader_cells(rd, &n);
        row.n = 0;
        reader_row(rd, &rec, &row);
        for (size_t i = 0; t && i < n; i++, next++) {
            assert(next < t->n_cells && cells[i].n == t->cells[next].n);
            assert(!cells[i].n || !memcmp(cells[i].p, t->text.p + t->cells[next].at, cells[i].n));
        }
        assert(!t || (!rec.reject && rec.offset < (int64_t)file->n));
    }
    assert(!t || (r == 0 && next == t->n_cells && reader_offset(rd) == (int64_t)file->n));
    reader_free(rd);
    src_free(s);
    spec_free(spec);
    buf_fini(&row);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct table t = {0};
    struct buf text = {0}, file = {0};
    char json[400];
    if (size < 5)
        return 0;
    const char *delimiter = delimiters[data[0] % 7], *line_end = data[2] & 4 ? "\r\n" : "\n";
    char quote = data[1] & 1 ? '\'' : '"', escape = data[1] & 2 ? '\\' : quote;
    t.n_columns = 2 + data[3] % 6;
    buf_reserve(&t.text, 1);
    take_cells(&t, data + 4, size - 4);
    for (size_t i = 0; i < t.n_cells; i++) {
        add_quoted(&text, t.text.p + t.cells[i].at, t.cells[i].n, quote, escape);
        buf_adds(&text, (i + 1) % t.n_columns ? delimiter : line_end);
    }
    encode(&file, &text, data[2] % 4);
    snprintf(
        json, sizeof json,
        "{\"csv\":{\"delimiter\":\"%s\",\"quote\":\"%s\",\"escape\":\"%s\",\"encoding\":\"%s\",\"line_end\":\"lf\",\"skip_rows\":0,"
        "\"header_rows\":0,\"footer_rows\":0,\"ragged\":\"keep_extra\"},\"types\":\"all-string\"}",
        data[0] % 7 == 2 ? "\\t" : delimiter, quote == '"' ? "\\\"" : "'",
        escape == '\\' ? "\\\\"
        : quote == '"' ? "\\\""
                       : "'",
        encodings[data[2] % 4]);
    if (file.n) {
        read_back(&file, json, &t);
        read_back(&file, "{}", NULL);
    }
    buf_fini(&text);
    buf_fini(&file);
    buf_fini(&t.text);
    return 0;
}
