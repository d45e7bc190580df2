#include "checker.h"

#include "base/mem.h"
#include "stream/command.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

enum { MAX_LINE = 1024, SPARE_BYTES = 64 << 10, WHY_SHOWN = 200, LINE_SHOWN = 60 };

static void forget(struct checker *c)
{
    for (size_t i = 0; i < c->cap; i++) {
        free(c->why[i]);
        c->why[i] = NULL;
    }
}

void checker_fini(struct checker *c)
{
    forget(c);
    free(c->why);
    free(c->path);
    buf_fini(&c->out);
    *c = (struct checker){0};
}

/* The beginning of what it printed, on one line, as much as people need. The caller frees. */
static char *shown(const char *p, size_t n, size_t max)
{
    AUTO_BUF struct buf b = {0};
    while (n && strchr(" \t:", *p)) {
        p++;
        n--;
    }
    while (n && strchr(" \t\r", p[n - 1]))
        n--;
    n = n < max ? n : max;
    while (n && n == max && ((unsigned char)p[n - 1] & 0xc0) == 0x80) /* do not cut a character in two */
        n--;
    buf_add(&b, p, n);
    buf_add(&b, "", 0);
    buf_make_plain(&b, 0);
    return xstrdup(b.p);
}

static bool says(const char *p, size_t n, const char *word)
{
    size_t len = strlen(word);
    return n >= len && !memcmp(p, word, len) && (n == len || strchr(" \t\r:", p[len]));
}

/* Takes one line of the answer. False: it is neither "ok" nor "reject". */
static bool take_line(struct checker *c, size_t i, const char *p, size_t n)
{
    if (says(p, n, "reject")) {
        AUTO_FREE char *words = shown(p + 6, n - 6, WHY_SHOWN);
        c->why[i] = *words ? xasprintf("checker: %s", words) : xstrdup("the checker refuses it");
        return true;
    }
    return says(p, n, "ok") && strspn(p + 2, " \t\r") >= n - 2;
}

static int nothing(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int nothing(struct err *e, const char *fmt, ...)
{
    char text[300];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    err_set(e, ERR_FORMAT, "%s", text);
    return CHECKED_NOTHING;
}

static int take_lines(struct checker *c, size_t n, struct err *e)
{
    size_t lines = 0;
    for (const char *p = c->out.p, *end = p + c->out.n; p < end; lines++) {
        const char *eol = memchr(p, '\n', (size_t)(end - p));
        size_t len = eol ? (size_t)(eol - p) : (size_t)(end - p);
        if (lines < n && !take_line(c, lines, p, len)) {
            AUTO_FREE char *words = shown(p, len, LINE_SHOWN);
            return nothing(e, "prints \"%s\", which is neither ok nor reject", words);
        }
        p = eol ? eol + 1 : end;
    }
    return lines == n ? CHECKED
                      : nothing(e, "prints %zu line%s for %zu message%s", lines, lines == 1 ? "" : "s", n, n == 1 ? "" : "s");
}

static void make_room(struct checker *c, size_t n)
{
    forget(c);
    if (n <= c->cap)
        return;
    c->why = xrealloc(c->why, n * sizeof *c->why);
    memset(c->why + c->cap, 0, (n - c->cap) * sizeof *c->why);
    c->cap = n;
}

int checker_run(struct checker *c, const char *text, size_t n_text, size_t n, struct err *e)
{
    char *argv[] = {c->path, NULL};
    struct command_job job = {.argv = argv,
                              .in = text,
                              .n = n_text,
                              .out = &c->out,
                              .max_out = SPARE_BYTES + n * MAX_LINE,
                              .max_ms = c->limit_ms,
                              .tick = c->tick,
                              .arg = c->arg};
    make_room(c, n);
    buf_reset(&c->out);
    int code = command_run(&job, e);
    buf_add(&c->out, "", 0);
    if (code == -ETIMEDOUT)
        return nothing(e, "does not answer within %lld s (checker_s)", (long long)c->limit_ms / 1000);
    if (code == ERR_LIMIT)
        return nothing(e, "prints more than %zu bytes for %zu messages", job.max_out, n);
    if (code < 0)
        return code;
    if (code == EX_TEMPFAIL)
        return CHECKED_AGAIN;
    if (code == EX_DATAERR && n == 1) {
        c->why[0] = xstrdup("the checker refuses it");
        return CHECKED;
    }
    if (code)
        return nothing(e, code < 128 ? "exits with %d" : "ends by signal %d", code < 128 ? code : code - 128);
    int r = take_lines(c, n, e);
    if (r != CHECKED)
        forget(c);
    return r;
}
