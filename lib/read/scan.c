#include "scan.h"
#include "base/buf.h"

#include <stdbool.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>

static inline uint64_t match64(const char *p, const __m128i *set, size_t n)
{
    uint64_t m = 0;
    for (int k = 0; k < 4; k++) {
        __m128i v = _mm_loadu_si128((const __m128i *)(p + k * 16));
        __m128i hit = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(v, set[0]), _mm_cmpeq_epi8(v, set[1])), _mm_cmpeq_epi8(v, set[2]));
        if (n > 3)
            hit = _mm_or_si128(hit, _mm_or_si128(_mm_cmpeq_epi8(v, set[3]), _mm_cmpeq_epi8(v, set[4])));
        m |= (uint64_t)(uint32_t)_mm_movemask_epi8(hit) << (k * 16);
    }
    return m;
}

static size_t index_blocks(const unsigned char *set, size_t n, const char *p, size_t *from, size_t to, uint32_t *out)
{
    __m128i v[5];
    size_t found = 0, at = *from;
    for (size_t i = 0; i < 5; i++)
        v[i] = _mm_set1_epi8((char)set[i < n ? i : 0]);
    for (; at + 64 <= to; at += 64) {
        for (uint64_t m = match64(p + at, v, n); m; m &= m - 1)
            out[found++] = (uint32_t)at + (uint32_t)__builtin_ctzll(m);
    }
    *from = at;
    return found;
}

static inline size_t plain_prefix(const char *p, size_t n)
{
    const __m128i zero = _mm_setzero_si128();
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(p + i));
        int bad = _mm_movemask_epi8(_mm_or_si128(v, _mm_cmpeq_epi8(v, zero)));
        if (bad)
            return i + (size_t)__builtin_ctz((unsigned)bad);
    }
    return i;
}
#else
static size_t index_blocks(const unsigned char *set, size_t n, const char *p, size_t *from, size_t to, uint32_t *out)
{
    return 0;
}

static inline size_t plain_prefix(const char *p, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t v;
        memcpy(&v, p + i, 8);
        if ((v | ((v - 0x0101010101010101u) & ~v)) & 0x8080808080808080u)
            break;
    }
    return i;
}
#endif

size_t scan_index(const unsigned char *set, size_t n, const char *p, size_t from, size_t to, uint32_t *out)
{
    size_t found = index_blocks(set, n, p, &from, to, out);
    for (; from < to; from++) {
        bool hit = false;
        for (size_t k = 0; k < n; k++)
            hit |= (unsigned char)p[from] == set[k];
        if (hit)
            out[found++] = (uint32_t)from;
    }
    return found;
}

enum text_fault scan_text(const char *p, size_t n, size_t *ret_at)
{
    size_t i = 0;
    while (i < n) {
        i += plain_prefix(p + i, n - i);
        /* The rest of a block, and what is not plain, one character at a time; back to blocks at the next plain byte. */
        size_t stop = i + 16 < n ? i + 16 : n;
        while (i < stop) {
            unsigned char c = (unsigned char)p[i];
            size_t len = c && c < 0x80 ? 1 : c ? utf8_len((const unsigned char *)p + i, n - i) : 0;
            if (!len) {
                *ret_at = i;
                return c ? TEXT_NOT_UTF8 : TEXT_NUL;
            }
            i += len;
        }
    }
    return TEXT_OK;
}
