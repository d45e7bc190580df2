/* A stream's messages: where each lies in the log, appending, reading, and moving them out of the way. */
#include "parts.h"

#include "base/log.h"
#include "base/mem.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum {
    RECORD_BYTES = 256 << 10, /* of payload in one record, but for a single large message */
    RECORD_MESSAGES = 4096,
};

static void add_extent(struct stream *st, struct extent x)
{
    if (st->n == st->cap && st->head > st->n / 2) {
        st->n -= st->head;
        memmove(st->extents, st->extents + st->head, st->n * sizeof *st->extents);
        st->head = 0;
    }
    if (st->n == st->cap) {
        st->cap = st->cap ? st->cap * 2 : 16;
        st->extents = xrealloc(st->extents, st->cap * sizeof *st->extents);
    }
    size_t i = st->n++;
    for (; i > st->head && st->extents[i - 1].first > x.first; i--) /* only a record that was moved comes out of order */
        st->extents[i] = st->extents[i - 1];
    st->extents[i] = x;
    st->bytes += x.at.size;
    seglog_keep(st->all->log, &x.at);
}

static struct extent *search(struct extent *v, size_t lo, size_t hi, uint64_t seq)
{
    size_t end = hi;
    while (lo < hi) { /* the first that ends at seq or later */
        size_t mid = (lo + hi) / 2;
        if (extent_last(&v[mid]) < seq)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < end ? &v[lo] : NULL;
}

/* The record with seq, or else the next one after it; NULL when there is none. */
struct extent *stream_extent_at(const struct stream *st, uint64_t seq)
{
    struct extent *x = st->n_kept ? search(st->kept, 0, st->n_kept, seq) : NULL;
    return x ? x : st->n ? search(st->extents, st->head, st->n, seq) : NULL;
}

void extent_give_back(struct stream *st, const struct extent *x)
{
    st->bytes -= x->at.size;
    seglog_release(st->all->log, &x->at);
    traces_give_back(st, x->first);
    if (st->loaded.n && st->loaded.first == x->first)
        st->loaded.n = 0;
}

/* ---- publishing ---- */

int messages_append(struct stream *st, uint64_t publisher_id, uint64_t number, const struct message *v, uint32_t n, int64_t wall_ms)
{
    struct streams *all = st->all;
    struct messages_header h = {htole32(st->id),       htole32(n),      htole64(st->next_seq),
                                htole64(publisher_id), htole64(number), (int64_t)htole64((uint64_t)wall_ms)};
    struct seglog_pos at;
    if (all->unsaved && !streams_save_recovered(all))
        return -ENOSPC;
    all->scratch.n = 0;
    buf_add(&all->scratch, &h, sizeof h);
    for (uint32_t i = 0; i < n; i++)
        le_add_u32(&all->scratch, (uint32_t)v[i].n);
    for (uint32_t i = 0; i < n; i++)
        buf_add(&all->scratch, v[i].p, v[i].n);
    struct buf body = all->scratch; /* taken aside: appending may begin a segment, which writes records through the same buffer */
    all->scratch = (struct buf){0};
    struct iovec part = {body.p, body.n};
    int r = seglog_append(all->log, REC_MESSAGES, &part, 1, false, &at);
    buf_fini(&all->scratch);
    all->scratch = body;
    if (r < 0)
        return r;
    add_extent(st, (struct extent){st->next_seq, at, n, (uint32_t)(wall_ms / 1000)});
    traces_append(st, st->next_seq, v, n);
    bool counts = st->next_seq >= st->count_from;
    st->next_seq += n;
    stream_count(st, TALLY_MESSAGES, counts ? n : 0);
    stream_count(st, TALLY_BYTES, counts ? part.iov_len - sizeof h - (size_t)n * 4 : 0);
    if (publisher_id)
        publisher_saw(publisher_get(st, publisher_id, wall_ms), number, number + n - 1);
    all->published = true;
    return 0;
}

int stream_publish(struct stream *st, uint64_t publisher_id, uint64_t number, const struct message *v, size_t n, int64_t wall_ms,
                   uint64_t *ret_first, size_t *ret_known)
{
    const struct publisher *p = publisher_id ? publisher_find(st, publisher_id) : NULL;
    *ret_first = 0;
    *ret_known = 0;
    for (size_t i = 0; i < n;) {
        if (publisher_has_sent(p, number + i)) {
            ++*ret_known;
            i++;
            continue;
        }
        size_t k = i, bytes = 0;
        while (k < n && k - i < RECORD_MESSAGES &&
               (k == i || (bytes + v[k].n <= RECORD_BYTES && !publisher_has_sent(p, number + k))))
            bytes += v[k++].n;
        uint64_t first = st->next_seq;
        int r = messages_append(st, publisher_id, number + i, v + i, (uint32_t)(k - i), wall_ms);
        if (r < 0)
            return r;
        if (!*ret_first)
            *ret_first = first;
        p = publisher_id ? publisher_find(st, publisher_id) : NULL;
        i = k;
    }
    return 0;
}

bool messages_load(struct stream *st, const struct seglog_pos *at, const unsigned char *p, size_t n)
{
    struct messages_header h;
    if (n < sizeof h)
        return false;
    memcpy(&h, p, sizeof h);
    h.n = le32toh(h.n);
    h.first = le64toh(h.first);
    h.publisher = le64toh(h.publisher);
    h.number = le64toh(h.number);
    h.wall_ms = (int64_t)le64toh((uint64_t)h.wall_ms);
    if (!h.n || h.n > RECORD_MESSAGES || !h.first || n < sizeof h + (size_t)h.n * 4)
        return false;
    struct extent *old = stream_extent_at(st, h.first);
    if (old && old->first == h.first) { /* it was moved, and the segment where it lay before is still there */
        seglog_release(st->all->log, &old->at);
        seglog_keep(st->all->log, at);
        old->at = *at;
        traces_give_back(st, h.first); /* they were moved, too, and come */
        return true;
    }
    add_extent(st, (struct extent){h.first, *at, h.n, (uint32_t)(h.wall_ms / 1000)});
    if (h.first + h.n > st->next_seq)
        st->next_seq = h.first + h.n;
    if (h.publisher)
        publisher_saw(publisher_get(st, h.publisher, h.wall_ms), h.number, h.number + h.n - 1);
    return true;
}

/* ---- reading ---- */

/* Reads the record into st->record unless it is there. */
static bool load_record(struct stream *st, const struct extent *x)
{
    if (st->loaded.n && st->loaded.first == x->first)
        return true;
    buf_reserve(&st->record, x->at.size);
    const unsigned char *p = seglog_read(st->all->log, &x->at, st->record.p);
    size_t n = x->at.size - SEGLOG_HEADER, payload = 0;
    st->loaded.n = 0;
    if (!p || n < sizeof st->loaded + (size_t)x->n * 4)
        return false;
    memcpy(&st->loaded, p, sizeof st->loaded);
    st->loaded.n = 0;
    st->lengths = p + sizeof st->loaded;
    for (uint32_t i = 0; i < x->n; i++)
        payload += le_u32(st->lengths + (size_t)i * 4);
    if (sizeof st->loaded + (size_t)x->n * 4 + payload != n)
        return false;
    st->loaded.first = x->first;
    st->loaded.wall_ms = (int64_t)le64toh((uint64_t)st->loaded.wall_ms);
    st->loaded.n = x->n;
    st->next_i = st->next_offset = 0;
    return true;
}

const void *stream_find(struct stream *st, uint64_t seq, size_t *ret_n, int64_t *ret_wall_ms, uint64_t *ret_next)
{
    struct messages_header *l = &st->loaded;
    if (!l->n || seq < l->first || seq >= l->first + l->n) {
        const struct extent *x = stream_extent_at(st, seq);
        *ret_next = x ? x->first : st->next_seq;
        if (!x || x->first > seq)
            return NULL;
        *ret_next = x->first + x->n;
        if (!load_record(st, x)) {
            log_error("message_damaged", NULL, NULL,
                      "stream %s: messages %" PRIu64 " to %" PRIu64 " cannot be read from the disk any more", st->name, x->first,
                      extent_last(x));
            return NULL;
        }
    }
    uint32_t i = (uint32_t)(seq - l->first), len;
    if (i < st->next_i)
        st->next_i = st->next_offset = 0;
    for (;;) {
        len = le_u32(st->lengths + (size_t)st->next_i * 4);
        if (st->next_i == i)
            break;
        st->next_offset += len;
        st->next_i++;
    }
    *ret_n = len;
    *ret_wall_ms = l->wall_ms;
    *ret_next = seq + 1;
    return st->lengths + (size_t)l->n * 4 + st->next_offset;
}

const void *stream_read(struct stream *st, uint64_t seq, size_t *ret_n, int64_t *ret_wall_ms)
{
    uint64_t next;
    return stream_find(st, seq, ret_n, ret_wall_ms, &next);
}

bool stream_has(const struct stream *st, uint64_t seq)
{
    const struct extent *x = stream_extent_at(st, seq);
    return x && x->first <= seq;
}

int64_t stream_wall_ms(const struct stream *st, uint64_t seq)
{
    const struct extent *x = stream_extent_at(st, seq);
    return x ? (int64_t)x->wall_s * 1000 : 0;
}

/* ---- moving ---- */

static int move_one(struct stream *st, struct extent *x)
{
    struct seglog_pos at;
    buf_reserve(&st->record, x->at.size);
    st->loaded.n = 0;
    const unsigned char *p = seglog_read(st->all->log, &x->at, st->record.p);
    if (!p) { /* damaged: nothing can be moved; who reads it later gets it as lost */
        extent_give_back(st, x);
        x->at.segment = 0;
        st->bytes += x->at.size;
        return 0;
    }
    struct iovec part = {(void *)p, x->at.size - SEGLOG_HEADER};
    int r = seglog_append(st->all->log, REC_MESSAGES, &part, 1, true, &at);
    if (r < 0)
        return r;
    seglog_release(st->all->log, &x->at);
    seglog_keep(st->all->log, &at);
    x->at = at;
    traces_move(st, x->first);
    return 0;
}

bool stream_move(struct stream *st, uint64_t oldest, int64_t *budget)
{
    struct {
        struct extent *v;
        size_t from, to;
    } both[] = {{st->kept, 0, st->n_kept}, {st->extents, st->head, st->n}};
    for (int k = 0; k < 2; k++)
        for (size_t i = both[k].from; i < both[k].to; i++) {
            struct extent *x = &both[k].v[i];
            if (x->at.segment != oldest)
                continue;
            if (*budget <= 0 || move_one(st, x) < 0)
                return false;
            *budget -= x->at.size;
        }
    return true;
}
