/* Requests of publishers and consumers: frames as a u16 length and bytes each. What is parsed must lie within its frames. */
#include "wire/wire.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct wire_request rq;
    struct wire_frame v[WIRE_MAX_FRAMES];
    void *copies[WIRE_MAX_FRAMES];
    size_t n = 0;
    const char *why = NULL;
    while (size >= 2 && n < WIRE_MAX_FRAMES) {
        size_t len = (size_t)(data[0] | data[1] << 8);
        data += 2;
        size -= 2;
        len = len < size ? len : size;
        copies[n] = malloc(len + !len); /* of its own, so that a byte too far is noticed */
        memcpy(copies[n], data, len);
        v[n] = (struct wire_frame){copies[n], len};
        n++;
        data += len;
        size -= len;
    }
    if (wire_parse(v, n, &rq, &why)) {
        size_t sum = 0;
        assert(strlen(rq.stream) <= WIRE_MAX_NAME && strlen(rq.reason) <= WIRE_MAX_REASON);
        for (size_t i = 0; rq.h.verb == WIRE_PUBLISH && i < rq.n; i++)
            sum += le_u32(rq.lengths + i * 4);
        assert(rq.h.verb != WIRE_PUBLISH || sum == rq.n_bytes);
        for (size_t i = 0; rq.rows && i < rq.n; i++)
            assert(le_u32(rq.rows + i * 4) <= WIRE_MAX_ROWS);
        for (size_t i = 0; rq.h.verb >= WIRE_ACK && rq.h.verb <= WIRE_EXTEND && i < rq.n; i++)
            assert(wire_range_at(&rq, i).first <= wire_range_at(&rq, i).last);
        for (size_t i = 0; i < rq.n_bytes; i++)
            sum += rq.bytes[i];
    } else {
        assert(why && *why);
    }
    for (size_t i = 0; i < n; i++)
        free(copies[i]);
    return 0;
}
