/* Allocation for programs whose crash safety is tested. Running out of memory ends the program with a message; its supervisor
 * starts it again, and recovery goes on from the ledger. Sizes that a tenant influences are capped before they get here. */
#ifndef SIMBDP_BASE_MEM_H
#define SIMBDP_BASE_MEM_H

#include <stddef.h>
#include <stdlib.h>

void *xmalloc(size_t n);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t n);
/* Room for one element more than the n in p, which was got from here (or is NULL). Grows by doubling, when n is a power of two. */
void *xgrow(void *p, size_t n, size_t size);
char *xstrdup(const char *s); /* NULL gives NULL */
char *xstrndup(const char *s, size_t n);
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Called when memory has run out, before the program ends. It may end the program in its own way, or go on elsewhere (mem_try.h);
 * it must not allocate. */
void mem_on_exhausted(void (*fn)(void));

/* What the above do when there is no memory; for those that others' libraries could not have. */
_Noreturn void mem_exhausted(void);

/* Replaces *p by a copy of s, freeing the old one. */
void xstr_set(char **p, const char *s);

static inline void free_cleanup(void *p)
{
    free(*(void **)p);
}
#define AUTO_FREE __attribute__((cleanup(free_cleanup)))

/* fn_auto, to make an AUTO_ macro of: calls fn, which accepts NULL, with a `struct type *`. */
#define AUTO_DEFINE(type, fn)                                                                                                      \
    static inline void fn##_auto(struct type **p)                                                                                  \
    {                                                                                                                              \
        fn(*p);                                                                                                                    \
    }

/* The value of an AUTO_ pointer, which then frees nothing: it is somebody else's from here on. */
#define TAKE(p)                                                                                                                    \
    __extension__({                                                                                                                \
        __auto_type taken_ = (p);                                                                                                  \
        (p) = NULL;                                                                                                                \
        taken_;                                                                                                                    \
    })

#endif
