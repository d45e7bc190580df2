/* The result file: counts and the checkpoint of a load, written anew as a whole every CHECKPOINT_MS while it goes. */
#include "base/clk.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/mem.h"
#include "result_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { CHECKPOINT_MS = 200 };

void result_file_init(struct result_file *r, const char *result_file)
{
    *r = (struct result_file){.result_file = xstrdup(result_file), .rejects_fd = -1, .added = -1};
}

void result_file_fini(struct result_file *r)
{
    if (r->rejects_fd >= 0)
        close(r->rejects_fd);
    free(r->result_file);
    *r = (struct result_file){.rejects_fd = -1};
}

int result_file_write(struct result_file *r, const char *reason, const char *error)
{
    if (!r->result_file)
        return 0;
    AUTO_BUF struct buf b = {0};
    AUTO_FREE char *tmp = xasprintf("%s.tmp", r->result_file);
    json_begin(&b, NULL, '{');
    json_i64_or_null(&b, "rows_parsed", r->parsed_unknown ? -1 : r->parsed);
    json_i64(&b, "rows_loaded", r->loaded);
    json_i64(&b, "rows_rejected", r->rejected);
    json_i64(&b, "rows_repaired", r->repaired);
    json_i64_or_null(&b, "rows_added", r->added);
    json_i64(&b, "bytes", r->bytes);
    json_i64(&b, "checkpoint", r->checkpoint);
    json_str(&b, "rejects_file", r->rejects_fd >= 0 ? RESULT_REJECTS : NULL);
    json_str(&b, "reason", reason);
    json_str(&b, "error", error);
    if (r->quality)
        json_raw(&b, "quality", r->quality);
    json_end(&b, '}');
    AUTO_FD int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int n = fd < 0 ? -errno : fd_write_all(fd, b.p, b.n);
    if (n == 0 && rename(tmp, r->result_file) < 0)
        n = -errno;
    r->written_at_ms = clk_now_ms();
    return n;
}

int result_file_tick(struct result_file *r)
{
    if (clk_now_ms() - r->written_at_ms < CHECKPOINT_MS)
        return 0;
    crash_at(CRASH_load_checkpoint);
    return result_file_write(r, NULL, NULL);
}
