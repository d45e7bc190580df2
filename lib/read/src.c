#include "src.h"
#include "base/mem.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

enum { RAW_BYTES = 256 << 10 };

struct src {
    int fd;
    enum src_compression compression;
    int64_t max_bytes, out_bytes, raw_bytes;
    src_raw_fn raw_fn;
    void *arg;
    const unsigned char *text; /* NULL: a file */
    unsigned char *raw;
    size_t at, n; /* unread part of raw, or of text */
    bool raw_end, in_member;
    z_stream z;
    ZSTD_DStream *zstd;
};

struct src *src_new(int fd, enum src_compression c, int64_t max_bytes, src_raw_fn raw, void *arg)
{
    AUTO_SRC struct src *s = xcalloc(1, sizeof *s);
    *s = (struct src){.fd = fd, .compression = c, .max_bytes = max_bytes, .raw_fn = raw, .arg = arg};
    s->raw = xmalloc(RAW_BYTES);
    if (c == SRC_GZIP && inflateInit2(&s->z, 15 + 16) != Z_OK)
        mem_exhausted();
    if (c == SRC_ZSTD) {
        s->zstd = ZSTD_createDStream();
        if (!s->zstd)
            mem_exhausted();
        ZSTD_initDStream(s->zstd);
        /* A frame may ask for a window of gigabytes; 128 MiB is what the zstd tool accepts without --memory. */
        ZSTD_DCtx_setParameter(s->zstd, ZSTD_d_windowLogMax, 27);
    }
    return TAKE(s);
}

struct src *src_new_text(const void *p, size_t n)
{
    struct src *s = xcalloc(1, sizeof *s);
    *s = (struct src){.fd = -1, .max_bytes = -1, .text = p, .n = n};
    return s;
}

void src_free(struct src *s)
{
    if (!s)
        return;
    if (s->compression == SRC_GZIP)
        inflateEnd(&s->z);
    ZSTD_freeDStream(s->zstd);
    free(s->raw);
    free(s);
}

static ssize_t read_raw(struct src *s, void *p, size_t n, struct err *e)
{
    ssize_t r;
    if (s->text) {
        n = n < s->n - s->at ? n : s->n - s->at;
        memcpy(p, s->text + s->at, n);
        s->at += n;
        return (ssize_t)n;
    }
    do
        r = read(s->fd, p, n);
    while (r < 0 && errno == EINTR);
    if (r < 0)
        return err_sys(e, -errno, "cannot read the file");
    if (r > 0 && s->raw_fn)
        s->raw_fn(s->arg, p, (size_t)r);
    s->raw_bytes += r;
    return r;
}

static int fill(struct src *s, struct err *e)
{
    if (s->at < s->n || s->raw_end)
        return 0;
    ssize_t r = read_raw(s, s->raw, RAW_BYTES, e);
    if (r < 0)
        return (int)r;
    s->at = 0;
    s->n = (size_t)r;
    s->raw_end = r == 0;
    return 0;
}

static ssize_t read_gzip(struct src *s, void *p, size_t n, struct err *e)
{
    s->z.next_out = p;
    s->z.avail_out = (unsigned)n;
    while (s->z.avail_out == n) {
        int r = fill(s, e);
        if (r < 0)
            return r;
        if (s->at == s->n)
            return s->in_member ? err_set(e, ERR_FORMAT, "the gzip data ends early") : 0;
        if (!s->in_member && inflateReset(&s->z) == Z_OK)
            s->in_member = true;
        s->z.next_in = s->raw + s->at;
        s->z.avail_in = (unsigned)(s->n - s->at);
        r = inflate(&s->z, Z_NO_FLUSH);
        s->at = s->n - s->z.avail_in;
        if (r == Z_STREAM_END)
            s->in_member = false;
        else if (r == Z_MEM_ERROR)
            return err_sys(e, -ENOMEM, "cannot decompress the file");
        else if (r != Z_OK && r != Z_BUF_ERROR)
            return err_set(e, ERR_FORMAT, "damaged gzip data after %lld bytes: %s", (long long)s->out_bytes,
                           s->z.msg ? s->z.msg : "not a gzip file");
    }
    return (ssize_t)(n - s->z.avail_out);
}

static ssize_t read_zstd(struct src *s, void *p, size_t n, struct err *e)
{
    ZSTD_outBuffer out = {p, n, 0};
    while (out.pos == 0) {
        int r = fill(s, e);
        if (r < 0)
            return r;
        if (s->at == s->n && !s->in_member)
            return 0;
        ZSTD_inBuffer in = {s->raw + s->at, s->n - s->at, 0};
        bool at_end = s->at == s->n;
        size_t z = ZSTD_decompressStream(s->zstd, &out, &in);
        s->at += in.pos;
        if (ZSTD_getErrorCode(z) == ZSTD_error_memory_allocation)
            return err_sys(e, -ENOMEM, "cannot decompress the file");
        if (ZSTD_isError(z))
            return err_set(e, ERR_FORMAT, "damaged zstd data after %lld bytes: %s", (long long)s->out_bytes, ZSTD_getErrorName(z));
        s->in_member = z != 0;
        if (at_end && out.pos == 0)
            return err_set(e, ERR_FORMAT, "the zstd data ends early");
    }
    return (ssize_t)out.pos;
}

ssize_t src_read(struct src *s, void *p, size_t n, struct err *e)
{
    ssize_t r = s->compression == SRC_PLAIN  ? read_raw(s, p, n, e)
                : s->compression == SRC_GZIP ? read_gzip(s, p, n, e)
                                             : read_zstd(s, p, n, e);
    if (r > 0)
        s->out_bytes += r;
    if (r > 0 && s->max_bytes >= 0 && s->out_bytes > s->max_bytes)
        return err_set(e, ERR_LIMIT, "it has more than %lld bytes decompressed", (long long)s->max_bytes);
    return r;
}

size_t src_at_most(const struct src *s, size_t n)
{
    size_t left = s->text ? s->n - s->at : n;
    return left > n ? n : left > 0 ? left : 1;
}

int64_t src_raw_bytes(const struct src *s)
{
    return s->raw_bytes;
}
