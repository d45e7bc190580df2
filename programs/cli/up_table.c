#include "up_table.h"

#include "base/buf.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"

#include <stdio.h>
#include <sys/wait.h>

static void add_end(struct buf *b, const struct up_line *p)
{
    char text[48];
    json_time(b, "ended_at", p->ended_wall_ms);
    snprintf(text, sizeof text, "%s %d", WIFSIGNALED(p->status) ? "signal" : "exit code",
             WIFSIGNALED(p->status) ? WTERMSIG(p->status) : WEXITSTATUS(p->status));
    json_str(b, "ended", p->ended_wall_ms ? text : NULL);
}

void up_table_write(int home_fd, const struct up_line *v, size_t n)
{
    AUTO_BUF struct buf b = {0};
    struct err e = {0};
    json_begin(&b, NULL, '{');
    json_begin(&b, "programs", '[');
    for (size_t i = 0; i < n; i++) {
        json_begin(&b, NULL, '{');
        json_str(&b, "program", v[i].name);
        json_i64_or_null(&b, "pid", v[i].pid ? v[i].pid : -1);
        json_time(&b, "started_at", v[i].started_wall_ms);
        json_i64(&b, "restarts", v[i].restarts);
        add_end(&b, &v[i]);
        json_end(&b, '}');
    }
    json_end(&b, ']');
    json_end(&b, '}');
    buf_adds(&b, "\n");
    if (fd_write_file(home_fd, UP_TABLE, b.p, b.n, 0600, &e) < 0)
        log_warn("programs", NULL, NULL, "%s", e.msg);
}
