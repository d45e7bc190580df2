#include "queue_parts.h"

#include "base/log.h"
#include "base/mem.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    RECORD_BYTES = 256 << 10, /* of payload in one record, but for a single large message */
    RECORD_MESSAGES = 4096,
    MAX_PUBLISHERS = 10000, /* remembered per stream */
    MAX_SEEN = 64,          /* ranges of a publisher's numbers */
};

struct stream *stream_new(struct queues *q, const char *name, uint32_t id)
{
    struct stream *st = xcalloc(1, sizeof *st);
    *st = (struct stream){.q = q, .name = xstrdup(name), .id = id, .next_seq = 1};
    return st;
}

static void publisher_free(struct publisher *p)
{
    free(p->seen);
    free(p);
}

void stream_free(struct stream *st)
{
    size_t i = 0;
    for (struct publisher *p; (p = map_next(&st->publishers, &i));)
        publisher_free(p);
    map_fini(&st->publishers);
    for (i = 0; i < st->n_subs; i++)
        sub_free(st->subs[i]);
    free(st->subs);
    free(st->extents);
    free(st->kept);
    free(st->eras);
    free(st->gaps);
    buf_fini(&st->record);
    free(st->name);
    free(st);
}

const char *stream_name(const struct stream *st)
{
    return st->name;
}

void stream_set_tag(struct stream *st, void *tag)
{
    st->tag = tag;
}

void *stream_tag(const struct stream *st)
{
    return st->tag;
}

void stream_figures(const struct stream *st, struct stream_figures *ret)
{
    uint64_t first = st->head < st->n ? st->extents[st->head].first : st->next_seq;
    *ret = (struct stream_figures){st->next_seq, first, st->bytes};
}

/* ---- who sent what ---- */

static void key_of(uint64_t id, char out[20])
{
    snprintf(out, 20, "%016" PRIx64, id);
}

static struct publisher *publisher(struct stream *st, uint64_t id)
{
    char key[20];
    key_of(id, key);
    return map_get(&st->publishers, key);
}

static void forget_publishers(struct stream *st, int64_t seen_wall_ms)
{
    AUTO_FREE struct publisher **old = xmalloc((st->publishers.n + 1) * sizeof(struct publisher *));
    size_t i = 0, n = 0;
    for (struct publisher *p; (p = map_next(&st->publishers, &i));)
        if (p->wall_ms < seen_wall_ms)
            old[n++] = p;
    for (i = 0; i < n; i++) {
        char key[20];
        key_of(old[i]->id, key);
        map_remove(&st->publishers, key);
        publisher_free(old[i]);
    }
}

/* The one that was heard of least recently makes room. */
static void forget_oldest(struct stream *st)
{
    struct publisher *oldest = NULL;
    char key[20];
    size_t i = 0;
    for (struct publisher *p; (p = map_next(&st->publishers, &i));)
        if (!oldest || p->wall_ms < oldest->wall_ms)
            oldest = p;
    if (!oldest)
        return;
    key_of(oldest->id, key);
    map_remove(&st->publishers, key);
    publisher_free(oldest);
}

static struct publisher *publisher_get(struct stream *st, uint64_t id, int64_t wall_ms)
{
    struct publisher *p = publisher(st, id);
    char key[20];
    if (!p) {
        if (st->publishers.n >= MAX_PUBLISHERS)
            forget_oldest(st);
        p = xcalloc(1, sizeof *p);
        p->id = id;
        key_of(id, key);
        map_put(&st->publishers, key, p);
    }
    if (wall_ms > p->wall_ms)
        p->wall_ms = wall_ms;
    return p;
}

static void see(struct publisher *p, uint64_t first, uint64_t last)
{
    size_t i = p->n_seen;
    while (i > 0 && p->seen[i - 1].first > first) /* mostly the last one grows */
        i--;
    if (i > 0 && p->seen[i - 1].last + 1 >= first) {
        i--;
        if (last > p->seen[i].last)
            p->seen[i].last = last;
    } else {
        if (p->n_seen == MAX_SEEN) { /* the gap at the bottom closes: what is that late counts as known */
            p->seen[1].first = p->seen[0].first;
            memmove(p->seen, p->seen + 1, --p->n_seen * sizeof *p->seen);
            if (i > 0)
                i--;
        }
        p->seen = xrealloc(p->seen, (p->n_seen + 1) * sizeof *p->seen);
        memmove(p->seen + i + 1, p->seen + i, (p->n_seen - i) * sizeof *p->seen);
        p->seen[i] = (struct range){first, last};
        p->n_seen++;
    }
    while (i + 1 < p->n_seen && p->seen[i].last + 1 >= p->seen[i + 1].first) {
        if (p->seen[i + 1].last > p->seen[i].last)
            p->seen[i].last = p->seen[i + 1].last;
        memmove(p->seen + i + 1, p->seen + i + 2, (p->n_seen - i - 2) * sizeof *p->seen);
        p->n_seen--;
    }
}

