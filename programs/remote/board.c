#include "board.h"

#include "base/clk.h"
#include "base/fd.h"
#include "term/progress.h"

#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { DRAW_MS = 150, TELL_MS = 60000, WIDTH = 80 };

void board_begin(struct board *b)
{
    *b = (struct board){.terminal = isatty(STDERR_FILENO), .began_ms = clk_now_ms()};
}

bool board_is_due(const struct board *b)
{
    const int64_t now = clk_now_ms();
    if (progress_is_quiet())
        return false;
    if (b->terminal)
        return now - b->drawn_ms >= DRAW_MS;
    return b->told ? now - b->drawn_ms >= TELL_MS : now - b->began_ms >= PROGRESS_LASTS_MS;
}

static size_t room(void)
{
    struct winsize w;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col ? (size_t)w.ws_col - 1 : WIDTH - 1;
}

/* Bytes of a line that fit. A character counts as one column. */
static size_t bytes_within(const char *line, size_t n, size_t columns)
{
    size_t used = 0, i = 0;
    for (; i < n; i++) {
        used += (line[i] & 0xc0) != 0x80;
        if (used > columns)
            break;
    }
    return i;
}

static void add_clear(struct buf *out, const struct board *b)
{
    if (b->n_drawn)
        buf_addf(out, "\033[%dA\r\033[J", b->n_drawn);
}

void board_clear(struct board *b)
{
    AUTO_BUF struct buf out = {0};
    add_clear(&out, b);
    if (out.n)
        fd_write_all(STDERR_FILENO, out.p, out.n);
    b->n_drawn = 0;
}

/* The last line alone, into a log. */
static void tell(struct board *b, const struct buf *text)
{
    AUTO_BUF struct buf out = {0};
    const char *end = text->n > 1 ? memrchr(text->p, '\n', text->n - 1) : NULL, *last = end ? end + 1 : text->p;
    buf_add(&out, last, strcspn(last, "\n"));
    buf_make_plain(&out, 0);
    buf_adds(&out, "\n");
    fd_write_all(STDERR_FILENO, out.p, out.n);
    b->drawn_ms = clk_now_ms();
    b->told = true;
}

void board_draw(struct board *b, const struct buf *text)
{
    AUTO_BUF struct buf out = {0};
    const size_t columns = room();
    if (!b->terminal) {
        tell(b, text);
        return;
    }
    add_clear(&out, b);
    b->n_drawn = 0;
    for (const char *p = text->p, *lf; p && (lf = strchr(p, '\n')); p = lf + 1) {
        size_t from = out.n;
        buf_add(&out, p, bytes_within(p, (size_t)(lf - p), columns));
        buf_make_plain(&out, from);
        buf_adds(&out, "\n");
        b->n_drawn++;
    }
    if (out.n)
        fd_write_all(STDERR_FILENO, out.p, out.n);
    b->drawn_ms = clk_now_ms();
}
