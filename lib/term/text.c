#include "text.h"
#include "table.h"

#include "base/fd.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Length of the UTF-8 character that begins at u: 0 if there is none, negative if more bytes are needed to tell. */
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
        const int bad = control ? l : 1; /* shown as \xNN */
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

/* A stream may be flushed in the middle of a character. Then its bytes wait for the rest. */
struct guard {
    FILE *terminal;
    struct buf rest;
    size_t column, indent; /* of the line that is being written: where it is, and how far what is broken off is indented */
};

static struct guard guards[2];
static bool folds;

void text_fold(bool on)
{
    folds = on;
}

/* 0: it is no terminal, or nothing is to be broken. */
static size_t room_of(const struct guard *g)
{
    struct winsize w;
    const int fd = fileno(g->terminal);
    return folds && isatty(fd) && ioctl(fd, TIOCGWINSZ, &w) == 0 ? w.ws_col : 0;
}

/* Where the text of a line begins: behind the first gap of two blanks, or a little behind its beginning. */
static size_t indent_of(const char *line, size_t room)
{
    enum { FURTHEST = 24, FURTHER = 2 };
    const size_t lead = strspn(line, " ");
    const char *gap = strstr(line + lead, "  ");
    const size_t at = gap ? (size_t)(gap - line) + strspn(gap, " ") : 0;
    const size_t indent = gap && line[at] && at <= FURTHEST ? at : lead + FURTHER;
    return indent < room / 2 ? indent : room / 2;
}

/* A part of a line. */
static void fold_part(struct guard *g, const char *part, size_t room, struct buf *out)
{
    const size_t from = out->n;
    if (!g->column)
        g->indent = indent_of(part, room);
    table_fold(out, part, g->column, g->indent, room);
    const char *lf = out->n > from ? memrchr(out->p + from, '\n', out->n - from) : NULL;
    g->column = lf ? table_width(lf + 1) : g->column + table_width(part);
}

static void fold(struct guard *g, const struct buf *text, size_t room, struct buf *out)
{
    for (size_t at = 0; at < text->n;) {
        const char *lf = memchr(text->p + at, '\n', text->n - at);
        const size_t end = lf ? (size_t)(lf - text->p) : text->n;
        AUTO_FREE char *part = xstrndup(text->p + at, end - at);
        if (*part)
            fold_part(g, part, room, out);
        at = end;
        if (!lf)
            break;
        buf_add(out, "\n", 1);
        g->column = 0;
        at++;
    }
}

static ssize_t write_guarded(void *arg, const char *p, size_t n)
{
    struct guard *g = arg;
    AUTO_BUF struct buf b = {0};
    buf_add(&g->rest, p, n);
    buf_consume(&g->rest, text_append(&b, g->rest.p, g->rest.n, n != 0));
    const size_t room = room_of(g);
    AUTO_BUF struct buf folded = {0};
    if (room)
        fold(g, &b, room, &folded);
    const struct buf *out = room ? &folded : &b;
    return fd_write_all(fileno(g->terminal), out->p, out->n) < 0 ? 0 : (ssize_t)n;
}

static FILE *guarded(struct guard *g, FILE *stream)
{
    g->terminal = stream;
    FILE *f = fopencookie(g, "w", (cookie_io_functions_t){.write = write_guarded});
    if (!f)
        return stream;
    setvbuf(f, NULL, _IOLBF, BUFSIZ);
    return f;
}

static void finish(void)
{
    fflush(stdout);
    fflush(stderr);
    for (int i = 0; i < 2; i++) {
        write_guarded(&guards[i], "", 0);
        buf_fini(&guards[i].rest);
    }
}

void text_guard(void)
{
    stdout = guarded(&guards[0], stdout);
    stderr = guarded(&guards[1], stderr);
    atexit(finish);
}

void text_unguard(void)
{
    fflush(stdout);
    stdout = guards[0].terminal;
}
