/* A growable byte string, and a JSON writer on it. */
#ifndef SIMBDP_BASE_BUF_H
#define SIMBDP_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    char *p; /* always followed by a NUL once something was added */
    size_t n, cap;
};

#define AUTO_BUF __attribute__((cleanup(buf_fini)))
void buf_fini(struct buf *b);
void buf_reset(struct buf *b);
void buf_reserve(struct buf *b, size_t more);
void buf_add(struct buf *b, const void *p, size_t n);
void buf_adds(struct buf *b, const char *s);
void buf_addf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_consume(struct buf *b, size_t n); /* drops n bytes from the front */
/* Makes the text from `from` on fit for one line of a terminal: control characters and bytes that are not UTF-8 become '?'. */
void buf_make_plain(struct buf *b, size_t from);

/* JSON: commas are placed by looking at what was written last. A NULL key writes an array element. Strings are escaped;
 * bytes that are not UTF-8 become U+FFFD, so the output is always valid JSON. */
void json_begin(struct buf *b, const char *key, char open); /* open is '{' or '[' */
void json_end(struct buf *b, char close);
void json_str(struct buf *b, const char *key, const char *value); /* NULL gives null */
void json_strn(struct buf *b, const char *key, const char *value, size_t n);
void json_i64(struct buf *b, const char *key, int64_t value);
void json_i64_or_null(struct buf *b, const char *key, int64_t value); /* negative gives null */
void json_f64(struct buf *b, const char *key, double value);          /* NaN gives null */
void json_bool(struct buf *b, const char *key, bool value);
void json_null(struct buf *b, const char *key);
void json_time(struct buf *b, const char *key, int64_t wall_ms); /* RFC 3339; 0 or less gives null */
void json_raw(struct buf *b, const char *key, const char *json); /* NULL gives null */

/* Length of the valid UTF-8 sequence at p (n bytes left), 0 when there is none. */
size_t utf8_len(const unsigned char *p, size_t n);
bool utf8_valid(const char *p, size_t n);
/* Whether the sequence at p, of length len, is a control character (C0, DEL or C1), which terminals obey. */
bool utf8_is_control(const unsigned char *p, size_t len);
/* Whether n bytes at p are valid UTF-8 without control characters: every program can print them. */
bool utf8_is_plain(const char *p, size_t n);

#endif
