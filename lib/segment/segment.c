#include "segment.h"

enum { MAX_HASHINGS = 4 };

/* budget: bytes that may still be hashed, since bytes that look like headers must not make this quadratic. */
static bool is_record(const unsigned char *p, size_t n, size_t at, const struct segment_header *h, int64_t *budget)
{
    if (at + SEGMENT_RECORD > n)
        return false;
    uint32_t size = le_u32(p + at);
    if (size < SEGMENT_RECORD || size > SEGMENT_MAX_RECORD || size > n - at || !p[at + 8] || *budget < size)
        return false;
    *budget -= size;
    return le_u32(p + at + 4) == segment_check_of(h->salt, h->number, p + at, size);
}

void segment_scan(const unsigned char *p, size_t n, struct segment_scan *ret)
{
    struct segment_scan s = {0};
    int64_t budget = (int64_t)n * MAX_HASHINGS;
    size_t at = SEGMENT_HEADER;
    s.is_header = n >= SEGMENT_HEADER && segment_is_header(p);
    if (!s.is_header) {
        *ret = s;
        return;
    }
    s.header = (struct segment_header){le_u64(p + 8), le_u64(p + 16), le_u64(p + 24)};
    while (!s.is_full && is_record(p, n, at, &s.header, &budget)) {
        s.is_full = p[at + 8] == SEGMENT_END;
        s.n_records++;
        at += segment_padded(le_u32(p + at));
    }
    s.end = (uint32_t)(at < n ? at : n);
    for (size_t next = at + SEGMENT_ALIGN; !s.is_full && !s.goes_on && next + SEGMENT_RECORD <= n; next += SEGMENT_ALIGN)
        s.goes_on = is_record(p, n, next, &s.header, &budget);
    *ret = s;
}
