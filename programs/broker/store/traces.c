/* Traces of messages: to which trace a message belongs (W3C Trace Context, packed as lib/base/trace_context.h has it; any bytes to
 * this storey).
 *
 * They are a record of their own, REC_TRACES, somewhere behind the record of the messages that it is about: u32 stream, u32 n, u64
 * first (sequence of the first of those messages), n times MESSAGE_TRACE_BYTES. n is 1 (all have the same) or their number; zeros
 * are none. A broker of an earlier version passes the record over, and has the messages.
 *
 * A trace is worth less than a message. Where it cannot be written (a full disk), or is damaged, the message is there without it.
 *   killed between the two records   the message was not confirmed; it is known when it is sent again, and has no trace
 *   the messages are moved           the traces are, behind them, whichever segment they lay in: so whenever the log is read, the
 *                                    messages come first. Killed in between: without traces
 *   the messages are given back      the traces are */
#include "parts.h"

#include "base/mem.h"

#include <string.h>

enum { TRACES_HEADER = 16 };

/* Where the record about messages from `first` on is, or would be. */
static size_t place_of(const struct stream *st, uint64_t first)
{
    size_t lo = st->traced_head, hi = st->n_traced;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (st->traced[mid].first < first)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static struct traced *find(const struct stream *st, uint64_t first)
{
    size_t i = place_of(st, first);
    return i < st->n_traced && st->traced[i].first == first ? &st->traced[i] : NULL;
}

void traces_give_back(struct stream *st, uint64_t first)
{
    size_t i = place_of(st, first);
    if (i == st->n_traced || st->traced[i].first != first)
        return;
    st->bytes -= st->traced[i].at.size;
    seglog_release(st->all->log, &st->traced[i].at);
    if (st->traces.n && st->traces_first == first)
        st->traces.n = 0;
    if (i == st->traced_head)
        st->traced_head++;
    else
        memmove(st->traced + i, st->traced + i + 1, (--st->n_traced - i) * sizeof *st->traced);
    if (st->traced_head == st->n_traced)
        st->traced_head = st->n_traced = 0;
}

static void add(struct stream *st, struct traced x)
{
    traces_give_back(st, x.first);
    if (st->n_traced == st->cap_traced && st->traced_head > st->n_traced / 2) {
        st->n_traced -= st->traced_head;
        memmove(st->traced, st->traced + st->traced_head, st->n_traced * sizeof *st->traced);
        st->traced_head = 0;
    }
    if (st->n_traced == st->cap_traced) {
        st->cap_traced = st->cap_traced ? st->cap_traced * 2 : 16;
        st->traced = xrealloc(st->traced, st->cap_traced * sizeof *st->traced);
    }
    size_t i = place_of(st, x.first);
    memmove(st->traced + i + 1, st->traced + i, (st->n_traced++ - i) * sizeof *st->traced);
    st->traced[i] = x;
    st->bytes += x.at.size;
    seglog_keep(st->all->log, &x.at);
}

void traces_append(struct stream *st, uint64_t first, const struct message *v, uint32_t n)
{
    static const unsigned char none[MESSAGE_TRACE_BYTES];
    bool any = false, same = true;
    AUTO_BUF struct buf b = {0}; /* its own: appending may begin a segment, which writes records through the streams' buffer */
    struct seglog_pos at;
    for (uint32_t i = 0; i < n; i++) {
        any |= v[i].trace != NULL;
        same &= v[i].trace == v[0].trace;
    }
    if (!any)
        return;
    le_add_u32(&b, st->id);
    le_add_u32(&b, same ? 1 : n);
    le_add_u64(&b, first);
    for (uint32_t i = 0; i < (same ? 1 : n); i++)
        buf_add(&b, v[i].trace ? v[i].trace : none, MESSAGE_TRACE_BYTES);
    if (seglog_append(st->all->log, REC_TRACES, &(struct iovec){b.p, b.n}, 1, false, &at) == 0)
        add(st, (struct traced){first, at});
}

/* How many traces are in the record; 0: it is none about n messages from `first` on. */
static uint32_t read_record(const unsigned char *p, size_t n_bytes, uint64_t first, uint32_t n)
{
    uint32_t n_traces = n_bytes >= TRACES_HEADER ? le_u32(p + 4) : 0;
    bool fits = n_bytes == TRACES_HEADER + (size_t)n_traces * MESSAGE_TRACE_BYTES && (n_traces == 1 || n_traces == n);
    return fits && le_u64(p + 8) == first ? n_traces : 0;
}

bool traces_load(struct stream *st, const struct seglog_pos *at, const unsigned char *p, size_t n)
{
    if (n < TRACES_HEADER)
        return false;
    uint64_t first = le_u64(p + 8);
    const struct extent *x = stream_extent_at(st, first);
    if (!x || x->first != first)
        return true; /* its messages are not needed any more, or are lost */
    if (!read_record(p, n, first, x->n))
        return false;
    add(st, (struct traced){first, *at});
    return true;
}

void traces_move(struct stream *st, uint64_t first)
{
    struct traced *t = find(st, first);
    struct seglog_pos at;
    if (!t)
        return;
    buf_reserve(&st->traces, t->at.size);
    st->traces.n = 0;
    const unsigned char *p = seglog_read(st->all->log, &t->at, st->traces.p);
    if (p && seglog_append(st->all->log, REC_TRACES, &(struct iovec){(void *)p, t->at.size - SEGLOG_HEADER}, 1, true, &at) == 0)
        add(st, (struct traced){first, at});
    else
        traces_give_back(st, first); /* or it would pin its segment */
}

bool traces_at(const struct stream *st, uint64_t first, struct seglog_pos *ret)
{
    const struct traced *t = find(st, first);
    if (t)
        *ret = t->at;
    return t != NULL;
}

void traces_drop(struct stream *st)
{
    for (size_t i = st->traced_head; i < st->n_traced; i++)
        seglog_release(st->all->log, &st->traced[i].at);
    st->traced_head = st->n_traced = 0;
}

bool stream_has_traces(const struct stream *st)
{
    return st->n_traced > st->traced_head;
}

/* The record about x, kept from one call to the next: reading mostly goes forward. False: there is none, or it is damaged. */
static bool load_record(struct stream *st, const struct extent *x)
{
    if (st->traces.n && st->traces_first == x->first)
        return true;
    const struct traced *t = find(st, x->first);
    st->traces.n = 0;
    if (!t)
        return false;
    buf_reserve(&st->traces, t->at.size);
    const unsigned char *p = seglog_read(st->all->log, &t->at, st->traces.p);
    if (!p || !read_record(p, t->at.size - SEGLOG_HEADER, x->first, x->n))
        return false;
    st->traces.n = t->at.size;
    st->traces_first = x->first;
    return true;
}

const unsigned char *stream_trace(struct stream *st, uint64_t seq)
{
    static const unsigned char none[MESSAGE_TRACE_BYTES];
    const struct extent *x = stream_has_traces(st) ? stream_extent_at(st, seq) : NULL;
    if (!x || x->first > seq || !load_record(st, x))
        return NULL;
    const unsigned char *p = (const unsigned char *)st->traces.p + SEGLOG_HEADER;
    size_t i = le_u32(p + 4) == 1 ? 0 : (size_t)(seq - x->first);
    p += TRACES_HEADER + i * MESSAGE_TRACE_BYTES;
    return memcmp(p, none, MESSAGE_TRACE_BYTES) ? p : NULL;
}
