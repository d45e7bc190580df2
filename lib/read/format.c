#include "format.h"
#include "src.h"

#include "base/mem.h"

#include <string.h>
#include <strings.h>

/* Here, so that who asks about names alone needs no decompressor. */
enum src_compression src_compression_of(const char *name, size_t *ret_stem_len)
{
    size_t n = strlen(name);
    enum src_compression c = SRC_PLAIN;
    if (n > 3 && !strcasecmp(name + n - 3, ".gz")) {
        c = SRC_GZIP;
        n -= 3;
    } else if (n > 4 && !strcasecmp(name + n - 4, ".zst")) {
        c = SRC_ZSTD;
        n -= 4;
    }
    if (ret_stem_len)
        *ret_stem_len = n;
    return c;
}

const char *format_name(enum reader_format f)
{
    return f == READER_JSON ? "json" : "csv";
}

char *format_ending(const char *name)
{
    size_t n;
    src_compression_of(name, &n);
    for (size_t i = n; i-- > 0;)
        if (name[i] == '.')
            return xstrndup(name + i + 1, n - i - 1);
    return xstrdup("");
}

int format_of_name(const char *name, enum reader_format *ret)
{
    static const struct {
        const char *ending;
        enum reader_format format;
    } known[] = {{"csv", READER_CSV}, {"tsv", READER_CSV}, {"json", READER_JSON}, {"jsonl", READER_JSON}, {"ndjson", READER_JSON}};
    AUTO_FREE char *ending = format_ending(name);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcasecmp(ending, known[i].ending)) {
            *ret = known[i].format;
            return 0;
        }
    return ERR_FORMAT;
}
