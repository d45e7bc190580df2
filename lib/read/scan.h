/* The two loops that touch every byte of a file. */
#ifndef SIMBDP_READ_SCAN_H
#define SIMBDP_READ_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What JSON calls whitespace (RFC 8259, 2). */
static inline bool scan_is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Positions in p[from, to) of any of the n (at most 5) bytes of `set`, in rising order, written to `out` (room for
 * to - from). Returns how many. 64 bytes at a time with SSE2 where there is such, a bit for each match: the idea of
 * simdjson's first stage (Langdale, Lemire: Parsing Gigabytes of JSON per Second, 2019). */
size_t scan_index(const unsigned char *set, size_t n, const char *p, size_t from, size_t to, uint32_t *out);

/* What keeps a text from being one. *ret_at gets the place. */
enum text_fault { TEXT_OK, TEXT_NUL, TEXT_NOT_UTF8 };
enum text_fault scan_text(const char *p, size_t n, size_t *ret_at);

#endif
