#include "constraints.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static void refuse(struct inspect_reply *re, const char *reason, const char *detail)
{
    re->status = INSPECT_REFUSED;
    snprintf(re->reason, sizeof re->reason, "%s", reason);
    snprintf(re->detail, sizeof re->detail, "%s", detail);
}

bool constraints_hold(const struct inspect_request *rq, struct inspect_reply *re, const struct record *rec)
{
    char detail[200];
    if (rq->max_rows >= 0 && re->rows > rq->max_rows) {
        snprintf(detail, sizeof detail, "more than %lld rows", (long long)rq->max_rows);
        refuse(re, "max_rows", detail);
    } else if (rec->too_long) {
        snprintf(detail, sizeof detail, "the row at line %lld is longer than %lld bytes", (long long)rec->line,
                 (long long)(rq->max_row_bytes < 0 ? SPEC_MAX_ROW_BYTES : rq->max_row_bytes));
        refuse(re, "max_row_bytes", detail);
    } else if (rq->max_columns >= 0 && re->columns > rq->max_columns) {
        snprintf(detail, sizeof detail, "%lld columns; %lld are allowed", (long long)re->columns, (long long)rq->max_columns);
        refuse(re, "max_columns", detail);
    } else if (rq->max_rejects >= 0 && re->rejects > rq->max_rejects) {
        snprintf(detail, sizeof detail, "more than %lld damaged rows; the last at line %lld: %s", (long long)rq->max_rejects,
                 (long long)rec->line, rec->reject ? rec->reject : "");
        refuse(re, "max_rejects", detail);
    } else {
        return true;
    }
    return false;
}

bool constraints_reject_share(const struct inspect_request *rq, struct inspect_reply *re)
{
    char detail[200];
    if (!reader_rejects_exceed(re->rejects, re->rows, rq->max_reject_pct))
        return true;
    snprintf(detail, sizeof detail, "%lld of %lld rows are damaged; max_reject_pct is %g", (long long)re->rejects,
             (long long)re->rows, rq->max_reject_pct);
    refuse(re, "max_reject_pct", detail);
    return false;
}

/* Bytes that the file takes on the disk. When these are not `enough`, the file's data are counted as well (SEEK_DATA): some file
 * systems account for blocks late. */
static int64_t on_disk(int fd, const struct stat *st, int64_t enough)
{
    int64_t n = (int64_t)st->st_blocks * 512;
    off_t at = 0, end;
    if (n >= enough)
        return n;
    for (n = 0; n < enough && (at = lseek(fd, at, SEEK_DATA)) >= 0 && (end = lseek(fd, at, SEEK_HOLE)) > at; at = end)
        n += end - at;
    return n;
}

bool constraints_expansion(int fd, const struct inspect_request *rq, struct inspect_reply *re, int64_t *ret_max)
{
    struct stat st;
    *ret_max = rq->max_decompressed_bytes;
    if (fstat(fd, &st) < 0)
        return true;
    int64_t times = rq->max_expansion > 0 ? rq->max_expansion : 1;
    int64_t disk = on_disk(fd, &st, st.st_size / times + 1), most = disk > INT64_MAX / times ? INT64_MAX : disk * times;
    if (most < INSPECT_FREE_BYTES)
        most = INSPECT_FREE_BYTES;
    if (st.st_size > most) {
        refuse(re, "max_expansion", "it has holes: far fewer bytes are on the disk than it has when it is read");
        return false;
    }
    if (most < *ret_max)
        *ret_max = most;
    return true;
}

void constraints_refuse_bytes(const struct inspect_request *rq, struct inspect_reply *re, int64_t max, const char *what)
{
    char detail[200];
    snprintf(detail, sizeof detail,
             "it has more than %lld bytes decompressed, which is 256 MiB and more than %lld times those on the disk",
             (long long)max, (long long)rq->max_expansion);
    if (max < rq->max_decompressed_bytes)
        refuse(re, "max_expansion", detail);
    else
        refuse(re, "max_decompressed_bytes", what);
}
