/* Heads and bodies as the front of a fleet reads them: what it passes on it would read the same again. */
#include "programs/cells/route.h"

#include "cells/map.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_request(const char *p, size_t n)
{
    AUTO_BUF struct buf b = {0};
    struct head h, again;
    struct head_problem why = {0};
    if (!head_parse_request(p, n, &h, &why)) {
        assert(why.status >= 400 && why.code && why.detail);
        return;
    }
    struct route r = route_of(&h, "d.example");
    assert(r.kind != ROUTE_TENANT || cells_valid_name(r.tenant.p, r.tenant.n));
    head_write_request(&h, "::1", &b);
    assert(head_end(b.p, b.n) == b.n);
    if (h.n_fields < HEAD_FIELDS) {
        assert(head_parse_request(b.p, b.n, &again, &why));
        assert(again.body.kind == h.body.kind && again.body.left == h.body.left);
        struct route same = route_of(&again, "d.example");
        assert(same.kind == r.kind && same.tenant.n == r.tenant.n &&
               (!r.tenant.n || !memcmp(same.tenant.p, r.tenant.p, r.tenant.n)));
    }
}

/* In one piece and byte by byte. */
static void try_chunks(const char *p, size_t n)
{
    struct body whole = body_chunked(), piecewise = body_chunked();
    size_t took = body_take(&whole, p, n), sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += body_take(&piecewise, p + i, 1);
    assert(took == sum && whole.done == piecewise.done && whole.bad == piecewise.bad);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    struct head h;
    memcpy(text, data, size);
    size_t n = head_end(text, size);
    if (n) {
        try_request(text, n);
        if (head_parse_answer(text, n, size & 1, &h))
            assert(h.status >= 100 && h.status <= 599);
    }
    try_chunks(text + n, size - n);
    free(text);
    return 0;
}
