/* Segments of the broker's log, as a backup reads them. The first byte says how many checks are made right, so that what lies
 * behind a checksum is reached; then the segment. What is whole stays so when it is cut there, and is not more when it is not. */
#include "segment/segment.h"

#include <assert.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void repair(unsigned char *p, size_t n, unsigned records)
{
    size_t at = SEGMENT_HEADER;
    if (n < SEGMENT_HEADER)
        return;
    memcpy(p, SEGMENT_MAGIC, 8);
    le_set_u32(p + 56, (uint32_t)XXH3_64bits(p, 56));
    for (; records && at + SEGMENT_RECORD <= n; records--) {
        uint32_t size = le_u32(p + at) % 4096;
        size = size < SEGMENT_RECORD ? SEGMENT_RECORD : size;
        if (size > n - at)
            return;
        le_set_u32(p + at, size);
        p[at + 8] |= 1; /* a type */
        le_set_u32(p + at + 4, segment_check_of(le_u64(p + 24), le_u64(p + 8), p + at, size));
        at += segment_padded(size);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct segment_scan whole, cut;
    if (size < 1)
        return 0;
    const size_t n = size - 1;
    unsigned char *p = malloc(n + !n); /* of its own, so that a byte too far is noticed */
    memcpy(p, data + 1, n);
    if (data[0])
        repair(p, n, data[0]);
    segment_scan(p, n, &whole);
    assert(whole.end <= n && (!whole.is_header || whole.end >= SEGMENT_HEADER) && (!whole.n_records || whole.is_header));
    if (whole.is_header) {
        unsigned char *q = malloc(whole.end);
        memcpy(q, p, whole.end);
        segment_scan(q, whole.end, &cut);
        assert(cut.end == whole.end && cut.n_records == whole.n_records && cut.is_full == whole.is_full && !cut.goes_on);
        free(q);
    }
    free(p);
    return 0;
}
