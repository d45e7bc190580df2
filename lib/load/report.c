#include "report.h"
#include "base/clk.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { CHECKPOINT_MS = 200, REJECTS_MAX_BYTES = 16 << 20, RAW_SHOWN = 1024 };
static const char rejects_name[] = "rejects.jsonl";

void report_init(struct report *r, const char *result_file)
{
    *r = (struct report){.result_file = xstrdup(result_file), .rejects_fd = -1, .added = -1};
}

void report_fini(struct report *r)
{
    if (r->rejects_fd >= 0)
        close(r->rejects_fd);
    free(r->result_file);
    *r = (struct report){.rejects_fd = -1};
}

static void open_rejects(struct report *r)
{
    const char *slash = strrchr(r->result_file, '/');
    AUTO_FREE char *path = xasprintf("%.*s%s", slash ? (int)(slash - r->result_file + 1) : 0, r->result_file, rejects_name);
    r->rejects_fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
}

static void list(struct report *r, const struct report_row *row, bool repaired)
{
    AUTO_BUF struct buf b = {0};
    AUTO_FREE char *named = r->input ? xasprintf("%s: %s", r->input, row->message) : NULL;
    int64_t max = repaired ? REJECTS_MAX_BYTES / 2 : REJECTS_MAX_BYTES;
    if (!r->result_file || r->rejects_bytes > max)
        return;
    json_begin(&b, NULL, '{');
    json_i64(&b, "line", row->line);
    json_i64(&b, "byte_offset", row->offset);
    if (row->column > 0)
        json_i64(&b, "column", row->column);
    else
        json_null(&b, "column");
    json_str(&b, "type", row->type);
    json_str(&b, "message", named ? named : row->message);
    if (row->raw)
        json_strn(&b, "raw", row->raw, row->n_raw > RAW_SHOWN ? RAW_SHOWN : row->n_raw);
    else
        json_null(&b, "raw");
    if (repaired)
        json_str(&b, "repaired", row->rule);
    json_end(&b, '}');
    buf_adds(&b, "\n");
    if (r->rejects_fd < 0)
        open_rejects(r);
    if (repaired && r->rejects_bytes + (int64_t)b.n > max)
        return;
    r->rejects_bytes += (int64_t)b.n;
    if (r->rejects_fd >= 0 && r->rejects_bytes <= max)
        fd_write_all(r->rejects_fd, b.p, b.n);
}

void report_reject(struct report *r, const struct report_row *row)
{
    r->rejected++;
    list(r, row, false);
}

void report_repair(struct report *r, const struct report_row *row)
{
    r->repaired++;
    list(r, row, true);
}

void report_header_repair(struct report *r, const struct report_row *row)
{
    list(r, row, true);
}

int report_write(struct report *r, const char *reason, const char *error)
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
    json_str(&b, "rejects_file", r->rejects_fd >= 0 ? rejects_name : NULL);
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

int report_tick(struct report *r)
{
    if (clk_now_ms() - r->written_at_ms < CHECKPOINT_MS)
        return 0;
    crash_at(CRASH_load_checkpoint);
    return report_write(r, NULL, NULL);
}
