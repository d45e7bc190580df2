/* The reader: any bytes, as CSV and as JSON. Offsets rise, raw text is what stands there, and small row caps hold. */
#include "common/read/reader.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_as(const uint8_t *data, size_t size, enum reader_format f, enum src_compression c, int64_t max_row)
{
    int fd = memfd_create("fuzz", 0);
    struct err e = {0};
    struct record rec;
    int64_t last = -1;
    assert(write(fd, data, size) == (ssize_t)size);
    lseek(fd, 0, SEEK_SET);
    struct src *s = src_new(fd, c, 1 << 24, NULL, NULL);
    struct reader *rd = reader_new(s, f, max_row);
    while (reader_next(rd, &rec, &e) > 0) {
        bson_t doc = BSON_INITIALIZER;
        const char *type;
        assert(rec.offset > last && rec.line >= 1);
        last = rec.offset;
        if (c == SRC_PLAIN) {
            assert((size_t)rec.offset + rec.n <= size);
            assert(!memcmp(data + rec.offset, rec.raw, rec.n));
        }
        if (reader_bson(rd, &rec, &doc, &type) == 0)
            assert(!rec.reject);
        bson_destroy(&doc);
    }
    reader_free(rd);
    src_free(s);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    enum src_compression c = data[0] == 0x1f ? SRC_GZIP : data[0] == 0x28 ? SRC_ZSTD : SRC_PLAIN;
    read_as(data, size, READER_CSV, c, data[size - 1] & 1 ? -1 : 16);
    read_as(data, size, READER_JSON, c, data[size - 1] & 1 ? -1 : 16);
    return 0;
}
