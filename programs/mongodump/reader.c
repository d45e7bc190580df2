#include "reader.h"

#include "base/fd.h"
#include "base/le.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

enum { PIECE = 1 << 20, LEAST_DOCUMENT = 5 };

int reader_open_file(int dirfd, const char *path, struct err *e)
{
    struct stat st;
    AUTO_FD int fd = openat(dirfd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(e, -errno, "cannot open %s", path);
    return S_ISREG(st.st_mode) ? fd_take(&fd) : err_set(e, ERR_FORMAT, "%s is no regular file", path);
}

int reader_open(struct reader *r, int dirfd, const char *path, bool gz, bool hashes, struct err *e)
{
    *r = (struct reader){.path = path, .hashes = hashes, .fd = reader_open_file(dirfd, path, e)};
    if (r->fd < 0)
        return r->fd;
    crypto_generichash_init(&r->hash, NULL, 0, READER_HASH_BYTES);
    if (!gz)
        return 0;
    r->gz = gzdopen(r->fd, "rb");
    if (!r->gz)
        return err_sys(e, -ENOMEM, "cannot open %s", path);
    r->fd = -1; /* gzclose closes it */
    return 0;
}

void reader_close(struct reader *r)
{
    if (r->gz)
        gzclose(r->gz);
    if (r->fd >= 0)
        close(r->fd);
    buf_fini(&r->b);
    *r = (struct reader){.fd = -1};
}

static int read_piece(struct reader *r, char *p, size_t n, struct err *e)
{
    int error = Z_OK;
    ssize_t got;
    if (r->gz) {
        got = gzread(r->gz, p, (unsigned)n);
        const char *why = gzerror(r->gz, &error);
        if (got < 0 || (error != Z_OK && error != Z_STREAM_END))
            return err_set(e, ERR_FORMAT, "%s is damaged or cut short, behind byte %" PRId64 " of what it unpacks to: %s", r->path,
                           r->bytes,
                           error == Z_BUF_ERROR ? "it ends too early"
                           : strstr(why, ": ")  ? strstr(why, ": ") + 2
                                                : why);
        return (int)got;
    }
    do
        got = read(r->fd, p, n);
    while (got < 0 && errno == EINTR);
    return got < 0 ? err_sys(e, -errno, "cannot read %s at byte %" PRId64, r->path, r->bytes) : (int)got;
}

/* Has at least n bytes behind r->at, unless the file ends before. */
static int fill(struct reader *r, size_t n, struct err *e)
{
    while (!r->ended && r->b.n - r->at < n) {
        if (r->at) {
            buf_consume(&r->b, r->at);
            r->at = 0;
        }
        const size_t room = n - r->b.n > PIECE ? n - r->b.n : PIECE;
        buf_reserve(&r->b, room);
        const int got = read_piece(r, r->b.p + r->b.n, room, e);
        if (got < 0)
            return got;
        if (r->hashes)
            crypto_generichash_update(&r->hash, (const unsigned char *)r->b.p + r->b.n, (unsigned long long)got);
        r->b.n += (size_t)got;
        r->bytes += got;
        r->ended = got == 0;
    }
    return 0;
}

int reader_next(struct reader *r, bson_t *ret, int64_t *ret_offset, struct err *e)
{
    int f = fill(r, 4, e);
    size_t have = r->b.n - r->at;
    if (f < 0 || !have)
        return f;
    if (have < 4)
        return err_set(e, ERR_FORMAT, "%s ends in the middle of a document, at byte %" PRId64, r->path, r->offset + (int64_t)have);
    const uint32_t n = le_u32(r->b.p + r->at);
    if (n < LEAST_DOCUMENT || n > READER_MAX_DOCUMENT)
        return err_set(e, ERR_FORMAT, "%s: at byte %" PRId64 " is no document: its length would be %" PRIu32, r->path, r->offset,
                       n);
    f = fill(r, n, e);
    have = r->b.n - r->at;
    if (f < 0)
        return f;
    if (have < n)
        return err_set(e, ERR_FORMAT, "%s ends in the middle of a document, at byte %" PRId64, r->path, r->offset + (int64_t)have);
    if (!bson_init_static(ret, (const uint8_t *)r->b.p + r->at, n))
        return err_set(e, ERR_FORMAT, "%s: the document at byte %" PRId64 " does not end as one", r->path, r->offset);
    *ret_offset = r->offset;
    r->at += n;
    r->offset += n;
    return 1;
}

int reader_check(const struct reader *r, const bson_t *doc, int64_t offset, struct err *e)
{
    size_t at = 0;
    bson_iter_t it;
    if (!bson_validate(doc, BSON_VALIDATE_NONE, &at))
        return err_set(e, ERR_FORMAT, "%s: the document at byte %" PRId64 " is damaged, at byte %" PRId64, r->path, offset,
                       offset + (int64_t)at);
    if (!bson_iter_init_find(&it, doc, "_id"))
        return err_set(e, ERR_FORMAT, "%s: the document at byte %" PRId64 " has no _id", r->path, offset);
    return 0;
}

void reader_hash(struct reader *r, char out[2 * READER_HASH_BYTES + 1])
{
    unsigned char hash[READER_HASH_BYTES];
    crypto_generichash_final(&r->hash, hash, sizeof hash);
    sodium_bin2hex(out, 2 * READER_HASH_BYTES + 1, hash, sizeof hash);
}
