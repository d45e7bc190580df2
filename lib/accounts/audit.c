/* logs/audit.jsonl as audit.h says, and state/audit.head: one line that is overwritten behind each record,
 *   <seq, 20 digits> <hash, 64 hex digits> <bytes of the log, 20 digits>\n
 *
 * Who adds has a lock on the log (flock). The record is written in one piece and synced, then the head is, which is not synced: it
 * is never ahead of the log. What may be found by who comes next:
 *   - the head is behind: its writer was killed between the two, or state/ is of a backup. The records that fit are taken over.
 *   - bytes that are no record follow: a writer was killed while it wrote. They stay, an end of line is put behind them, and a
 * record audit_cut says how many there are and what their hash is.
 *   - the log is shorter than the head says: its end was removed. The next record goes on from the head, so that verification finds
 * the gap for all time.
 *   - there is a log and no head: the head was removed. All of the log is read, and a record audit_head says that it was so.
 *   - the head is of a file that was put aside (audit_files.c): the log goes on from it.
 * To begin a new log after damage, move all these files away (docs/operations.md). */
#include "audit_parts.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

enum { HEAD_BYTES = 20 + 1 + 64 + 1 + 20 + 1 };

static const struct audit_head none = {.hash = AUDIT_ZEROS};

/* ---- the head ---- */

static void head_text(const struct audit_head *h, char out[HEAD_BYTES + 1])
{
    snprintf(out, HEAD_BYTES + 1, "%020" PRId64 " %s %020" PRId64 "\n", h->seq, h->hash, h->bytes);
}

int audit_head_read(int dirfd, struct audit_head *ret, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    struct audit_head h = {0};
    int n = 0, r = fd_read_file(dirfd, AUDIT_HEAD, &b, 4096, e);
    if (r < 0)
        return r;
    if (b.n != HEAD_BYTES || sscanf(b.p, "%20" SCNd64 " %64[0-9a-f] %20" SCNd64 "%n", &h.seq, h.hash, &h.bytes, &n) != 3 ||
        n != HEAD_BYTES - 1 || strlen(h.hash) != AUDIT_HASH_SIZE - 1 || h.seq < 0 || h.bytes < 0)
        return err_set(e, ERR_FORMAT, AUDIT_HEAD " is damaged");
    *ret = h;
    return 0;
}

int audit_head(int dirfd, int64_t *ret_seq, char ret_hash[AUDIT_HASH_SIZE], struct err *e)
{
    struct audit_head h = none;
    int r = audit_head_read(dirfd, &h, e);
    if (r < 0 && r != -ENOENT)
        return r;
    *ret_seq = h.seq;
    memcpy(ret_hash, h.hash, AUDIT_HASH_SIZE);
    return 0;
}

