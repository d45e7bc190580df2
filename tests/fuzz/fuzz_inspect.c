/* What an inspector that was taken over may say: the reply as it lies in memory, then its figures. What passes is possible, and fit
 * to be shown, and to be put into an object. */
#include "base/buf.h"
#include "programs/batchmgr/inspect_reply_check.h"

#include "base/json.h"
#include "base/mem.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct inspect_reply re = {0};
    size_t n = size < sizeof re ? size : sizeof re;
    if (size)
        memcpy(&re, data, n);
    inspect_reply_check(&re, 1 << 20);
    assert(re.status <= INSPECT_FAILED && re.rows >= 0 && re.rejects <= re.rows && re.raw_bytes >= 0 && re.raw_bytes <= 1 << 20);
    assert(strlen(re.reason) < sizeof re.reason && strlen(re.detail) < sizeof re.detail);
    for (const char *p = re.detail; *p; p++)
        assert((unsigned char)*p >= 0x20 && *p != 0x7f);
    for (int skip = 0; skip < 2; skip++) { /* also without a reply in front, which is much to guess */
        const char *text = (const char *)data + (skip ? n : 0);
        AUTO_FREE char *members = inspect_figures(text, size - (skip ? n : 0));
        AUTO_BUF struct buf object = {0};
        if (!members)
            continue;
        buf_addf(&object, "{\"rows\":1,%s,\"end\":7}", members);
        bson_t *doc = json_parse(object.p, object.n, NULL);
        assert(doc);
        bson_iter_t it, last;
        for (bson_iter_init(&it, doc); bson_iter_next(&it);) /* its members may have any names, but end where they end */
            last = it;
        assert(!strcmp(bson_iter_key(&last), "end") && BSON_ITER_HOLDS_INT(&last));
        bson_destroy(doc);
    }
    return 0;
}
