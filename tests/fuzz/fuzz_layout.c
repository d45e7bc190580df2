/* The index of an OCI layout: what is chosen is a digest, and what is not has its reason. */
#include "programs/image/layout.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const tags[] = {"", "v1"};
    for (int i = 0; i < 2; i++) {
        char digest[LAYOUT_DIGEST_SIZE];
        struct err e = {0};
        if (layout_choose((const char *)data, size, tags[i], digest, &e) < 0)
            assert(strlen(e.msg) > 0);
        else
            assert(strlen(digest) == 64 && strspn(digest, "0123456789abcdef") == 64);
    }
    return 0;
}