/* The first one is durable before there is a record: a log without a head is one whose head was removed. */
static int head_write(int dirfd, const struct audit_head *h, struct err *e)
{
    char text[HEAD_BYTES + 1];
    head_text(h, text);
    AUTO_FD int fd = openat(dirfd, AUDIT_HEAD, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return fd_write_file(dirfd, AUDIT_HEAD, text, HEAD_BYTES, 0600, e);
    ssize_t n = fd < 0 ? -1 : pwrite(fd, text, HEAD_BYTES, 0);
    return n == HEAD_BYTES ? 0 : err_sys(e, n < 0 ? -errno : -EIO, "cannot write " AUDIT_HEAD);
}

/* ---- a record ---- */

static void add_text(struct buf *b, const char *key, const char *text)
{
    if (text)
        json_strn(b, key, text, strnlen(text, AUDIT_FIELD_MAX));
    else
        json_null(b, key);
}

static void record_text(const struct audit_record *r, struct audit_head *head, struct buf *out)
{
    const size_t start = out->n;
    json_begin(out, NULL, '{');
    json_i64(out, "seq", ++head->seq);
    json_time(out, "ts", clk_wall_ms());
    add_text(out, "who", r->who);
    add_text(out, "from", r->from);
    add_text(out, "what", r->what);
    add_text(out, "tenant_id", r->tenant);
    add_text(out, "subject", r->subject);
    add_text(out, "outcome", r->outcome);
    json_str(out, "prev", head->hash);
    audit_hash(out->p + start, out->n - start, head->hash);
    json_str(out, "hash", head->hash);
    json_end(out, '}');
    buf_add(out, "\n", 1);
}

/* Appends text that ends with the record that the new head is of. A write that fails half-way is undone, so that the log has no cut
 * for it. */
static int append(int fd, int dirfd, const struct buf *text, struct audit_head *head, struct err *e)
{
    const off_t before = lseek(fd, 0, SEEK_END);
    int r = before < 0 ? -errno : fd_write_all(fd, text->p, text->n);
    if (r == 0 && fdatasync(fd) < 0)
        r = -errno;
    if (r < 0) {
        if (before >= 0 && ftruncate(fd, before) < 0)
            log_debug("audit", NULL, NULL, "half a record stays, and is closed off by the next one");
        return err_sys(e, r, "cannot write " AUDIT_LOG);
    }
    head->bytes = before + (off_t)text->n;
    return head_write(dirfd, head, e);
}

static int append_record(int fd, int dirfd, const struct audit_record *r, struct audit_head *head, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    record_text(r, head, &b);
    return append(fd, dirfd, &b, head, e);
}

/* ---- what is found ---- */

static int close_cut(int fd, int dirfd, struct audit_chain *c, struct err *e)
{
    char subject[AUDIT_FIELD_MAX];
    AUTO_BUF struct buf b = {0};
    if (c->open) {
        buf_add(&b, "\n", 1);
        audit_chain_line(c, "\n", 1);
    }
    audit_cut_subject(c, subject);
    const struct audit_record r = {"mysimbdp", "local", "audit_cut", NULL, subject, "cut_short"};
    record_text(&r, &c->last, &b);
    return append(fd, dirfd, &b, &c->last, e);
}

/* Takes over what follows the head; what does not fit is closed off. */
static int catch_up(int fd, int dirfd, int64_t size, struct audit_head *head, struct err *e)
{
    struct audit_chain c;
    int copy = dup(fd);
    FILE *f = copy < 0 ? NULL : fdopen(copy, "r");
    if (!f || fseeko(f, head->bytes, SEEK_SET) < 0) {
        int r = err_sys(e, -errno, "cannot read " AUDIT_LOG);
        if (f)
            fclose(f);
        else if (copy >= 0)
            close(copy);
        return r;
    }
    audit_chain_init(&c, head);
    int r = audit_chain_read(&c, f, size - head->bytes, NULL, NULL);
    fclose(f);
    if (r < 0)
        return err_sys(e, r, "cannot read " AUDIT_LOG);
    if (c.lacks_end) {
        r = fd_write_all(fd, "\n", 1);
        return r < 0 ? err_sys(e, r, "cannot write " AUDIT_LOG) : catch_up(fd, dirfd, size + 1, head, e);
    }
    if (c.n_cut)
        r = close_cut(fd, dirfd, &c, e);
    *head = c.last;
    return r;
}

/* The log ends before where the head says. Behind a piece of a line the next record begins a line of its own. */
static int go_on_after_loss(int fd, int64_t size, struct audit_head *head, struct err *e)
{
    char last = '\n';
    log_error("audit", NULL, NULL, "the end of " AUDIT_LOG " is missing: it has %" PRId64 " of %" PRId64 " bytes", size,
              head->bytes);
    if (size && pread(fd, &last, 1, size - 1) != 1)
        return err_sys(e, -EIO, "cannot read " AUDIT_LOG);
    int r = last == '\n' ? 0 : fd_write_all(fd, "\n", 1);
    head->bytes = size + (last != '\n');
    return r < 0 ? err_sys(e, r, "cannot write " AUDIT_LOG) : 0;
}

/* Brings *head to the end of the log. */
static int settle(int fd, int dirfd, struct audit_head *head, struct err *e)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_sys(e, -errno, "cannot read " AUDIT_LOG);
    int r = audit_head_read(dirfd, head, e);
    bool lost = r == ERR_FORMAT || (r == -ENOENT && st.st_size > 0);
    if (r == -ENOENT || lost) {
        *head = none;
        r = lost ? 0 : head_write(dirfd, head, e);
    }
    if (r == 0 && st.st_size < head->bytes && audit_was_put_aside(dirfd, head))
        head->bytes = 0;
    if (r == 0 && st.st_size > head->bytes)
        r = catch_up(fd, dirfd, st.st_size, head, e);
    else if (r == 0 && st.st_size < head->bytes)
        r = go_on_after_loss(fd, st.st_size, head, e);
    if (r == 0 && lost)
        r = append_record(fd, dirfd, &(struct audit_record){"mysimbdp", "local", "audit_head", NULL, NULL, "lost"}, head, e);
    return r;
}

/* ---- the file ---- */

/* A log that is long is put aside. Where that fails, it grows on, and the next record tries again. */
static void begin_anew(int *fd, int dirfd, struct audit_head *head)
{
    AUTO_BUF struct buf first = {0};
    struct audit_head next = *head;
    struct err e = {0};
    int new_fd = -1;
    record_text(&(struct audit_record){"mysimbdp", "local", "audit_begin", NULL, NULL, "ok"}, &next, &first);
    next.bytes = (int64_t)first.n;
    if (audit_put_aside(dirfd, *fd, head->seq, &first, &new_fd, &e) < 0) {
        log_error("audit", NULL, NULL, "%s", e.msg);
        return;
    }
    close(*fd);
    *fd = new_fd;
    *head = next;
    if (head_write(dirfd, head, &e) < 0) /* the next record finds it out */
        log_error("audit", NULL, NULL, "%s", e.msg);
}

int audit_add(int dirfd, const struct audit_record *record, struct err *e)
{
    struct audit_head head;
    AUTO_FD int fd = -1;
    if (!strncmp(record->what, "audit_", sizeof "audit_" - 1))
        return err_set(e, -EINVAL, "%s is for the log's own records", record->what);
    int r = audit_open(dirfd, O_RDWR | O_CREAT | O_APPEND, LOCK_EX, &fd, e);
    if (r == 0)
        r = settle(fd, dirfd, &head, e);
    if (r == 0 && head.bytes >= audit_file_max)
        begin_anew(&fd, dirfd, &head);
    return r < 0 ? r : append_record(fd, dirfd, record, &head, e);
}
