#include "log.h"
#include "buf.h"
#include "clk.h"
#include "log_sink.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { SAY_MS = 10000 };

static const char *program_name = "mysimbdp";
static bool debug;

void log_init(const char *program)
{
    program_name = program;
    debug = getenv("SIMBDP_DEBUG") != NULL;
    log_sink_open(getenv(LOG_SINK_ENV));
}

static void write_line(const struct log_record *r)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_time(&b, "ts", r->wall_ms);
    json_str(&b, "level", r->level);
    json_str(&b, "program", r->program);
    json_str(&b, "event", r->event);
    if (r->tenant)
        json_str(&b, "tenant", r->tenant);
    if (r->run)
        json_str(&b, "run", r->run);
    json_str(&b, "msg", r->msg);
    json_end(&b, '}');
    buf_add(&b, "\n", 1);
    if (write(STDERR_FILENO, b.p, b.n) < 0) { /* the log itself failed: there is nowhere to report that */
    }
}

/* Whether it is this thread's to say now; not more often than one can read. */
static bool is_due(atomic_llong *said_ms)
{
    long long before = atomic_load(said_ms), now = clk_now_ms();
    return (!before || now - before >= SAY_MS) && atomic_compare_exchange_strong(said_ms, &before, now);
}

/* Lines that the host's log did not take are counted; the file has them all. */
static void tell_host(const struct log_record *r)
{
    static atomic_llong failed_ms, told_ms;
    char msg[128];
    struct log_record about = {"warn", program_name, "log_dropped", NULL, NULL, msg, r->wall_ms};
    if (!log_sink_send(r)) {
        snprintf(msg, sizeof msg, "the host's log does not take lines; they are in this file alone, and are counted");
        if (is_due(&failed_ms))
            write_line(&about);
        return;
    }
    int64_t n = log_sink_take_dropped();
    if (n && is_due(&told_ms)) {
        snprintf(msg, sizeof msg, "the host's log did not take %lld lines of this program, which its file has", (long long)n);
        write_line(&about);
        if (log_sink_send(&about))
            return;
    }
    log_sink_give_back(n);
}

void log_line(enum log_level level, const char *event, const char *tenant, const char *run, const char *fmt, ...)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    if (level == LOG_LEVEL_DEBUG && !debug)
        return;
    char msg[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    const struct log_record r = {names[level], program_name, event, tenant, run, msg, clk_wall_ms()};
    write_line(&r);
    if (log_sink_is_open())
        tell_host(&r);
}
