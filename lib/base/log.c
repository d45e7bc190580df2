#include "log.h"
#include "buf.h"
#include "clk.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *program_name = "mysimbdp";
static bool debug;

void log_init(const char *program)
{
    program_name = program;
    debug = getenv("SIMBDP_DEBUG") != NULL;
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
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_time(&b, "ts", clk_wall_ms());
    json_str(&b, "level", names[level]);
    json_str(&b, "program", program_name);
    json_str(&b, "event", event);
    if (tenant)
        json_str(&b, "tenant", tenant);
    if (run)
        json_str(&b, "run", run);
    json_str(&b, "msg", msg);
    json_end(&b, '}');
    buf_add(&b, "\n", 1);
    if (write(STDERR_FILENO, b.p, b.n) < 0) { /* the log itself failed: there is nowhere to report that */
    }
}
