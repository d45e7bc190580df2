#include "json_array.h"

#include <stdint.h>
#include <string.h>

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static size_t skip(const char *p, size_t n, size_t i)
{
    while (i < n && is_blank(p[i]))
        i++;
    return i;
}

/* Behind the string that begins at i; n: it does not end. */
static size_t end_of_string(const char *p, size_t n, size_t i)
{
    for (i++; i < n; i++) {
        if (p[i] == '\\')
            i++;
        else if (p[i] == '"')
            return i + 1;
    }
    return n;
}

/* Where the element that begins at i is followed by a comma or by the array's end; n: it is malformed. */
static size_t end_of_element(const char *p, size_t n, size_t i)
{
    uint64_t arrays = 0; /* bit d: what is open at depth d is an array */
    int depth = 0;
    while (i < n) {
        char c = p[i];
        if (c == '"') {
            i = end_of_string(p, n, i);
            continue;
        }
        if (depth == 0 && (c == ',' || c == ']'))
            return i;
        if (c == '[' || c == '{') {
            if (depth == JSON_ARRAY_DEPTH)
                return n;
            arrays = (arrays & ~(UINT64_C(1) << depth)) | (uint64_t)(c == '[') << depth;
            depth++;
        } else if (c == ']' || c == '}') {
            if (depth == 0 || (arrays >> (depth - 1) & 1) != (c == ']'))
                return n;
            depth--;
        }
        i++;
    }
    return n;
}

bool json_array_split(const char *p, size_t n, void (*element)(void *arg, const char *p, size_t n), void *arg)
{
    size_t i = skip(p, n, 0);
    if (i == n || p[i] != '[')
        return false;
    i = skip(p, n, i + 1);
    if (i < n && p[i] == ']')
        return skip(p, n, i + 1) == n;
    for (;;) {
        i = skip(p, n, i);
        size_t end = end_of_element(p, n, i), len = end - i;
        if (end == n || !len)
            return false;
        while (len && is_blank(p[i + len - 1]))
            len--;
        if (element)
            element(arg, p + i, len);
        i = end + 1;
        if (p[end] == ']')
            return skip(p, n, i) == n;
    }
}
