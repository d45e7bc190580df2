/* Loads a tenant's streams from a file (moves.h) that may come from anybody. Each record is checked as a whole before it is written
 * to the log and applied as at a start: what it says has to be in order, within the stream's sequences, and to cost no more than
 * its bytes do. A subscription's slots are the one thing that few bytes could make many of: there may be as many as messages that
 * came with it, and MAX_EXTRA more, for sequences that are lost.
 *
 * Which numbers publishers have used is told by REC_PUBLISHERS alone: that messages tell it again is left out. */
#include "moves_parts.h"

#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    READ_BYTES = 256 << 10,
    MAX_RECORD = SEGLOG_MAX_RECORD - SEGLOG_HEADER + MOVES_HEADER - 256, /* its name is longer here */
    MAX_MESSAGES = 4096,                                                 /* of a record */
    MAX_PUBLISHERS = 10000,
    MAX_SEEN = 64,
    MAX_SUBS = 100, /* of a stream */
    MAX_EXTRA = 4 << 20,
    MAX_ID = 32,
    MAX_NAME = MAX_ID + 3 /* with the number of a partition */
};
#define MAX_SEQ (UINT64_C(1) << 62)

struct import {
    struct streams *all;
    char *tenant;
    int fd;
    struct buf in; /* read, and not loaded yet, from `at` on */
    size_t at;
    bool eof, begun, done;
    uint64_t record; /* number of the next one */
    uint32_t n_streams, n_subs;
    uint64_t n_extra;
    char last_name[MAX_NAME + 1];
    /* the stream that is under way; NULL: none */
    struct stream *st;
    int last_type; /* of its records */
    struct sub *sub;
    uint64_t n_messages, next_seq, extent; /* next_seq: that a message may have */
    uint32_t n_extent;
    unsigned char epoch[EPOCH_BYTES];
};

/* ---- what a record may say ---- */

static bool is_id(const char *p, size_t n)
{
    if (!n || n > MAX_ID || p[0] < 'a' || p[0] > 'z')
        return false;
    for (size_t i = 0; i < n; i++)
        if (!p[i] || !strchr("abcdefghijklmnopqrstuvwxyz0123456789_-", p[i]))
            return false;
    return true;
}

/* The name of a stream, or of a partition but the first: NAME#1 to NAME#63 (../parts.h). */
static bool is_stream_name(const char *p, size_t n)
{
    const char *hash = memchr(p, '#', n);
    const size_t id = hash ? (size_t)(hash - p) : n, digits = hash ? n - id - 1 : 0;
    if (!is_id(p, id) || (hash && (digits < 1 || digits > 2 || hash[1] == '0')))
        return false;
    for (size_t i = 0; i < digits; i++)
        if (hash[1 + i] < '0' || hash[1 + i] > '9')
            return false;
    return true;
}

/* One behind the other, from `from` to before `end`. */
static bool are_ranges(const unsigned char **p, size_t *n, uint32_t count, uint64_t from, uint64_t end)
{
    struct range r;
    while (count--) {
        if (!take_u64(p, n, &r.first) || !take_u64(p, n, &r.last) || r.first < from || r.last < r.first || r.last >= end)
            return false;
        from = r.last + 1;
    }
    return true;
}

static bool check_stream(struct import *m, const unsigned char *p, size_t n)
{
    uint32_t n_name;
    uint64_t next_seq;
    if (!take_u32(&p, &n, &n_name) || !take_u64(&p, &n, &next_seq) || n != EPOCH_BYTES + (size_t)n_name || !next_seq ||
        next_seq > MAX_SEQ || m->st || !is_stream_name((const char *)p + EPOCH_BYTES, n_name) || m->n_streams == MOVES_MAX_STREAMS)
        return false;
    char name[MAX_NAME + 1];
    snprintf(name, sizeof name, "%.*s", (int)n_name, (const char *)p + EPOCH_BYTES);
    if (strcmp(name, m->last_name) <= 0)
        return false;
    strcpy(m->last_name, name);
    memcpy(m->epoch, p, EPOCH_BYTES);
    return true;
}

static bool check_epochs(const struct import *m, const unsigned char *p, size_t n)
{
    uint32_t n_eras;
    uint64_t first, before = 0;
    if (!take_u32(&p, &n, &n_eras) || !n_eras || n != n_eras * (sizeof first + EPOCH_BYTES))
        return false;
    for (uint32_t i = 0; i < n_eras; i++, p += EPOCH_BYTES, n -= EPOCH_BYTES) {
        if (!take_u64(&p, &n, &first) || (i && first <= before) || first > m->st->next_seq ||
            (i + 1 == n_eras && memcmp(p, m->epoch, EPOCH_BYTES) != 0))
            return false;
        before = first;
    }
    return true;
}

