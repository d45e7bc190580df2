/* Encodings of text files, all read as UTF-8. They are decoded here, since the inspector's sandbox does not let iconv
 * load its modules, and since damage must cost only the row that it is in. */
#ifndef SIMBDP_READ_DECODE_H
#define SIMBDP_READ_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ENCODINGS(X)                                                                                                               \
    X(UTF8, "utf-8") X(LATIN1, "latin-1") X(WINDOWS1252, "windows-1252") X(UTF16LE, "utf-16le") X(UTF16BE, "utf-16be")
enum encoding {
#define X(name, text) ENC_##name,
    ENCODINGS(X)
#undef X
};

const char *encoding_name(enum encoding e);
/* Case and '_' for '-' do not matter; iso-8859-1, cp1252, utf8 and utf-16 (then the BOM decides, else little endian) are
 * known too. ERR_FORMAT for others. */
int encoding_parse(const char *name);

struct decoder {
    enum encoding encoding;
    unsigned char odd; /* first byte of a unit whose second has not come yet */
    bool has_odd;
    uint16_t high; /* first half of a surrogate pair, 0: none */
};

/* Decodes n bytes to `out`, which has room for 3 * n + 8 bytes; returns how many it wrote. `end`: nothing follows. What no
 * character stands for comes out as bytes that are not UTF-8 (a lone surrogate as its three bytes, WTF-8), so that the row
 * that holds it is rejected like any other damaged one. */
size_t decode(struct decoder *d, const unsigned char *in, size_t n, bool end, char *out);

/* How many bytes of the source n bytes of decoded text were. */
size_t decode_source_bytes(enum encoding e, const char *text, size_t n);

#endif
