#include "buf.h"
#include "clk.h"
#include "mem.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void buf_fini(struct buf *b)
{
    free(b->p);
    *b = (struct buf){0};
}

void buf_reset(struct buf *b)
{
    b->n = 0;
    if (b->p)
        b->p[0] = 0;
}

void buf_reserve(struct buf *b, size_t more)
{
    size_t need = b->n + more + 1;
    if (need <= b->cap)
        return;
    size_t cap = b->cap ? b->cap * 2 : 256;
    while (cap < need)
        cap *= 2;
    b->p = xrealloc(b->p, cap);
    b->cap = cap;
}

void buf_add(struct buf *b, const void *p, size_t n)
{
    buf_reserve(b, n);
    if (n)
        memcpy(b->p + b->n, p, n);
    b->n += n;
    b->p[b->n] = 0;
}

void buf_adds(struct buf *b, const char *s)
{
    buf_add(b, s, strlen(s));
}

void buf_addf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    buf_reserve(b, (size_t)n);
    va_start(ap, fmt);
    vsnprintf(b->p + b->n, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->n += (size_t)n;
}

void buf_consume(struct buf *b, size_t n)
{
    memmove(b->p, b->p + n, b->n - n);
    b->n -= n;
    b->p[b->n] = 0;
}

size_t utf8_len(const unsigned char *p, size_t n)
{
    /* Table 3-7 of the Unicode standard: no overlong forms, no surrogates, nothing above U+10FFFF. */
    if (n == 0)
        return 0;
    unsigned char c = p[0];
    if (c < 0x80)
        return 1;
    unsigned char low = 0x80, high = 0xbf;
    size_t len = 0;
    if (c >= 0xc2 && c <= 0xdf)
        len = 2;
    else if (c >= 0xe0 && c <= 0xef)
        len = 3;
    else if (c >= 0xf0 && c <= 0xf4)
        len = 4;
    if (!len || n < len)
        return 0;
    if (c == 0xe0)
        low = 0xa0;
    else if (c == 0xed)
        high = 0x9f;
    else if (c == 0xf0)
        low = 0x90;
    else if (c == 0xf4)
        high = 0x8f;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return len;
}

bool utf8_valid(const char *s, size_t n)
{
    const unsigned char *p = (const unsigned char *)s;
    size_t i = 0;
    while (i < n) {
        uint64_t word;
        if (i + 8 <= n && (memcpy(&word, p + i, 8), !(word & 0x8080808080808080ull))) {
            i += 8;
            continue;
        }
        size_t len = utf8_len(p + i, n - i);
        if (!len)
            return false;
        i += len;
    }
    return true;
}

bool utf8_is_control(const unsigned char *p, size_t len)
{
    return (len == 1 && (*p < 0x20 || *p == 0x7f)) || (len == 2 && p[0] == 0xc2 && p[1] < 0xa0);
}

bool utf8_is_plain(const char *p, size_t n)
{
    const unsigned char *u = (const unsigned char *)p;
    for (size_t i = 0, len; i < n; i += len)
        if (!(len = utf8_len(u + i, n - i)) || utf8_is_control(u + i, len))
            return false;
    return true;
}

void buf_make_plain(struct buf *b, size_t from)
{
    unsigned char *p = (unsigned char *)b->p;
    for (size_t i = from, len; i < b->n; i += len ? len : 1) {
        len = utf8_len(p + i, b->n - i);
        if (!len || utf8_is_control(p + i, len))
            memset(p + i, '?', len ? len : 1);
    }
}

static void quote(struct buf *b, const char *s, size_t n)
{
    const unsigned char *p = (const unsigned char *)s;
    buf_add(b, "\"", 1);
    for (size_t i = 0; i < n;) {
        unsigned char c = p[i];
        size_t plain = i;
        while (plain < n && p[plain] >= 0x20 && p[plain] < 0x7f && p[plain] != '"' && p[plain] != '\\')
            plain++;
        if (plain > i) {
            buf_add(b, p + i, plain - i);
            i = plain;
            continue;
        }
        size_t len = utf8_len(p + i, n - i);
        if (!len) {
            buf_adds(b, "\xef\xbf\xbd");
            i++;
        } else if (c == '"' || c == '\\') {
            buf_addf(b, "\\%c", c);
            i++;
        } else if (c == '\n') {
            buf_adds(b, "\\n");
            i++;
        } else if (utf8_is_control(p + i, len)) {
            buf_addf(b, "\\u%04x", p[i + len - 1]); /* C1's code is its second byte */
            i += len;
        } else {
            buf_add(b, p + i, len);
            i += len;
        }
    }
    buf_add(b, "\"", 1);
}

static void start(struct buf *b, const char *key)
{
    if (b->n && !strchr("{[:\n", b->p[b->n - 1]))
        buf_add(b, ",", 1);
    if (key) {
        quote(b, key, strlen(key));
        buf_add(b, ":", 1);
    }
}

void json_begin(struct buf *b, const char *key, char open)
{
    start(b, key);
    buf_add(b, &open, 1);
}

void json_end(struct buf *b, char close)
{
    buf_add(b, &close, 1);
}

void json_str(struct buf *b, const char *key, const char *value)
{
    if (value)
        json_strn(b, key, value, strlen(value));
    else
        json_null(b, key);
}

void json_strn(struct buf *b, const char *key, const char *value, size_t n)
{
    start(b, key);
    quote(b, value, n);
}

void json_i64(struct buf *b, const char *key, int64_t value)
{
    start(b, key);
    buf_addf(b, "%lld", (long long)value);
}

void json_i64_or_null(struct buf *b, const char *key, int64_t value)
{
    if (value < 0)
        json_null(b, key);
    else
        json_i64(b, key, value);
}

void json_f64(struct buf *b, const char *key, double value)
{
    start(b, key);
    if (isfinite(value))
        buf_addf(b, "%.15g", value);
    else
        buf_adds(b, "null");
}

void json_bool(struct buf *b, const char *key, bool value)
{
    start(b, key);
    buf_adds(b, value ? "true" : "false");
}

void json_null(struct buf *b, const char *key)
{
    start(b, key);
    buf_adds(b, "null");
}

void json_time(struct buf *b, const char *key, int64_t wall_ms)
{
    char text[CLK_RFC3339_SIZE];
    if (wall_ms <= 0)
        json_null(b, key);
    else
        json_str(b, key, clk_rfc3339(wall_ms, text));
}

void json_raw(struct buf *b, const char *key, const char *json)
{
    start(b, key);
    buf_adds(b, json ? json : "null");
}
