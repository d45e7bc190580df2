/* The reader: any bytes, as CSV, as JSON, and as a stream's message. Offsets rise, raw text is what stands there, and small row
 * caps hold. Repairing moves no record and changes none that is not damaged. */
#include "read/message.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct spec *spec_of(const char *json)
{
    struct spec *s = NULL;
    int r = spec_parse(json, strlen(json), &s, NULL, NULL);
    assert(r == 0);
    return s;
}

static void read_as(const uint8_t *data, size_t size, const struct spec *spec, enum src_compression c)
{
    int fd = memfd_create("fuzz", 0);
    struct err e = {0};
    struct record rec;
    int64_t last = -1;
    struct buf row = {0};
    assert(write(fd, data, size) == (ssize_t)size);
    lseek(fd, 0, SEEK_SET);
    struct src *s = src_new(fd, c, 1 << 24, NULL, NULL);
    struct reader *rd = reader_new(s, spec);
    struct figures *f = figures_new();
    reader_set_figures(rd, f);
    while (reader_next(rd, &rec, &e) > 0) {
        assert(rec.offset > last && rec.line >= 1 && rec.spot <= rec.n);
        last = rec.offset;
        if (c == SRC_PLAIN && reader_dialect(rd)->encoding == ENC_UTF8) {
            assert((size_t)rec.offset + rec.n <= size);
            assert(!memcmp(data + rec.offset, rec.raw, rec.n));
        }
        row.n = 0;
        buf_add(&row, "\0\0\0\0", 4);
        if (reader_row(rd, &rec, &row) == 0) {
            bson_t doc;
            buf_add(&row, "", 1);
            uint32_t n = (uint32_t)row.n;
            memcpy(row.p, &n, 4);
            assert(!rec.reject && (!rec.repaired || rec.rule));
            assert(bson_init_static(&doc, (const uint8_t *)row.p, row.n));
            assert(bson_validate(&doc, BSON_VALIDATE_UTF8, NULL));
        } else {
            assert(rec.reject && !rec.repaired && rec.rule && row.n == 4);
        }
    }
    struct buf json = {0};
    json_begin(&json, NULL, '{');
    figures_json(f, 0, &json);
    json_end(&json, '}');
    buf_fini(&json);
    buf_fini(&row);
    figures_free(f);
    reader_free(rd);
    src_free(s);
    close(fd);
}

struct reading {
    struct src *src;
    struct reader *reader;
    struct record rec;
    struct buf row;
    int got, row_is;
};

static struct reading open_reading(int fd, const struct spec *spec)
{
    struct reading g = {.src = src_new(fd, SRC_PLAIN, 1 << 24, NULL, NULL)};
    g.reader = reader_new(g.src, spec);
    return g;
}

static bool read_on(struct reading *g)
{
    struct err e = {0};
    g->row.n = 0;
    g->got = reader_next(g->reader, &g->rec, &e);
    g->row_is = g->got > 0 ? reader_row(g->reader, &g->rec, &g->row) : -1;
    return g->got > 0;
}

static void close_reading(struct reading *g)
{
    reader_free(g->reader);
    src_free(g->src);
    buf_fini(&g->row);
}

/* Where the strict reader takes the header, a repairing one gives the same records, and the same rows for those it took. */
static void read_both(const uint8_t *data, size_t size, const struct spec *strict, const struct spec *repair)
{
    int fds[2] = {memfd_create("strict", 0), memfd_create("repair", 0)};
    for (int i = 0; i < 2; i++) {
        assert(write(fds[i], data, size) == (ssize_t)size);
        lseek(fds[i], 0, SEEK_SET);
    }
    struct reading a = open_reading(fds[0], strict), b = open_reading(fds[1], repair);
    bool header = true;
    while (read_on(&a)) {
        int64_t line, offset;
        assert(read_on(&b) && a.rec.offset == b.rec.offset && a.rec.line == b.rec.line && a.rec.n == b.rec.n);
        header = header && !reader_header_repair(b.reader, &line, &offset);
        if (a.row_is == 0)
            assert(b.row_is == 0 && !b.rec.repaired && (!header || (a.row.n == b.row.n && !memcmp(a.row.p, b.row.p, a.row.n))));
    }
    if (a.got == 0)
        assert(!read_on(&b) && b.got == 0);
    close_reading(&a);
    close_reading(&b);
    close(fds[0]);
    close(fds[1]);
}

