/* Reading the audit log: as a chain, and as records. */
#include "audit_parts.h"

#include "base/fd.h"
#include "base/json.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>

/* The log as it is between two appends. */
struct whole {
    struct audit_list old;
    FILE *log; /* NULL: there is none */
    int64_t bytes;
    struct audit_head head;
    int head_code;
};

static void whole_close(struct whole *w)
{
    audit_list_fini(&w->old);
    if (w->log)
        fclose(w->log);
}

static int whole_open(int dirfd, struct whole *w, struct err *e)
{
    struct stat st;
    AUTO_FD int fd = -1;
    *w = (struct whole){.head.hash = AUDIT_ZEROS};
    int r = audit_open(dirfd, O_RDONLY, LOCK_SH, &fd, e);
    if (r == -ENOENT)
        r = 0;
    if (r == 0 && fd >= 0 && fstat(fd, &st) < 0)
        r = err_sys(e, -errno, "cannot read " AUDIT_LOG);
    if (r == 0)
        r = audit_list(dirfd, fd < 0 ? NULL : &st, &w->old, e);
    if (r < 0)
        return r;
    w->head_code = audit_head_read(dirfd, &w->head, e);
    if (w->head_code < 0 && w->head_code != -ENOENT && w->head_code != ERR_FORMAT)
        return w->head_code;
    if (fd < 0)
        return 0;
    w->bytes = st.st_size;
    if (flock(fd, LOCK_UN) < 0 || !(w->log = fdopen(fd, "r")))
        return err_sys(e, -errno, "cannot read " AUDIT_LOG);
    fd_take(&fd);
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

/* in: the file that was read last. */
static int judge_file(const struct audit_chain *c, const char *in, struct err *e)
{
    if (*c->why)
        return err_set(e, ERR_FORMAT, "%s: %s", in, c->why);
    if (c->n_cut > AUDIT_CUT_MAX || (c->n_cut && !c->open)) /* what is cut short at the very end is closed off by the next record */
        return err_set(e, ERR_FORMAT, "%s: what stands behind record %" PRId64 " is no record", in, c->last.seq);
    return 0;
}

static int judge(const struct audit_chain *c, const struct look *l, int head_code, struct err *e)
{
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

static int read_whole(int dirfd, const struct whole *w, struct audit_chain *c, struct look *l, struct err *e)
{
    char name[AUDIT_NAME_SIZE];
    int r = 0;
    for (size_t i = 0; r == 0 && i < w->old.n; i++) {
        FILE *f;
        r = audit_open_old(dirfd, w->old.last[i], name, &f, e);
        if (r < 0)
            return r;
        r = audit_chain_read(c, f, INT64_MAX, look, l);
        fclose(f);
        r = r < 0 ? err_sys(e, r, "cannot read %s", name) : judge_file(c, name, e);
    }
    if (r == 0 && w->log && (r = audit_chain_read(c, w->log, w->bytes, look, l)) < 0)
        return err_sys(e, r, "cannot read " AUDIT_LOG);
    return r < 0 ? r : judge_file(c, AUDIT_LOG, e);
}

int audit_verify(int dirfd, int64_t *ret_first, int64_t *ret_last, struct err *e)
{
    static const struct audit_head none = {.hash = AUDIT_ZEROS};
    struct audit_chain c;
    struct whole w;
    struct look l = {&w.head, false};
    struct err why = {0};
    audit_chain_init(&c, &none);
    int r = whole_open(dirfd, &w, &why);
    if (r == 0)
        r = read_whole(dirfd, &w, &c, &l, &why);
    whole_close(&w);
    if (r < 0)
        return err_set(e, r, "%s", why.msg);
    r = judge(&c, &l, w.head_code, e);
    if (r < 0)
        return r;
    *ret_first = c.first ? c.first : 1;
    *ret_last = c.last.seq;
    return 0;
}

/* ---- as records ---- */

static int each_of(FILE *f, audit_each_fn each, void *arg, int64_t *n_skipped)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    int r = 0;
    while (r == 0 && (n = getline(&line, &room, f)) > 0) {
        AUTO_BSON bson_t *doc = line[n - 1] == '\n' ? json_parse(line, (size_t)n - 1, NULL) : NULL;
        if (doc)
            r = each(arg, doc, line, (size_t)n - 1);
        else
            ++*n_skipped;
    }
    free(line);
    return r == 0 && ferror(f) ? -EIO : r;
}

int audit_each(int dirfd, audit_each_fn each, void *arg, int64_t *ret_n_skipped, struct err *e)
{
    char name[AUDIT_NAME_SIZE] = AUDIT_LOG;
    struct whole w;
    struct err head = {0};
    *ret_n_skipped = 0;
    int r = whole_open(dirfd, &w, &head);
    if (r < 0)
        err_set(e, r, "%s", head.msg);
    for (size_t i = 0; r == 0 && i < w.old.n; i++) {
        FILE *f;
        if ((r = audit_open_old(dirfd, w.old.last[i], name, &f, e)) < 0)
            break;
        if ((r = each_of(f, each, arg, ret_n_skipped)) < 0)
            err_sys(e, r, "cannot read %s", name);
        fclose(f);
    }
    if (r == 0 && w.log && (r = each_of(w.log, each, arg, ret_n_skipped)) < 0)
        err_sys(e, r, "cannot read " AUDIT_LOG);
    whole_close(&w);
    return r;
}
