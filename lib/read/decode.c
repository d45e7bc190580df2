#include "decode.h"
#include "base/err.h"

#include <ctype.h>
#include <string.h>

/* 0x80 to 0x9f of windows-1252; 0 where it has no character (WHATWG maps those to C1 controls, and so do we). */
static const uint16_t cp1252[32] = {0x20ac, 0,      0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160,
                                    0x2039, 0x0152, 0,      0x017d, 0,      0,      0x2018, 0x2019, 0x201c, 0x201d, 0x2022,
                                    0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0,      0x017e, 0x0178};

const char *encoding_name(enum encoding e)
{
    static const char *const names[] = {
#define X(name, text) text,
        ENCODINGS(X)
#undef X
    };
    return names[e];
}

int encoding_parse(const char *name)
{
    static const struct {
        const char *name;
        enum encoding e;
    } known[] = {
        {"utf-8", ENC_UTF8},         {"utf8", ENC_UTF8},        {"ascii", ENC_UTF8},        {"us-ascii", ENC_UTF8},
        {"latin-1", ENC_LATIN1},     {"latin1", ENC_LATIN1},    {"iso-8859-1", ENC_LATIN1}, {"windows-1252", ENC_WINDOWS1252},
        {"cp1252", ENC_WINDOWS1252}, {"utf-16", ENC_UTF16LE},   {"utf16", ENC_UTF16LE},     {"utf-16le", ENC_UTF16LE},
        {"utf-16-le", ENC_UTF16LE},  {"utf-16be", ENC_UTF16BE}, {"utf-16-be", ENC_UTF16BE}};
    char plain[24];
    size_t n = strlen(name);
    if (n >= sizeof plain)
        return ERR_FORMAT;
    for (size_t i = 0; i <= n; i++)
        plain[i] = name[i] == '_' ? '-' : (char)tolower((unsigned char)name[i]);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i].name, plain))
            return (int)known[i].e;
    return ERR_FORMAT;
}

static char *put(char *o, uint32_t c)
{
    if (c < 0x80) {
        *o++ = (char)c;
    } else if (c < 0x800) {
        *o++ = (char)(0xc0 | c >> 6);
        *o++ = (char)(0x80 | (c & 63));
    } else if (c < 0x10000) {
        *o++ = (char)(0xe0 | c >> 12);
        *o++ = (char)(0x80 | (c >> 6 & 63));
        *o++ = (char)(0x80 | (c & 63));
    } else {
        *o++ = (char)(0xf0 | c >> 18);
        *o++ = (char)(0x80 | (c >> 12 & 63));
        *o++ = (char)(0x80 | (c >> 6 & 63));
        *o++ = (char)(0x80 | (c & 63));
    }
    return o;
}

static char *put_unit(struct decoder *d, uint16_t u, char *o)
{
    if (d->high) {
        uint16_t high = d->high;
        d->high = 0;
        if (u >= 0xdc00 && u < 0xe000)
            return put(o, 0x10000 + ((uint32_t)(high - 0xd800) << 10) + (u - 0xdc00));
        o = put(o, high);
    }
    if (u >= 0xd800 && u < 0xdc00) {
        d->high = u;
        return o;
    }
    return put(o, u);
}

static size_t decode_utf16(struct decoder *d, const unsigned char *in, size_t n, bool end, char *out)
{
    char *o = out;
    bool big = d->encoding == ENC_UTF16BE;
    size_t i = 0;
    if (d->has_odd && n) {
        o = put_unit(d, big ? (uint16_t)(d->odd << 8 | in[0]) : (uint16_t)(in[0] << 8 | d->odd), o);
        d->has_odd = false;
        i = 1;
    }
    for (; i + 1 < n; i += 2)
        o = put_unit(d, big ? (uint16_t)(in[i] << 8 | in[i + 1]) : (uint16_t)(in[i + 1] << 8 | in[i]), o);
    if (i < n) {
        d->odd = in[i];
        d->has_odd = true;
    }
    if (end && d->high) {
        o = put(o, d->high);
        d->high = 0;
    }
    if (end && d->has_odd) {
        *o++ = (char)0xff;
        d->has_odd = false;
    }
    return (size_t)(o - out);
}

size_t decode(struct decoder *d, const unsigned char *in, size_t n, bool end, char *out)
{
    char *o = out;
    switch (d->encoding) {
    case ENC_UTF8:
        memcpy(out, in, n);
        return n;
    case ENC_LATIN1:
        for (size_t i = 0; i < n; i++)
            o = put(o, in[i]);
        return (size_t)(o - out);
    case ENC_WINDOWS1252:
        for (size_t i = 0; i < n; i++)
            o = put(o, in[i] >= 0x80 && in[i] < 0xa0 && cp1252[in[i] - 0x80] ? cp1252[in[i] - 0x80] : in[i]);
        return (size_t)(o - out);
    case ENC_UTF16LE:
    case ENC_UTF16BE:
        return decode_utf16(d, in, n, end, out);
    }
    return 0;
}

size_t decode_source_bytes(enum encoding e, const char *text, size_t n)
{
    size_t units = 0;
    if (e == ENC_UTF8)
        return n;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        units += (c & 0xc0) != 0x80;
        if (e >= ENC_UTF16LE)
            units += c >= 0xf0 && c < 0xf8;
    }
    return e >= ENC_UTF16LE ? units * 2 : units;
}