static bool is_seen(const struct publisher *p, uint64_t number)
{
    for (size_t i = p ? p->n_seen : 0; i-- > 0;)
        if (number >= p->seen[i].first)
            return number <= p->seen[i].last;
    return false;
}

size_t publishers_record(const struct stream *st, struct buf *out)
{
    size_t i = 0;
    le_add_u32(out, st->id);
    le_add_u32(out, (uint32_t)st->publishers.n);
    for (const struct publisher *p; (p = map_next(&st->publishers, &i));) {
        le_add_u64(out, p->id);
        le_add_u64(out, (uint64_t)p->wall_ms);
        le_add_u32(out, (uint32_t)p->n_seen);
        le_add_u32(out, 0);
        for (size_t k = 0; k < p->n_seen; k++) {
            le_add_u64(out, p->seen[k].first);
            le_add_u64(out, p->seen[k].last);
        }
    }
    return st->publishers.n;
}

bool publishers_replay(struct stream *st, const unsigned char *p, size_t n)
{
    uint32_t n_publishers, n_seen, zero;
    uint64_t id, wall_ms, first, last;
    if (!take_u32(&p, &n, &n_publishers))
        return false;
    while (n_publishers--) {
        if (!take_u64(&p, &n, &id) || !take_u64(&p, &n, &wall_ms) || !take_u32(&p, &n, &n_seen) || !take_u32(&p, &n, &zero))
            return false;
        struct publisher *pub = publisher_get(st, id, (int64_t)wall_ms);
        while (n_seen--) {
            if (!take_u64(&p, &n, &first) || !take_u64(&p, &n, &last) || first > last)
                return false;
            see(pub, first, last);
        }
    }
    return true;
}

/* ---- messages ---- */

static uint64_t last_of(const struct extent *x)
{
    return x->first + x->n - 1;
}

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
    for (; i > st->head && st->extents[i - 1].first > x.first; i--) /* only a record that was moved comes late */
        st->extents[i] = st->extents[i - 1];
    st->extents[i] = x;
    st->bytes += x.at.size;
    store_keep(st->q->store, &x.at);
}

