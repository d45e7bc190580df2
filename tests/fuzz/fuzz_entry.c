/* The paths of an archive's entries: one that is taken leads below the directory, to a name that every program can print. */
#include "programs/unpack/entry.h"

#include "base/buf.h"
#include "base/mem.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void check_part(const char *part, size_t n)
{
    assert(n && n <= ENTRY_NAME_MAX && utf8_valid(part, n));
    assert(!(n == 1 && part[0] == '.') && !(n == 2 && part[0] == '.' && part[1] == '.'));
    for (size_t i = 0; i < n; i++)
        assert((unsigned char)part[i] >= 32 && part[i] != 127);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[ENTRY_PATH_MAX + 1], again[ENTRY_PATH_MAX + 1];
    AUTO_FREE char *name = xstrndup((const char *)data, size);
    if (entry_path(name, path, NULL) < 0)
        return 0;
    size_t n = strlen(path), depth = 0;
    assert(n <= ENTRY_PATH_MAX && path[0] != '/');
    for (const char *p = path; *p; depth++) {
        size_t length = strcspn(p, "/");
        check_part(p, length);
        p += length;
        assert(!*p || p[1]); /* no final slash */
        p += *p == '/';
    }
    assert(depth <= ENTRY_DEPTH_MAX);
    assert(entry_path(path, again, NULL) == 0 && !strcmp(path, again));
    return 0;
}