static bool check_gaps(const struct import *m, const unsigned char *p, size_t n)
{
    uint32_t n_gaps;
    return take_u32(&p, &n, &n_gaps) && n == n_gaps * sizeof(struct range) && are_ranges(&p, &n, n_gaps, 1, m->st->next_seq);
}

/* p: the whole body. */
static bool check_messages(struct import *m, unsigned char *p, size_t n)
{
    struct messages_header h;
    if (n < sizeof h)
        return false;
    const uint32_t count = le_u32(p + offsetof(struct messages_header, n));
    const uint64_t first = le_u64(p + offsetof(struct messages_header, first));
    uint64_t bytes = sizeof h + (uint64_t)count * 4;
    if (!count || count > MAX_MESSAGES || bytes > n || first < m->next_seq || first > MAX_SEQ || first + count > m->st->next_seq)
        return false;
    for (uint32_t i = 0; i < count; i++)
        bytes += le_u32(p + sizeof h + (size_t)i * 4);
    if (bytes != n)
        return false;
    memset(p + offsetof(struct messages_header, publisher), 0, sizeof h.publisher + sizeof h.number);
    m->n_messages += count;
    m->next_seq = first + count;
    m->extent = first;
    m->n_extent = count;
    return true;
}

static bool check_traces(const struct import *m, const unsigned char *p, size_t n)
{
    uint32_t n_traces;
    uint64_t first;
    return m->last_type == REC_MESSAGES && take_u32(&p, &n, &n_traces) && take_u64(&p, &n, &first) && first == m->extent &&
           (n_traces == 1 || n_traces == m->n_extent) && n == (size_t)n_traces * MESSAGE_TRACE_BYTES;
}

static bool check_publishers(const unsigned char *p, size_t n)
{
    uint32_t n_publishers, n_seen, zero;
    uint64_t id, wall_ms;
    if (!take_u32(&p, &n, &n_publishers) || n_publishers > MAX_PUBLISHERS)
        return false;
    while (n_publishers--)
        if (!take_u64(&p, &n, &id) || !take_u64(&p, &n, &wall_ms) || !take_u32(&p, &n, &n_seen) || !take_u32(&p, &n, &zero) ||
            !id || n_seen > MAX_SEEN || !are_ranges(&p, &n, n_seen, 0, UINT64_MAX))
            return false;
    return !n;
}

static bool check_counts(const unsigned char **p, size_t *n, uint32_t count, uint64_t floor, uint64_t cursor)
{
    uint64_t seq, deliveries, from = floor;
    while (count--) {
        if (!take_u64(p, n, &seq) || !take_u64(p, n, &deliveries) || seq < from || seq >= cursor ||
            deliveries > MAX_DELIVERIES_COUNTED)
            return false;
        from = seq + 1;
    }
    return true;
}

static bool check_dead(const unsigned char **p, size_t *n, uint32_t count, uint64_t cursor)
{
    uint64_t seq, wall_ms, from = 1;
    uint32_t deliveries, len;
    while (count--) {
        if (!take_u64(p, n, &seq) || !take_u64(p, n, &wall_ms) || !take_u32(p, n, &deliveries) || !take_u32(p, n, &len) ||
            seq < from || seq >= cursor || deliveries > MAX_DELIVERIES_COUNTED || len > MAX_REASON || len > *n)
            return false;
        from = seq + 1;
        *p += len;
        *n -= len;
    }
    return true;
}

/* How many slots there will be for which no message came. */
static uint64_t n_without(const struct import *m, uint64_t floor, uint64_t cursor)
{
    const struct stream *st = m->st;
    uint64_t ahead = 0;
    for (size_t i = st->n; i-- > st->head && extent_last(&st->extents[i]) >= cursor;) {
        const struct extent *x = &st->extents[i];
        ahead += extent_last(x) + 1 - (x->first > cursor ? x->first : cursor);
    }
    return (cursor - floor > m->n_messages ? cursor - floor - m->n_messages : 0) + st->next_seq - cursor - ahead;
}

