/* Reading the audit log: as a chain, and as records. */
#include "audit_parts.h"

#include "base/fd.h"
#include "base/json.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>

/* The log as it is between two appends: how many bytes of it, and which head. *ret NULL: there is none. */
static int open_settled(int dirfd, FILE **ret, int64_t *ret_bytes, struct audit_head *ret_head, int *ret_head_code, struct err *e)
{
    struct stat st;
    AUTO_FD int fd = openat(dirfd, AUDIT_LOG, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    *ret = NULL;
    *ret_bytes = 0;
    if (fd < 0 && errno != ENOENT)
        return err_sys(e, -errno, "cannot open " AUDIT_LOG);
    while (fd >= 0 && flock(fd, LOCK_SH) < 0)
        if (errno != EINTR)
            return err_sys(e, -errno, "cannot lock " AUDIT_LOG);
    *ret_head_code = audit_head_read(dirfd, ret_head, e);
    if (fd < 0)
        return 0;
    if (fstat(fd, &st) < 0 || flock(fd, LOCK_UN) < 0 || !(*ret = fdopen(fd, "r")))
        return err_sys(e, -errno, "cannot read " AUDIT_LOG);
    fd_take(&fd);
    *ret_bytes = st.st_size;
    return 0;
}

struct look {
    const struct audit_head *head;
    bool is_other; /* the record of the head's number has another hash */
};

static int look(void *arg, const struct audit_chain *c)
{
    struct look *l = arg;
    if (c->last.seq == l->head->seq)
        l->is_other = strcmp(c->last.hash, l->head->hash) != 0;
    return 0;
}

static int judge(const struct audit_chain *c, const struct look *l, int head_code, struct err *e)
{
    if (*c->why)
        return err_set(e, ERR_FORMAT, AUDIT_LOG ": %s", c->why);
    if (c->n_cut > AUDIT_CUT_MAX || (c->n_cut && !c->open)) /* what is cut short at the very end is closed off by the next record */
        return err_set(e, ERR_FORMAT, AUDIT_LOG ": what stands behind record %" PRId64 " is no record", c->last.seq);
    if (c->head_lost_at)
        return err_set(e, ERR_FORMAT,
                       "record %" PRId64 " says that " AUDIT_HEAD " was gone: whether others were before it cannot be told",
                       c->head_lost_at);
    if (head_code == ERR_FORMAT || (head_code < 0 && c->last.seq > 0))
        return err_set(e, ERR_FORMAT, AUDIT_HEAD " is %s: whether the last records are there cannot be told",
                       head_code == ERR_FORMAT ? "damaged" : "gone");
    if (c->last.seq < l->head->seq)
        return err_set(e, ERR_FORMAT, AUDIT_LOG " ends with record %" PRId64 ": %" PRId64 " behind it are missing", c->last.seq,
                       l->head->seq - c->last.seq);
    if (l->is_other)
        return err_set(e, ERR_FORMAT, AUDIT_LOG ": record %" PRId64 " is another one than was written", l->head->seq);
    return 0;
}

int audit_verify(int dirfd, int64_t *ret_n, struct err *e)
{
    FILE *f;
    int64_t bytes;
    int head_code = 0;
    struct audit_head head = {.hash = AUDIT_ZEROS};
    const struct audit_head none = head;
    struct audit_chain c;
    struct look l = {&head, false};
    struct err why = {0};
    int r = open_settled(dirfd, &f, &bytes, &head, &head_code, &why);
    if (r == 0 && head_code < 0 && head_code != -ENOENT && head_code != ERR_FORMAT)
        r = head_code;
    audit_chain_init(&c, &none);
    if (r == 0 && f && (r = audit_chain_read(&c, f, bytes, look, &l)) < 0)
        err_sys(&why, r, "cannot read " AUDIT_LOG);
    if (f)
        fclose(f);
    if (r < 0)
        return err_set(e, r, "%s", why.msg);
    r = judge(&c, &l, head_code, e);
    if (r == 0)
        *ret_n = c.last.seq;
    return r;
}

int audit_each(int dirfd, audit_each_fn each, void *arg, int64_t *ret_n_skipped, struct err *e)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    int r = 0;
    *ret_n_skipped = 0;
    AUTO_FD int fd = openat(dirfd, AUDIT_LOG, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : err_sys(e, -errno, "cannot open " AUDIT_LOG);
    FILE *f = fdopen(fd, "r");
    if (!f)
        return err_sys(e, -errno, "cannot read " AUDIT_LOG);
    fd_take(&fd);
    while (r == 0 && (n = getline(&line, &room, f)) > 0) {
        AUTO_BSON bson_t *doc = line[n - 1] == '\n' ? json_parse(line, (size_t)n - 1, NULL) : NULL;
        if (doc)
            r = each(arg, doc, line, (size_t)n - 1);
        else
            ++*ret_n_skipped;
    }
    if (r == 0 && ferror(f))
        r = err_sys(e, -EIO, "cannot read " AUDIT_LOG);
    fclose(f);
    free(line);
    return r;
}
