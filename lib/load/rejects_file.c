/* rejects.jsonl, beside the result file: the rows that were not stored, or that were repaired (result_file.h). */
#include "result_file.h"

#include "base/fd.h"
#include "base/mem.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

enum { REJECTS_MAX_BYTES = 16 << 20, RAW_SHOWN = 1024 };

static void open_rejects(struct result_file *r)
{
    const char *slash = strrchr(r->result_file, '/');
    AUTO_FREE char *path = xasprintf("%.*s%s", slash ? (int)(slash - r->result_file + 1) : 0, r->result_file, RESULT_REJECTS);
    r->rejects_fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
}

static void list(struct result_file *r, const struct result_row *row, bool repaired)
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

void result_file_reject(struct result_file *r, const struct result_row *row)
{
    r->rejected++;
    list(r, row, false);
}

void result_file_repair(struct result_file *r, const struct result_row *row)
{
    r->repaired++;
    list(r, row, true);
}

void result_file_header_repair(struct result_file *r, const struct result_row *row)
{
    list(r, row, true);
}
