#include "progress.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { BAR = 20, DRAW_MS = 100, WIDTH = 80, NAME_SHOWN = 24, SETTLED_MS = 500 };

void progress_begin(struct progress *p, const char *name)
{
    *p = (struct progress){.name = name, .terminal = isatty(STDERR_FILENO)};
}

static void add_amount(struct buf *b, int64_t n, const char *unit)
{
    if (!strcmp(unit, "B"))
        buf_addf(b, " %.1f MB", (double)n / 1e6);
    else
        buf_addf(b, " %lld %s", (long long)n, unit);
}

static void add_rate(struct buf *b, double per_s, const char *unit)
{
    if (!strcmp(unit, "B"))
        buf_addf(b, " %.1f MB/s", per_s / 1e6);
    else
        buf_addf(b, " %.0f/s", per_s);
}

static void add_time(struct buf *b, int64_t s)
{
    if (s < 120)
        buf_addf(b, " %lld s", (long long)s);
    else if (s < 7200)
        buf_addf(b, " %lld min", (long long)(s / 60));
    else
        buf_addf(b, " %lld h", (long long)(s / 3600));
}

char *progress_text(const char *phase, int64_t done, int64_t first, int64_t total, const char *unit, int64_t elapsed_ms)
{
    AUTO_BUF struct buf b = {0};
    buf_adds(&b, phase);
    if (!unit) {
        add_time(&b, elapsed_ms / 1000);
        return xstrdup(b.p);
    }
    if (total > 0) {
        int64_t shown = done < total ? done : total;
        int filled = (int)(shown * BAR / total);
        buf_addf(&b, " [%.*s%*s] %3d%%", filled, "####################", BAR - filled, "", (int)(shown * 100 / total));
    }
    add_amount(&b, done, unit);
    double per_s = elapsed_ms >= SETTLED_MS ? (double)(done - first) * 1000 / (double)elapsed_ms : 0;
    if (per_s > 0)
        add_rate(&b, per_s, unit);
    if (per_s > 0 && total > done) {
        buf_adds(&b, " ETA");
        add_time(&b, (int64_t)((double)(total - done) / per_s) + 1);
    }
    return xstrdup(b.p);
}

/* A line is shorter than the terminal is wide, so that the cursor stays on it. */
static size_t room(void)
{
    struct winsize w;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col ? (size_t)w.ws_col - 1 : WIDTH - 1;
}

static void draw(const char *text)
{
    size_t width = room(), used = 0;
    AUTO_BUF struct buf b = {0};
    buf_adds(&b, "\r");
    for (const char *c = text; *c && (used < width || (*c & 0xc0) == 0x80); c++) {
        used += (*c & 0xc0) != 0x80;
        buf_add(&b, c, 1);
    }
    buf_addf(&b, "%*s\r", (int)(width - used), "");
    dprintf(STDERR_FILENO, "%s", b.p);
}

void progress_show(struct progress *p, const char *phase, int64_t done, int64_t total, const char *unit)
{
    int64_t now = clk_now_ms();
    bool other = strncmp(p->phase, phase, sizeof p->phase - 1) != 0;
    if (!p->terminal || (!other && now - p->drawn_ms < DRAW_MS))
        return;
    if (other) {
        snprintf(p->phase, sizeof p->phase, "%s", phase);
        p->phase_ms = now;
        p->first = done;
    }
    AUTO_FREE char *text = progress_text(phase, done, p->first, total, unit, now - p->phase_ms);
    AUTO_FREE char *line = xasprintf("%.*s%s: %s", NAME_SHOWN, p->name, strlen(p->name) > NAME_SHOWN ? "…" : "", text);
    struct buf plain = {.p = line, .n = strlen(line)};
    buf_make_plain(&plain, 0);
    draw(line);
    p->drawn_ms = now;
    p->drawn = true;
}

void progress_clear(struct progress *p)
{
    if (p->drawn)
        draw("");
    p->drawn = false;
}