static struct extent *search(struct extent *v, size_t lo, size_t hi, uint64_t seq)
{
    size_t end = hi;
    while (lo < hi) { /* the first that ends at seq or later */
        size_t mid = (lo + hi) / 2;
        if (last_of(&v[mid]) < seq)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < end ? &v[lo] : NULL;
}

/* The record with seq, or else the next one after it; NULL when there is none. */
static struct extent *extent_at(const struct stream *st, uint64_t seq)
{
    struct extent *x = st->n_kept ? search(st->kept, 0, st->n_kept, seq) : NULL;
    return x ? x : st->n ? search(st->extents, st->head, st->n, seq) : NULL;
}

static void give_back(struct stream *st, const struct extent *x)
{
    st->bytes -= x->at.size;
    store_release(st->q->store, &x->at);
    if (st->loaded.n && st->loaded.first == x->first)
        st->loaded.n = 0;
}

static bool is_needed(const struct stream *st, const struct extent *x)
{
    for (size_t i = 0; i < st->n_subs; i++)
        if (sub_needs(st->subs[i], x->first, last_of(x)))
            return true;
    return !st->n_subs;
}

void stream_trim(struct stream *st)
{
    uint64_t floor = st->next_seq;
    for (size_t i = 0; i < st->n_subs; i++)
        if (st->subs[i]->floor < floor)
            floor = st->subs[i]->floor;
    if (!st->n_subs)
        return; /* they wait for the first subscription, or for their age */
    while (st->head < st->n && last_of(&st->extents[st->head]) < floor) {
        struct extent x = st->extents[st->head++];
        if (is_needed(st, &x)) {
            st->kept = xrealloc(st->kept, (st->n_kept + 1) * sizeof *st->kept);
            st->kept[st->n_kept++] = x;
        } else {
            give_back(st, &x);
        }
    }
    if (st->head == st->n)
        st->head = st->n = 0;
}

void stream_trim_kept(struct stream *st)
{
    stream_trim(st);
    if (!st->look_at_kept)
        return;
    st->look_at_kept = false;
    size_t n = 0;
    for (size_t i = 0; i < st->n_kept; i++)
        if (is_needed(st, &st->kept[i]))
            st->kept[n++] = st->kept[i];
        else
            give_back(st, &st->kept[i]);
    st->n_kept = n;
}

static int move_one(struct stream *st, struct extent *x)
{
    struct store_pos at;
    buf_reserve(&st->record, x->at.size);
    st->loaded.n = 0;
    const unsigned char *p = store_read(st->q->store, &x->at, st->record.p);
    if (!p) { /* damaged: there is nothing to move, and whoever wants to read it is told */
        give_back(st, x);
        x->at.segment = 0;
        st->bytes += x->at.size;
        return 0;
    }
    struct iovec part = {(void *)p, x->at.size - STORE_HEADER};
    int r = store_append(st->q->store, REC_MESSAGES, &part, 1, true, &at);
    if (r < 0)
        return r;
    store_release(st->q->store, &x->at);
    store_keep(st->q->store, &at);
    x->at = at;
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

bool messages_replay(struct stream *st, const struct store_pos *at, const unsigned char *p, size_t n)
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
    struct extent *old = extent_at(st, h.first);
    if (old && old->first == h.first) { /* it was moved, and the segment it lay in is there still */
        store_release(st->q->store, &old->at);
        store_keep(st->q->store, at);
        old->at = *at;
        return true;
    }
    add_extent(st, (struct extent){h.first, *at, h.n, (uint32_t)(h.wall_ms / 1000)});
    if (h.first + h.n > st->next_seq)
        st->next_seq = h.first + h.n;
    if (h.publisher)
        see(publisher_get(st, h.publisher, h.wall_ms), h.number, h.number + h.n - 1);
    return true;
}

static int append(struct stream *st, uint64_t publisher_id, uint64_t number, const struct message *v, uint32_t n, int64_t wall_ms)
{
    struct queues *q = st->q;
    struct messages_header h = {htole32(st->id),       htole32(n),      htole64(st->next_seq),
                                htole64(publisher_id), htole64(number), (int64_t)htole64((uint64_t)wall_ms)};
    struct store_pos at;
    if (q->unsettled && !queues_settle(q))
        return -ENOSPC;
    q->scratch.n = 0;
    buf_add(&q->scratch, &h, sizeof h);
    for (uint32_t i = 0; i < n; i++)
        le_add_u32(&q->scratch, (uint32_t)v[i].n);
    for (uint32_t i = 0; i < n; i++)
        buf_add(&q->scratch, v[i].p, v[i].n);
    struct buf body = q->scratch; /* a segment that is begun meanwhile writes records of its own */
    q->scratch = (struct buf){0};
    struct iovec part = {body.p, body.n};
    int r = store_append(q->store, REC_MESSAGES, &part, 1, false, &at);
    buf_fini(&q->scratch);
    q->scratch = body;
    if (r < 0)
        return r;
    add_extent(st, (struct extent){st->next_seq, at, n, (uint32_t)(wall_ms / 1000)});
    st->next_seq += n;
    stream_count(st, TALLY_MESSAGES, n);
    stream_count(st, TALLY_BYTES, part.iov_len - sizeof h - (size_t)n * 4);
    if (publisher_id)
        see(publisher_get(st, publisher_id, wall_ms), number, number + n - 1);
    q->published = true;
    return 0;
}

int stream_publish(struct stream *st, uint64_t publisher_id, uint64_t number, const struct message *v, size_t n, int64_t wall_ms,
                   uint64_t *ret_first, size_t *ret_known)
{
    const struct publisher *p = publisher_id ? publisher(st, publisher_id) : NULL;
    *ret_first = 0;
    *ret_known = 0;
    for (size_t i = 0; i < n;) {
        if (is_seen(p, number + i)) {
            ++*ret_known;
            i++;
            continue;
        }
        size_t k = i, bytes = 0;
        while (k < n && k - i < RECORD_MESSAGES && (k == i || (bytes + v[k].n <= RECORD_BYTES && !is_seen(p, number + k))))
            bytes += v[k++].n;
        uint64_t first = st->next_seq;
        int r = append(st, publisher_id, number + i, v + i, (uint32_t)(k - i), wall_ms);
        if (r < 0)
            return r;
        if (!*ret_first)
            *ret_first = first;
        p = publisher_id ? publisher(st, publisher_id) : NULL;
        i = k;
    }
    return 0;
}

/* Reads the record into st->record unless it is there. */
static bool load(struct stream *st, const struct extent *x)
{
    if (st->loaded.n && st->loaded.first == x->first)
        return true;
    buf_reserve(&st->record, x->at.size);
    const unsigned char *p = store_read(st->q->store, &x->at, st->record.p);
    size_t n = x->at.size - STORE_HEADER, payload = 0;
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
        const struct extent *x = extent_at(st, seq);
        *ret_next = x ? x->first : st->next_seq;
        if (!x || x->first > seq)
            return NULL;
        *ret_next = x->first + x->n;
        if (!load(st, x)) {
            log_error("message_damaged", NULL, NULL,
                      "stream %s: messages %" PRIu64 " to %" PRIu64 " cannot be read from the disk any more", st->name, x->first,
                      last_of(x));
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
    const struct extent *x = extent_at(st, seq);
    return x && x->first <= seq;
}

struct stream_loss stream_loss(const struct stream *st)
{
    return st->loss;
}

int64_t stream_wall_ms(const struct stream *st, uint64_t seq)
{
    const struct extent *x = extent_at(st, seq);
    return x ? (int64_t)x->wall_s * 1000 : 0;
}

void stream_record(const struct stream *st, struct buf *out)
{
    le_add_u32(out, st->id);
    le_add_u32(out, (uint32_t)strlen(st->name));
    le_add_u64(out, st->next_seq);
    buf_add(out, stream_epoch(st), QUEUE_EPOCH);
    buf_adds(out, st->name);
}

void expired_replay(struct stream *st, uint64_t first)
{
    for (size_t i = 0; i < st->n_subs; i++)
        sub_expire(st->subs[i], first);
    if (!st->n_subs)
        while (st->head < st->n && last_of(&st->extents[st->head]) < first)
            give_back(st, &st->extents[st->head++]);
    stream_trim(st);
}

void stream_expire(struct stream *st, int64_t wall_ms, int64_t dead_wall_ms, int64_t seen_wall_ms)
{
    size_t i = st->head;
    while (i < st->n && (int64_t)st->extents[i].wall_s * 1000 + 999 < wall_ms)
        i++;
    if (i > st->head) {
        uint64_t first = last_of(&st->extents[i - 1]) + 1;
        AUTO_BUF struct buf b = {0};
        le_add_u32(&b, st->id);
        le_add_u32(&b, 0);
        le_add_u64(&b, first);
        log_event(st->q, REC_EXPIRED, b.p, b.n);
        expired_replay(st, first);
    }
    for (i = 0; i < st->n_subs; i++)
        sub_expire_dead(st->subs[i], dead_wall_ms);
    stream_trim_kept(st);
    forget_publishers(st, seen_wall_ms);
}

/* ---- subscriptions ---- */

struct sub *stream_next_sub(const struct stream *st, size_t *i)
{
    return *i < st->n_subs ? st->subs[(*i)++] : NULL;
}

struct sub *stream_sub(const struct stream *st, const char *name)
{
    for (size_t i = 0; i < st->n_subs; i++)
        if (!strcmp(st->subs[i]->name, name))
            return st->subs[i];
    return NULL;
}

void stream_drop_sub(struct stream *st, struct sub *s)
{
    AUTO_BUF struct buf b = {0};
    le_add_u32(&b, s->id);
    sub_unmark(s);
    log_event(st->q, REC_SUB_DROP, b.p, b.n);
    for (size_t i = 0; i < st->n_subs; i++)
        if (st->subs[i] == s)
            memmove(st->subs + i, st->subs + i + 1, (--st->n_subs - i) * sizeof *st->subs);
    sub_free(s);
    st->look_at_kept = true;
    stream_trim_kept(st);
}