/* A message that is taken has rows that are documents; one that is not says why. */
static void read_message(const uint8_t *data, size_t size, const struct spec *spec)
{
    static struct message_rows rows;
    struct err e = {0};
    if (message_read(spec, 0, data, size, NULL, NULL, &rows, &e) < 0) {
        assert(e.code == ERR_FORMAT && *e.msg);
        return;
    }
    for (size_t i = 0, at = 0; i < rows.n; at = rows.ends[i++]) {
        struct buf row = {0};
        bson_t doc;
        buf_add(&row, "\0\0\0\0", 4);
        buf_add(&row, rows.elements.p + at, rows.ends[i] - at);
        buf_add(&row, "", 1);
        uint32_t n = (uint32_t)row.n;
        memcpy(row.p, &n, 4);
        assert(bson_init_static(&doc, (const uint8_t *)row.p, row.n));
        assert(bson_validate(&doc, BSON_VALIDATE_UTF8, NULL));
        buf_fini(&row);
    }
    message_looks_like_csv((const char *)data, size);
}

/* The last byte chooses how the rest is read. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct spec *specs[7];
    if (!specs[0]) {
        specs[0] = spec_of("{}");
        specs[1] = spec_of("{\"max_row_bytes\":16,\"csv\":{\"line_end\":\"any\",\"footer_rows\":2}}");
        specs[2] = spec_of(
            "{\"csv\":{\"delimiter\":\"||\",\"quote\":\"'\",\"escape\":\"\\\\\",\"ragged\":\"keep_extra\",\"header_rows\":0,"
            "\"null\":[\"NA\"]},\"columns\":[{\"name\":\"a\",\"type\":\"json\",\"as\":\"x.y.z\"},"
            "{\"name\":\"b\",\"type\":\"datetime\",\"as\":\"x.b\"},{\"name\":\"c\",\"value\":\"k\",\"as\":\"x.y.c\"},"
            "{\"name\":\"d\",\"type\":\"decimal\",\"min\":0,\"regex\":\"^(a|aa)+$\"}]}");
        specs[3] = spec_of("{\"csv\":{\"encoding\":\"utf-16\",\"ragged\":\"pad\"}}");
        specs[4] =
            spec_of("{\"format\":\"json\",\"columns\":[{\"name\":\"a\",\"type\":\"double\",\"as\":\"n.a\"},"
                    "{\"name\":\"b\",\"type\":\"date\"},{\"name\":\"c.d\",\"type\":\"string\",\"as\":\"cd\"}],\"key\":[\"k\"]}");
        specs[5] = spec_of("{\"csv\":{\"damaged\":\"repair\"}}");
        specs[6] =
            spec_of("{\"max_row_bytes\":64,\"csv\":{\"damaged\":\"repair\",\"delimiter\":\",\",\"escape\":\"\\\\\",\"line_end\":"
                    "\"any\"},\"columns\":[{\"name\":\"a\",\"type\":\"int\"},{\"name\":\"b\",\"as\":\"x.b\"}]}");
    }
    if (!size)
        return 0;
    enum src_compression c = data[0] == 0x1f ? SRC_GZIP : data[0] == 0x28 ? SRC_ZSTD : SRC_PLAIN;
    static const struct spec *json, *columns;
    if (!json) {
        json = spec_of("{\"format\":\"json\"}");
        columns = spec_of("{\"format\":\"csv\",\"columns\":[{\"name\":\"a\",\"type\":\"int\"},{\"name\":\"b\",\"as\":\"x.b\"},"
                          "{\"name\":\"c\",\"value\":\"k\"}]}");
    }
    read_message(data, size, columns);
    read_message(data, size, data[size - 1] & 1 ? json : specs[data[size - 1] % 3]);
    read_as(data, size, specs[data[size - 1] % 7], c);
    read_as(data, size, data[size - 1] & 1 ? json : specs[0], c);
    read_both(data, size, specs[0], specs[5]);
    return 0;
}
