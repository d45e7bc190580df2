#include "window.h"
#include "base/mem.h"

#include <string.h>

static void reserve(struct window *w, size_t more)
{
    if (w->cap - w->n >= more)
        return;
    w->cap = w->cap * 2 > w->n + more ? w->cap * 2 : w->n + more;
    w->p = xrealloc(w->p, w->cap);
}

int window_grow(struct window *w, size_t *ret_shift, struct err *e)
{
    *ret_shift = 0;
    if (w->at > 0 && (w->at == w->n || w->at >= WINDOW_BLOCK / 2)) {
        memmove(w->p, w->p + w->at, w->n - w->at);
        *ret_shift = w->at;
        w->n -= w->at;
        w->at = 0;
    }
    bool plain = w->decoder.encoding == ENC_UTF8;
    size_t block = src_at_most(w->src, WINDOW_BLOCK);
    /* Room for two from the start: the end shows only when a second block was asked for, and growing copies. */
    reserve(w, (plain ? block : 3 * block + 8) * (w->p ? 1 : 2));
    if (!plain && !w->raw)
        w->raw = xmalloc(WINDOW_BLOCK);
    ssize_t got = plain ? src_read(w->src, w->p + w->n, block, e) : src_read(w->src, w->raw, block, e);
    if (got < 0)
        return (int)got;
    w->end = got == 0;
    w->n += plain ? (size_t)got : decode(&w->decoder, w->raw, (size_t)got, w->end, w->p + w->n);
    return 0;
}

void window_advance(struct window *w, size_t n, size_t lines)
{
    w->offset += (int64_t)decode_source_bytes(w->decoder.encoding, w->p + w->at, n);
    w->line += (int64_t)lines;
    w->at += n;
}

void window_advance_text(struct window *w, size_t n)
{
    size_t lines = 0;
    for (const char *p = w->p + w->at, *end = p + n; (p = memchr(p, '\n', (size_t)(end - p))); p++)
        lines++;
    window_advance(w, n, lines);
}

void window_set_encoding(struct window *w, enum encoding e)
{
    w->decoder = (struct decoder){.encoding = e};
    if (e == ENC_UTF8)
        return;
    size_t n = w->n - w->at;
    AUTO_FREE unsigned char *old = xmalloc(n + 1);
    memcpy(old, w->p + w->at, n);
    w->n = w->at;
    reserve(w, 3 * n + 8);
    w->n += decode(&w->decoder, old, n, w->end, w->p + w->n);
}

void window_fini(struct window *w)
{
    free(w->raw);
    free(w->p);
    *w = (struct window){0};
}
