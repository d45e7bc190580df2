/* Run results and what apps say of themselves. */
#include "base/json.h"
#include "read/quality.h"
#include "run/spec.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What an app says of its messages, as streammgr and the command line take it. */
static void add_quality(const char *text, size_t n)
{
    AUTO_BSON bson_t *doc = json_parse(text, n, NULL);
    AUTO_BUF struct buf kept = {0}, shown = {0};
    struct quality q;
    if (!doc)
        return;
    bson_iter_t it;
    bson_t day;
    if (!json_get_iter(doc, "quality", &it) || !json_next_doc(&it, &day) || quality_day(&day) < 0)
        return;
    quality_init(&q, quality_day(&day));
    for (int i = 0; i < 2; i++)
        quality_add_kept(&q, &day);
    quality_keep(&q, &kept);
    assert(kept.n <= QUALITY_MAX_BYTES);
    AUTO_BSON bson_t *again = json_parse(kept.p, kept.n, NULL);
    assert(again && quality_add_kept(&q, again));
    quality_show(&q, NULL, &shown);
    quality_fini(&q);
}

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
    add_quality((const char *)data, size);
    return 0;
}
