#include "mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void (*on_exhausted)(void);

void mem_on_exhausted(void (*fn)(void))
{
    on_exhausted = fn;
}

void mem_exhausted(void)
{
    static const char msg[] = "{\"level\":\"error\",\"event\":\"out_of_memory\"}\n";
    if (on_exhausted)
        on_exhausted();
    if (write(2, msg, sizeof msg - 1) < 0) {
    }
    abort();
}

static void *check(void *p)
{
    if (!p)
        mem_exhausted();
    return p;
}

void *xmalloc(size_t n)
{
    return check(malloc(n ? n : 1));
}

void *xcalloc(size_t n, size_t size)
{
    return check(calloc(n ? n : 1, size ? size : 1));
}

void *xrealloc(void *p, size_t n)
{
    return check(realloc(p, n ? n : 1));
}

void *xgrow(void *p, size_t n, size_t size)
{
    return n & (n - 1) ? p : xrealloc(p, (n ? 2 * n : 1) * size);
}

char *xstrdup(const char *s)
{
    return s ? check(strdup(s)) : NULL;
}

char *xstrndup(const char *s, size_t n)
{
    return check(strndup(s, n));
}

char *xasprintf(const char *fmt, ...)
{
    char *s = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&s, fmt, ap);
    va_end(ap);
    return check(n < 0 ? NULL : s);
}

void xstr_set(char **p, const char *s)
{
    char *copy = xstrdup(s);
    free(*p);
    *p = copy;
}
