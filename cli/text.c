#include "text.h"

#include <stdio.h>
#include <string.h>

/* Bytes of the UTF-8 character that u begins: 0 if it is none, negative if more of it is needed to say. */
static int length(const unsigned char *u, size_t n)
{
    const size_t l = utf8_len(u, n), want = u[0] >= 0xf0 ? 4 : u[0] >= 0xe0 ? 3 : u[0] >= 0xc2 ? 2 : 1;
    return l ? (int)l : n < want ? -1 : 0;
}

size_t text_append(struct buf *out, const char *p, size_t n, bool more)
{
    size_t i = 0;
    while (i < n) {
        const unsigned char *u = (const unsigned char *)p + i;
        int l = length(u, n - i);
        if (l < 0 && more)
            break;
        bool control = l > 0 && u[0] != '\n' && u[0] != '\t' && utf8_is_control(u, (size_t)l);
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
