#include "names.h"

#include "base/buf.h"
#include "base/mem.h"

#include <string.h>

char *names_shown(const char *raw)
{
    AUTO_BUF struct buf b = {0};
    size_t n = strlen(raw);
    for (size_t i = 0; i < n;) {
        size_t len = utf8_len((const unsigned char *)raw + i, n - i);
        if (len)
            buf_add(&b, raw + i, len);
        else
            buf_addf(&b, "\\x%02x", (unsigned char)raw[i]);
        i += len ? len : 1;
    }
    return xstrndup(b.n ? b.p : "", b.n);
}

char *names_safe(const char *raw)
{
    size_t n = strlen(raw), skip = n > 100 ? n - 100 : 0; /* the ending tells the format */
    char *safe = xstrdup(raw + skip);
    for (char *p = safe; *p; p++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", *p) || (p == safe && *p == '.'))
            *p = '_';
    if (!strcmp(safe, NAMES_REASON)) /* which the platform writes beside it */
        safe[0] = '_';
    return safe;
}
