#include "text.h"

#include <stdio.h>
#include <string.h>

/* Bytes of the UTF-8 character (RFC 3629) that u begins: 0 if it is none, negative if more of it is needed to say. */
static int length(const unsigned char *u, size_t n)
{
    int want = u[0] < 0x80 ? 1 : u[0] >= 0xc2 && u[0] < 0xe0 ? 2 : (u[0] & 0xf0) == 0xe0 ? 3 : u[0] >= 0xf0 && u[0] < 0xf5 ? 4 : 0;
    for (int i = 1; i < want; i++) {
        if ((size_t)i >= n)
            return -1;
        if ((u[i] & 0xc0) != 0x80)
            return 0;
    }
    if ((u[0] == 0xe0 && u[1] < 0xa0) || (u[0] == 0xed && u[1] > 0x9f) || (u[0] == 0xf0 && u[1] < 0x90) ||
        (u[0] == 0xf4 && u[1] > 0x8f))
        return 0; /* overlong, a surrogate, or beyond Unicode */
    return want;
}

size_t text_append(struct buf *out, const char *p, size_t n, bool more)
{
    size_t i = 0;
    while (i < n) {
        const unsigned char *u = (const unsigned char *)p + i;
        int l = length(u, n - i);
        if (l < 0 && more)
            break;
        bool control = (u[0] < 0x20 && u[0] != '\n' && u[0] != '\t') || u[0] == 0x7f || (u[0] == 0xc2 && l == 2 && u[1] < 0xa0);
        const int bad = control ? l : 1; /* bytes shown as numbers */
        if (control || l <= 0)
            for (int k = 0; k < bad; k++)
                buf_addf(out, "\\x%02x", u[k]);
        else
            buf_add(out, u, (size_t)l);
        i += control || l <= 0 ? (size_t)bad : (size_t)l;
    }
    return i;
}

void text_print(const char *s)
{
    AUTO_BUF struct buf b = {0};
    text_append(&b, s, strlen(s), false);
    fwrite(b.p, 1, b.n, stdout);
}
