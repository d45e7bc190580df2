#include "keys.h"

#include "base/buf.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define PUBLIC "mysimbdp-cells-public 1 "
#define SECRET "mysimbdp-cells-secret 1 "

enum { LINE_MAX_BYTES = 256 };

static int write_key(int dirfd, const char *file, const char *what, const unsigned char *key, size_t n, mode_t mode, struct err *e)
{
    char text[LINE_MAX_BYTES], line[LINE_MAX_BYTES];
    sodium_bin2base64(text, sizeof text, key, n, sodium_base64_VARIANT_ORIGINAL);
    int len = snprintf(line, sizeof line, "%s%s\n", what, text);
    int r = fd_write_file(dirfd, file, line, (size_t)len, mode, e);
    sodium_memzero(text, sizeof text);
    sodium_memzero(line, sizeof line);
    return r;
}

int cells_keys_make(int dirfd, const char *secret_file, const char *public_file, struct err *e)
{
    unsigned char public[CELLS_PUBLIC_BYTES], secret[CELLS_SECRET_BYTES];
    if (fd_exists(dirfd, secret_file) || fd_exists(dirfd, public_file))
        return err_set(e, -EEXIST, "there are keys already (%s)", secret_file);
    crypto_sign_keypair(public, secret);
    int r = write_key(dirfd, secret_file, SECRET, secret, sizeof secret, 0600, e);
    if (r == 0)
        r = write_key(dirfd, public_file, PUBLIC, public, sizeof public, 0644, e);
    sodium_memzero(secret, sizeof secret);
    return r;
}

static int read_key(int dirfd, const char *file, const char *what, unsigned char *ret, size_t n, struct err *e)
{
    struct buf b = {0};
    size_t got, skip = strlen(what);
    int r = fd_read_file(dirfd, file, &b, LINE_MAX_BYTES, e);
    if (r == 0 &&
        (b.n <= skip + 1 || b.p[b.n - 1] != '\n' || memcmp(b.p, what, skip) ||
         sodium_base642bin(ret, n, b.p + skip, b.n - skip - 1, NULL, &got, NULL, sodium_base64_VARIANT_ORIGINAL) || got != n))
        r = err_set(e, ERR_FORMAT, "%s is no %s key of cells", file, what[15] == 'p' ? "public" : "secret");
    if (b.p)
        sodium_memzero(b.p, b.n);
    buf_fini(&b);
    return r;
}

int cells_key_public(int dirfd, const char *file, unsigned char ret[CELLS_PUBLIC_BYTES], struct err *e)
{
    return read_key(dirfd, file, PUBLIC, ret, CELLS_PUBLIC_BYTES, e);
}

int cells_key_secret(int dirfd, const char *file, unsigned char ret[CELLS_SECRET_BYTES], struct err *e)
{
    struct stat st;
    if (fstatat(dirfd, file, &st, 0) == 0 && (st.st_mode & 077))
        return err_set(e, ERR_REFUSED, "others may read %s (mode %03o): `chmod 600` it, and think of whether somebody has", file,
                       st.st_mode & 0777);
    return read_key(dirfd, file, SECRET, ret, CELLS_SECRET_BYTES, e);
}
