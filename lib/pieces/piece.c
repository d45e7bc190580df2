#include "piece.h"

#include "base/mem.h"

#include <sodium.h>
#include <string.h>
#include <zstd.h>

enum { LEVEL = 3 };

void piece_name(const void *p, size_t n, char ret[STORE_NAME])
{
    unsigned char hash[crypto_generichash_BYTES];
    crypto_generichash(hash, sizeof hash, p, n, NULL, 0);
    sodium_bin2hex(ret, STORE_NAME, hash, sizeof hash);
}

bool piece_is_name(const char *name)
{
    return strlen(name) == STORE_NAME - 1 && strspn(name, "0123456789abcdef") == STORE_NAME - 1;
}

size_t piece_bound(size_t n)
{
    return ZSTD_compressBound(n);
}

size_t piece_pack(const void *p, size_t n, void *room)
{
    size_t size = ZSTD_compress(room, ZSTD_compressBound(n), p, n, LEVEL);
    if (ZSTD_isError(size)) /* with that much room only for want of memory */
        mem_exhausted();
    return size;
}

bool piece_unpack(const void *p, size_t n, const char *name, void *room, size_t cap, size_t *ret_n)
{
    char is[STORE_NAME];
    size_t size = p ? ZSTD_decompress(room, cap, p, n) : 0;
    if (!p || ZSTD_isError(size))
        return false;
    piece_name(room, size, is);
    *ret_n = size;
    return !strcmp(is, name);
}