static bool check_sub(struct import *m, const unsigned char *p, size_t n)
{
    uint64_t floor, cursor, shared_below;
    uint32_t zero, n_name, n_done, n_counts, n_dead;
    if (!take_u32(&p, &n, &zero) || !take_u64(&p, &n, &floor) || !take_u64(&p, &n, &cursor) || !take_u32(&p, &n, &n_name) ||
        !take_u32(&p, &n, &n_done) || !take_u32(&p, &n, &n_counts) || !take_u32(&p, &n, &n_dead) || n_name > n || !floor ||
        cursor < floor || cursor > m->st->next_seq || !is_id((const char *)p, n_name) || m->st->n_subs == MAX_SUBS ||
        m->n_subs == MOVES_MAX_SUBS)
        return false;
    AUTO_FREE char *name = xstrndup((const char *)p, n_name);
    p += n_name;
    n -= n_name;
    m->n_extra += n_without(m, floor, cursor);
    return !stream_sub(m->st, name) && m->n_extra <= MAX_EXTRA && are_ranges(&p, &n, n_done, floor, cursor) &&
           check_counts(&p, &n, n_counts, floor, cursor) && check_dead(&p, &n, n_dead, cursor) && take_u64(&p, &n, &shared_below) &&
           !n && shared_below <= m->st->next_seq;
}

/* Which record may come behind which. */
static bool fits(const struct import *m, int type, uint32_t of)
{
    const int last = m->last_type;
    switch (type) {
    case REC_EPOCHS:
        return last == REC_STREAM;
    case REC_GAPS:
        return last == REC_EPOCHS;
    case REC_MESSAGES:
    case REC_PUBLISHERS:
        return last == REC_GAPS || last == REC_MESSAGES || last == REC_TRACES;
    case REC_TRACES:
        return last == REC_MESSAGES;
    case REC_TALLY:
        return of == MOVES_OF_SUB ? last == REC_SUB : last == REC_PUBLISHERS;
    case REC_SUB:
    case MOVES_STREAM_END:
        return last == REC_TALLY;
    default:
        return false;
    }
}

static bool check(struct import *m, int type, unsigned char *body, size_t n_body)
{
    const unsigned char *p = body;
    size_t n = n_body;
    uint32_t of;
    if (!take_u32(&p, &n, &of) || of != (type == REC_SUB || (type == REC_TALLY && of) ? MOVES_OF_SUB : MOVES_OF_STREAM))
        return false;
    if (type == REC_STREAM)
        return check_stream(m, p, n);
    if (!m->st || !fits(m, type, of))
        return false;
    return type == REC_EPOCHS       ? check_epochs(m, p, n)
           : type == REC_GAPS       ? check_gaps(m, p, n)
           : type == REC_MESSAGES   ? check_messages(m, body, n_body)
           : type == REC_TRACES     ? check_traces(m, p, n)
           : type == REC_PUBLISHERS ? check_publishers(p, n)
           : type == REC_SUB        ? check_sub(m, p, n)
           : type == REC_TALLY      ? tally_load(&(struct tally){0}, p, n)
                                    : n == sizeof(uint32_t);
}

/* ---- loading ---- */

/* Into the log, and from there. */
static int apply(struct import *m, int type, const void *body, size_t n, struct err *e)
{
    struct seglog_pos at;
    int r = seglog_append(m->all->log, type, &(struct iovec){(void *)body, n}, 1, false, &at);
    if (r < 0)
        return err_sys(e, r, "the broker's store has no room for the streams of %s", m->tenant);
    m->all->loading = true;
    streams_on_record(m->all, &at, type, body, n);
    m->all->loading = false;
    return 0;
}

/* Under the name that it has until it is settled. */
static int load_stream(struct import *m, const unsigned char *body, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    AUTO_FREE char *name = xasprintf("%c%s/%s", ARRIVING_MARK, m->tenant, m->last_name);
    const uint32_t id = m->all->next_id;
    le_add_u32(&b, id);
    le_add_u32(&b, (uint32_t)strlen(name));
    buf_add(&b, body + 8, 8 + EPOCH_BYTES);
    buf_adds(&b, name);
    int r = apply(m, REC_STREAM, b.p, b.n, e);
    if (r < 0)
        return r;
    m->st = streams_by_id(m->all, 's', id);
    m->n_streams++;
    m->n_messages = 0;
    m->next_seq = 1;
    return 0;
}

static int load_stream_end(struct import *m, unsigned char *body, size_t n, struct err *e)
{
    le_set_u32(body, m->st->id);
    int r = apply(m, REC_WHOLE, body, n, e);
    m->st = NULL;
    m->sub = NULL;
    return r;
}

static int load(struct import *m, int type, unsigned char *body, size_t n, struct err *e)
{
    int r;
    if (type == REC_STREAM) {
        r = load_stream(m, body, e);
    } else if (type == MOVES_STREAM_END) {
        r = load_stream_end(m, body, n, e);
    } else if (type == REC_SUB) {
        const uint32_t id = m->all->next_id;
        le_set_u32(body, id);
        le_set_u32(body + 4, m->st->id);
        r = apply(m, type, body, n, e);
        m->sub = streams_by_id(m->all, 'u', id);
        m->n_subs++;
    } else {
        le_set_u32(body, type == REC_TALLY && le_u32(body) == MOVES_OF_SUB && m->sub ? m->sub->id : m->st->id);
        r = apply(m, type, body, n, e);
    }
    m->last_type = type;
    return r;
}

