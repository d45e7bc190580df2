/* The run spec parser: what is accepted is written and read back the same. */
#include "run/spec.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run_spec s, again;
    struct err e = {0};
    if (run_spec_parse((const char *)data, size, &s, &e) < 0) {
        assert(strlen(e.msg) > 0);
        return 0;
    }
    AUTO_BUF struct buf one = {0}, two = {0};
    run_spec_write(&s, &one);
    assert(run_spec_parse(one.p, one.n, &again, &e) == 0);
    run_spec_write(&again, &two);
    assert(!strcmp(one.p, two.p));
    run_spec_free(&s);
    run_spec_free(&again);
    return 0;
}
