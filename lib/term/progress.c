#include "progress.h"
#include "table.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/mem.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { BAR = 20, DRAW_MS = 100, WIDTH = 80, NAME_SHOWN = 24, SETTLED_MS = 500, BLANKS = 64 };

static bool quiet;
/* How many columns of the terminal's line are drawn on; of the process, which has one terminal. */
static volatile sig_atomic_t n_drawn;

void progress_set_quiet(bool q)
{
    quiet = q;
}

bool progress_is_quiet(void)
{
    return quiet;
}

void progress_begin(struct progress *p, const char *name)
{
    *p = (struct progress){.name = name, .terminal = isatty(STDERR_FILENO)};
}

/* ---- clearing ---- */

static void put(const char *text, size_t n)
{
    if (write(STDERR_FILENO, text, n) < 0)
        n_drawn = 0; /* nobody has the terminal any more */
}

/* Async-signal-safe. */
static void blank_line(void)
{
    static const char blanks[BLANKS + 1] = "                                                                ";
    if (!n_drawn)
        return;
    put("\r", 1);
    for (int left = n_drawn; left > 0; left -= BLANKS)
        put(blanks, (size_t)(left < BLANKS ? left : BLANKS));
    put("\r", 1);
    n_drawn = 0;
}

static void on_signal(int sig)
{
    blank_line();
    signal(sig, SIG_DFL);
    raise(sig);
}

/* Those that end the process by default; who handles one himself clears the line himself. */
static void clear_at_the_end(void)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    static bool done;
    for (size_t i = 0; !done && i < sizeof signals / sizeof *signals; i++) {
        struct sigaction before;
        const struct sigaction ours = {.sa_handler = on_signal, .sa_flags = SA_NODEFER};
        if (sigaction(signals[i], NULL, &before) == 0 && before.sa_handler == SIG_DFL)
            sigaction(signals[i], &ours, NULL);
    }
    if (!done)
        atexit(blank_line);
    done = true;
}

/* ---- text ---- */

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
        const double part = done <= 0 ? 0 : done < total ? (double)done / (double)total : 1;
        const int filled = (int)(part * BAR);
        buf_addf(&b, " [%.*s%*s] %3d%%", filled, "####################", BAR - filled, "", (int)(part * 100));
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

/* ---- drawing ---- */

/* A line is shorter than the terminal is wide, so that the cursor stays on it. */
static size_t room(void)
{
    struct winsize w;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col ? (size_t)w.ws_col - 1 : WIDTH - 1;
}

static void draw(const char *text)
{
    const size_t bytes = table_bytes_within(text, room());
    AUTO_FREE char *shown = xstrndup(text, bytes);
    const int columns = (int)table_width(shown), before = n_drawn;
    clear_at_the_end();
    AUTO_BUF struct buf b = {0};
    buf_addf(&b, "\r%s%*s\r", shown, before > columns ? before - columns : 0, "");
    n_drawn = before > columns ? before : columns;
    put(b.p, b.n);
    if (n_drawn)
        n_drawn = columns;
}

static char *line_of(const struct progress *p, const char *text)
{
    AUTO_FREE char *plain = table_plain(p->name);
    AUTO_FREE char *name = table_shorten(plain, NAME_SHOWN);
    AUTO_FREE char *line = xasprintf("%s: %s", name, text);
    return table_plain(line);
}

/* To a log: that the phase lasts, once. */
static void tell(struct progress *p, int64_t now_ms)
{
    if (p->told || now_ms - p->phase_ms < PROGRESS_LASTS_MS)
        return;
    AUTO_FREE char *line = line_of(p, p->phase);
    fprintf(stderr, "%s\n", line);
    p->told = true;
}

void progress_show(struct progress *p, const char *phase, int64_t done, int64_t total, const char *unit)
{
    const int64_t now = clk_now_ms();
    const bool other = !p->phase_ms || strncmp(p->phase, phase, sizeof p->phase - 1) != 0;
    if (quiet || (p->terminal && !other && now - p->drawn_ms < DRAW_MS))
        return;
    if (other) {
        snprintf(p->phase, sizeof p->phase, "%s", phase);
        p->phase_ms = now;
        p->first = done;
        p->told = false;
    }
    if (!p->terminal) {
        tell(p, now);
        return;
    }
    AUTO_FREE char *text = progress_text(phase, done, p->first, total, unit, now - p->phase_ms);
    AUTO_FREE char *line = line_of(p, text);
    draw(line);
    p->drawn_ms = now;
    p->drawn = true;
}

void progress_clear(struct progress *p)
{
    if (p->drawn)
        blank_line();
    p->drawn = false;
}