/* ---- reading ---- */

static int damaged(const struct import *m, struct err *e)
{
    return err_set(e, ERR_FORMAT, "the streams of %s: record %llu is damaged, or none that belongs there", m->tenant,
                   (unsigned long long)m->record);
}

/* At least `n` bytes are there; 0, or why not. */
static int need(struct import *m, size_t n, struct err *e)
{
    while (m->in.n - m->at < n) {
        if (m->at) {
            buf_consume(&m->in, m->at);
            m->at = 0;
        }
        buf_reserve(&m->in, READ_BYTES);
        ssize_t got = m->eof ? 0 : read(m->fd, m->in.p + m->in.n, READ_BYTES);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_sys(e, -errno, "cannot read the streams of %s", m->tenant);
        m->eof = got == 0;
        if (m->eof)
            return err_set(e, ERR_FORMAT, "the streams of %s were cut short", m->tenant);
        m->in.n += (size_t)got;
    }
    return 0;
}

static int read_magic(struct import *m, struct err *e)
{
    int r = need(m, 8, e);
    if (r < 0)
        return r;
    const char *p = m->in.p + m->at;
    if (memcmp(p, MOVES_MAGIC, 8) != 0)
        return memcmp(p, MOVES_FORMAT, strlen(MOVES_FORMAT)) == 0
                   ? err_set(e, ERR_VERSION, "the streams of %s are of a newer version: upgrade this home first", m->tenant)
                   : err_set(e, ERR_FORMAT, "the streams of %s are none", m->tenant);
    m->at += 8;
    m->begun = true;
    return 0;
}

static int finish(struct import *m, const unsigned char *body, size_t n, struct err *e)
{
    if (m->st || n != 8 || le_u32(body) || le_u32(body + 4) != m->n_streams)
        return damaged(m, e);
    m->at += MOVES_HEADER + n;
    if (need(m, 1, NULL) == 0)
        return err_set(e, ERR_FORMAT, "the streams of %s: something lies behind their end", m->tenant);
    m->done = true;
    return 0;
}

/* How many bytes it had; 0: it was the last one. */
static int64_t next_record(struct import *m, struct err *e)
{
    int r = need(m, MOVES_HEADER, e);
    if (r < 0)
        return r;
    const uint32_t size = le_u32(m->in.p + m->at);
    if (size < MOVES_HEADER || size > MAX_RECORD)
        return damaged(m, e);
    if ((r = need(m, size, e)) < 0)
        return r;
    unsigned char *p = (unsigned char *)m->in.p + m->at, *body = p + MOVES_HEADER;
    const int type = p[8];
    if (le_u32(p + 4) != moves_check_of(p, size, m->record) || memcmp(p + 9, (char[7]){0}, 7) != 0)
        return damaged(m, e);
    if (type == MOVES_END) {
        r = finish(m, body, size - MOVES_HEADER, e);
        return r;
    }
    if (!check(m, type, body, size - MOVES_HEADER))
        return damaged(m, e);
    r = load(m, type, body, size - MOVES_HEADER, e);
    m->at += size;
    m->record++;
    return r < 0 ? r : (int64_t)size;
}

/* ---- */

int import_new(struct streams *all, const char *tenant, int fd, struct import **ret, struct err *e)
{
    size_t i = 0;
    for (const struct stream *st; (st = map_next(&all->streams, &i));)
        if (moves_name_in(st->name, tenant) && !stream_is_pristine(st)) {
            close(fd);
            return err_set(e, ERR_REFUSED, "there is a stream %s already, and something was published to it", st->name);
        }
    arrivals_drop(all, tenant);
    struct import *m = xcalloc(1, sizeof *m);
    *m = (struct import){.all = all, .tenant = xstrdup(tenant), .fd = fd};
    *ret = m;
    return 0;
}

int import_step(struct import *m, size_t max, struct err *e)
{
    int r = m->begun ? 0 : read_magic(m, e);
    int64_t n = 1;
    for (size_t done = 0; r == 0 && n > 0 && done < max; done += (size_t)n)
        if ((n = next_record(m, e)) < 0)
            r = (int)n;
    return r < 0 ? r : n > 0;
}

void import_free(struct import *m)
{
    if (!m)
        return;
    if (!m->done)
        arrivals_drop(m->all, m->tenant);
    close(m->fd);
    buf_fini(&m->in);
    free(m->tenant);
    free(m);
}
