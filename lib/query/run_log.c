/* What a run printed: runs/<run_id>/log.1 (the older half) and log, then those of the loading step, one behind the other.
 *
 * Who follows a log says where the last answer ended: in which file, by its inode and time of birth, and at which byte of it. The
 * runner renames `log` to `log.1` when it is full (programs/runner/capture.c), so the place is found again in either; when both are
 * gone, what was between is lost, and the answer says `cut`. */
#include "parts.h"

#include "base/beneath.h"
#include "base/fd.h"
#include "base/mem.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { MAX_BYTES = 256 << 10, DEFAULT_TAIL = 64 << 10, MAX_POSITION = 48, N_PARTS = 4 };

struct part {
    int fd; /* -1: it is not there */
    uint64_t identity;
    int64_t bytes;
};

struct place {
    uint64_t identity;
    int64_t offset;
};

struct run_log {
    struct part parts[N_PARTS]; /* from the oldest to the newest */
    int64_t bytes;              /* of all */
};

static struct part open_part(const struct asking *a, const char *run, const char *name)
{
    AUTO_FREE char *path = xasprintf("runs/%s/%s", run, name);
    AUTO_FD int fd = beneath_open(a->home->dirfd, path, O_RDONLY | O_NONBLOCK, 0);
    struct statx st;
    if (fd < 0 || statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &st) < 0 || !S_ISREG(st.stx_mode) ||
        st.stx_nlink != 1)
        return (struct part){-1, 0, 0};
    return (struct part){fd_take(&fd), identity_of_file(&st), (int64_t)st.stx_size};
}

/* The newer half first: if the runner renames it meanwhile, it is there twice and not missing. */
static void open_log(const struct asking *a, const char *run, struct run_log *l)
{
    static const char *const names[N_PARTS] = {"log.1", "log", "load/log.1", "load/log"};
    for (int i = N_PARTS - 1; i >= 0; i--)
        l->parts[i] = open_part(a, run, names[i]);
    for (int i = 0; i < N_PARTS; i += 2)
        if (l->parts[i].fd >= 0 && l->parts[i].identity == l->parts[i + 1].identity)
            close(fd_take(&l->parts[i].fd));
    for (int i = 0; i < N_PARTS; i++)
        l->bytes += l->parts[i].fd >= 0 ? l->parts[i].bytes : 0;
}

static void close_log(struct run_log *l)
{
    for (int i = 0; i < N_PARTS; i++)
        fd_cleanup(&l->parts[i].fd);
}

/* How many bytes lie before that place; -1: it is gone. */
static int64_t bytes_before(const struct run_log *l, const struct place *p)
{
    int64_t before = 0;
    for (int i = 0; i < N_PARTS; i++) {
        const struct part *part = &l->parts[i];
        if (part->fd >= 0 && part->identity == p->identity)
            return p->offset <= part->bytes ? before + p->offset : -1;
        before += part->fd >= 0 ? part->bytes : 0;
    }
    return -1;
}

/* Appends `n` bytes from `skip` on; *ret_end is where that ended. */
static int read_log(const struct run_log *l, int64_t skip, int64_t n, struct buf *out, struct place *ret_end)
{
    for (int i = 0; i < N_PARTS; i++) {
        const struct part *part = &l->parts[i];
        if (part->fd < 0)
            continue;
        int64_t at = skip < part->bytes ? skip : part->bytes;
        skip -= at;
        while (n && at < part->bytes) {
            int64_t want = part->bytes - at < n ? part->bytes - at : n;
            buf_reserve(out, (size_t)want);
            ssize_t got = pread(part->fd, out->p + out->n, (size_t)want, at);
            if (got <= 0)
                return -1;
            out->n += (size_t)got;
            at += got;
            n -= got;
        }
        *ret_end = (struct place){part->identity, at};
        if (!n && at < part->bytes)
            break;
    }
    return 0;
}

/* How many bytes at the end are the beginning of a character of which the rest is still to come. */
static size_t unfinished(const struct buf *b)
{
    for (size_t n = 1; n <= 3 && n <= b->n; n++) {
        unsigned char c = (unsigned char)b->p[b->n - n];
        if ((c & 0xc0) == 0x80)
            continue;
        size_t want = c >= 0xf0 && c <= 0xf4 ? 4 : c >= 0xe0 ? 3 : c >= 0xc2 ? 2 : 1;
        return want > n ? n : 0;
    }
    return 0;
}

static int parse_position(struct asking *a, const char *text, struct place *ret)
{
    int n = 0;
    if (strspn(text, "0123456789abcdef-") == strlen(text) &&
        sscanf(text, "%16" SCNx64 "-%16" SCNx64 "%n", &ret->identity, (uint64_t *)&ret->offset, &n) == 2 && !text[n] &&
        ret->offset >= 0)
        return 0;
    return refuse(a, 400, "parameter", "from: is no position");
}

/* Where reading begins; *ret_cut: something before that is not shown. */
static int64_t begin_at(const struct run_log *l, const struct place *from, int64_t tail, bool *ret_cut)
{
    bool from_the_first = from && !from->identity; /* there was nothing yet */
    int64_t skip = from_the_first ? 0 : from ? bytes_before(l, from) : l->bytes > tail ? l->bytes - tail : 0;
    *ret_cut = from ? skip < 0 : skip > 0;
    return skip < 0 ? 0 : skip;
}

static int show(struct asking *a, const char *run, const struct place *from, int64_t tail, int64_t most, bool ended)
{
    struct run_log l = {0};
    struct place end = from ? *from : (struct place){0};
    struct buf *b = &a->out->body;
    bool cut;
    open_log(a, run, &l);
    int64_t skip = begin_at(&l, from, tail, &cut), rest = l.bytes - skip;
    int64_t n = rest < most ? rest : most;
    buf_add(b, "", 0);
    int r = read_log(&l, skip, n, b, &end);
    close_log(&l);
    if (r < 0)
        return refuse(a, 503, "busy", "it is being written");
    ended = ended && n == rest;
    if (!ended) { /* the rest of a character comes with the next answer */
        size_t more = unfinished(b);
        b->n -= more;
        end.offset -= (int64_t)more;
    }
    while (cut && !from && b->n && (b->p[0] & 0xc0) == 0x80)
        buf_consume(b, 1);
    a->out->type = "text/plain";
    AUTO_FREE char *position = xasprintf("%" PRIx64 "-%" PRIx64, end.identity, (uint64_t)end.offset);
    json_str(&a->out->head, "position", position);
    json_bool(&a->out->head, "cut", cut);
    json_bool(&a->out->head, "ended", ended);
    json_bool(&a->out->head, "more", n < rest);
    return 0;
}

int ask_log(struct asking *a)
{
    bool ended, pruned;
    const char *run, *from;
    struct place place;
    int64_t tail, most;
    int r = param_count(a, "tail", 1, MAX_BYTES, DEFAULT_TAIL, &tail);
    if (r == 0)
        r = param_count(a, "most", 1, MAX_BYTES, MAX_BYTES, &most);
    if (r == 0)
        r = param_text(a, "from", MAX_POSITION, &from);
    if (r == 0 && from)
        r = parse_position(a, from, &place);
    if (r == 0)
        r = param_id(a, "run_id", &run);
    if (r == 0)
        r = run_is_seen(a, run, &ended, &pruned);
    if (r < 0)
        return r;
    if (pruned)
        return refuse(a, 410, "not_kept", "logs are kept for retention.logs_days");
    return show(a, run, from ? &place : NULL, tail, most, ended);
}
