/* Run results and what apps say of themselves. */
#include "common/runspec.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run_result r;
    struct app_result a;
    struct err e = {0};
    if (run_result_parse((const char *)data, size, &r, &e) == 0) {
        AUTO_BUF struct buf b = {0};
        run_result_write(&r, &b);
        run_result_free(&r);
        assert(run_result_parse(b.p, b.n, &r, &e) == 0);
        run_result_free(&r);
    } else {
        assert(strlen(e.msg) > 0);
    }
    if (app_result_parse((const char *)data, size, &a, &e) == 0) {
        assert(a.rows_loaded >= -1 && a.bytes >= -1);
        assert(!a.rejects_file || !strchr(a.rejects_file, '/'));
        app_result_free(&a);
    }
    return 0;
}
