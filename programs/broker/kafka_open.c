/* What a stream's topic is to us, which is decided whenever it was opened.
 *
 * Beside the topic, as the text of an offset that a group of the topic's name has committed, stands its name: "v1", the epoch of
 * what is in it, and the sequence before its first record's. Kafka forgets it with the topic. So
 *
 *   name, and here               it is                                                    done
 *   the same epoch               our topic                                                followed from where we are
 *   the same, but it ends        one made anew, or one that lost its end                  a new epoch, behind all sequences; what
 * was before where we are                                                                   confirmed and is not here is lost, and
 * said the same, but it begins      one whose records somebody removed                       what is missing is lost, and said
 *   behind where we are
 *   another, nothing here        ours, and our store is new (another machine)             the epoch is taken, and what was done
 *   another, something here      somebody else's: another home, another store             refused
 *   none, nothing is in it       new, or made anew                                        named
 *   none, where we are is in it  ours; the name was forgotten (offsets expire)            named again
 *
 * Where subscriptions are is committed likewise, by a group each: the offset, and which are done beyond it. */
#include "kafka_parts.h"

#include "deliver.h"

#include "base/le.h"
#include "base/log.h"
#include "base/mem.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    AGAIN_MS = 2000,
    FOREIGN_MS = 10000,
    CHECK_MS = 30000,
    SLOW_MS = 3000,
    SOON_MS = 100,
    TRIM_MS = 2000,
    MAX_DONE = 3000,
    COMMIT_ANYWAY_MS = 3600 * 1000
};

#define NAME_FORMAT "v1 %s %" PRIu64

void kafka_close(struct kafka_stream *k, int64_t again_ms, const char *why)
{
    struct broker *b = k->st->b;
    AUTO_BUF struct buf f = {0};
    if (*why && strcmp(why, k->why) != 0)
        log_warn("kafka", k->st->tenant->id, NULL, "stream %s: %s", k->st->name, why);
    snprintf(k->why, sizeof k->why, "%s", why);
    k->state = KAFKA_CLOSED;
    k->again_ms = b->now_ms + again_ms;
    k->leave_at = 0;
    kafka_drop_run(k);
    kafka_frame_begin(&f, KAFKA_CLOSE, k->number);
    kafka_frame_send(b->kafka->link, &f);
}

static void group_of(const struct kafka_stream *k, const char *sub, struct buf *out)
{
    out->n = 0;
    buf_adds(out, k->topic);
    if (sub) {
        buf_adds(out, ".");
        buf_adds(out, sub);
    }
}

static void ask(struct kafka_stream *k)
{
    struct broker *b = k->st->b;
    AUTO_BUF struct buf f = {0}, group = {0};
    size_t i = 0;
    for (size_t a = 0; a < k->n_asked; a++)
        free(k->asked[a]);
    k->n_asked = 0;
    kafka_frame_begin(&f, KAFKA_OPEN, k->number);
    kafka_frame_add_str(&f, k->topic);
    le_add_u32(&f, k->st->part);
    le_add_u32(&f, (uint32_t)k->st->whole->n_parts);
    le_add_u32(&f, (uint32_t)k->st->conf.replicas);
    le_add_u64(&f, (uint64_t)k->st->conf.max_message_bytes);
    size_t at = f.n;
    le_add_u32(&f, 0);
    group_of(k, NULL, &group);
    kafka_frame_add_str(&f, group.p);
    for (struct sub *s; (s = stream_next_sub(k->st->stream, &i));) {
        k->asked = xgrow(k->asked, k->n_asked, sizeof *k->asked);
        k->asked[k->n_asked++] = xstrdup(sub_name(s));
        group_of(k, sub_name(s), &group);
        kafka_frame_add_str(&f, group.p);
    }
    kafka_members_group(b, &group);
    kafka_frame_add_str(&f, group.p);
    le_set_u32(f.p + at, (uint32_t)k->n_asked + 2);
    kafka_frame_send(b->kafka->link, &f);
    k->asking = true;
    k->asked_at = k->state == KAFKA_FOLLOWS ? kafka_position(k) : 0; /* its end is behind that */
    k->asked_ms = b->now_ms;
    k->check_ms = b->now_ms + CHECK_MS;
}

void kafka_open(struct kafka_stream *k)
{
    char why[sizeof k->why];
    if (!kafka_prefix_holds(k, why, sizeof why)) {
        kafka_close(k, FOREIGN_MS, why);
        return;
    }
    k->state = KAFKA_OPENING;
    ask(k);
}

void kafka_check(struct kafka_stream *k)
{
    int64_t now_ms = k->st->b->now_ms;
    bool slow = *k->st->b->kafka->down || (k->first && now_ms - k->first->since_ms > SLOW_MS); /* or the topic is gone */
    if (!k->asking && ((slow && now_ms - k->asked_ms > SLOW_MS) || now_ms >= k->check_ms))
        ask(k);
}

/* ---- what it is ---- */

struct opened {
    uint64_t first, end;
    bool named;
    unsigned char epoch[EPOCH_BYTES];
    uint64_t base;
    const unsigned char *groups; /* of the subscriptions that were asked for */
    size_t n_groups;
    bool is_kept; /* by a member of the group of brokers that share the stream */
    struct kafka_kept kept;
    char *kept_text;
    uint64_t kept_offset;
};

static bool read_name(const char *text, struct opened *o)
{
    size_t n;
    char hex[2 * EPOCH_BYTES + 1];
    if (sscanf(text, "v1 %32[0-9a-f] %" SCNu64, hex, &o->base) != 2)
        return false;
    return sodium_hex2bin(o->epoch, sizeof o->epoch, hex, strlen(hex), NULL, &n, NULL) == 0 && n == sizeof o->epoch;
}

static void write_name(struct kafka_stream *k)
{
    struct broker *b = k->st->b;
    AUTO_BUF struct buf f = {0}, group = {0};
    char hex[2 * EPOCH_BYTES + 1], text[100];
    sodium_bin2hex(hex, sizeof hex, stream_epoch(k->st->stream), EPOCH_BYTES);
    snprintf(text, sizeof text, NAME_FORMAT, hex, stream_base(k->st->stream));
    group_of(k, NULL, &group);
    kafka_frame_begin(&f, KAFKA_COMMIT, k->number);
    kafka_frame_add_str(&f, group.p);
    le_add_u64(&f, 0);
    kafka_frame_add_str(&f, text);
    kafka_frame_send(b->kafka->link, &f);
    k->named_ms = b->now_ms;
}

static void name(struct kafka_stream *k)
{
    k->state = KAFKA_NAMING;
    write_name(k);
}

void kafka_follow(struct kafka_stream *k)
{
    struct broker *b = k->st->b;
    AUTO_BUF struct buf f = {0};
    struct stream_figures now;
    stream_figures(k->st->stream, &now);
    if (k->confirmed < now.next_seq)
        k->confirmed = now.next_seq;
    if (*k->why)
        log_info("kafka", k->st->tenant->id, NULL, "stream %s: its topic %s is open", k->st->name, k->topic);
    *k->why = 0;
    k->state = KAFKA_FOLLOWS;
    k->followed_ms = b->now_ms;
    k->st->idle = false;
    size_t i = 0;
    for (struct sub *s; (s = stream_next_sub(k->st->stream, &i));)
        deliver_want(sub_tag(s));
    broker_turn_soon(b);
    kafka_frame_begin(&f, KAFKA_FOLLOW, k->number);
    le_add_u64(&f, kafka_position(k));
    kafka_frame_send(b->kafka->link, &f);
}

static void say_lost(const struct kafka_stream *k, uint64_t n, const char *how)
{
    if (n)
        log_error("messages_lost", k->st->tenant->id, NULL,
                  "stream %s: %" PRIu64 " messages that were confirmed are lost: topic %s %s; `mysimbdp queue list` counts them",
                  k->st->name, n, k->topic, how);
    else
        log_warn("kafka", k->st->tenant->id, NULL, "stream %s: topic %s %s; nothing that is known of is missing here", k->st->name,
                 k->topic, how);
}

/* False: there is no room to write it down. */
static bool begin_anew(struct kafka_stream *k, const struct opened *o)
{
    struct stream_figures f;
    uint64_t lost = stream_lose(k->st->stream, k->confirmed);
    stream_figures(k->st->stream, &f);
    if (f.next_seq - 1 < o->first)
        stream_lose(k->st->stream, o->first + 1);
    stream_figures(k->st->stream, &f);
    say_lost(k, lost, "was deleted, or lost its end, and begins anew");
    return stream_set_mirror(k->st->stream, true, f.next_seq - 1 - o->first, true) == 0;
}

static void take_done(struct broker_sub *bs, const char *text, uint64_t base)
{
    struct range r;
    int n;
    while (sscanf(text, "%" SCNu64 "-%" SCNu64 ",%n", &r.first, &r.last, &n) == 2 && r.first <= r.last && r.last < 1ULL << 47) {
        r.first += base + 1;
        r.last += base + 1;
        buf_add(&bs->kafka_done, &r, sizeof r);
        text += n;
    }
}

void kafka_take_sub(struct broker_sub *bs, uint64_t base, uint64_t first, uint64_t offset, const char *done)
{
    bs->kafka_done.n = 0;
    if (offset > first)
        buf_add(&bs->kafka_done, &(struct range){base + first + 1, base + offset}, sizeof(struct range));
    take_done(bs, done, base);
}

/* Where subscriptions were, as an earlier store has written it down. */
static void take_subs(struct kafka_stream *k, const struct opened *o)
{
    const unsigned char *p = o->groups;
    size_t n = o->n_groups;
    for (size_t i = 0; i < k->n_asked; i++) {
        uint64_t offset;
        if (!kafka_take_u64(&p, &n, &offset))
            return;
        AUTO_FREE char *text = kafka_take_str(&p, &n);
        struct sub *s = stream_sub(k->st->stream, k->asked[i]);
        struct broker_sub *bs = s ? sub_tag(s) : NULL;
        if (!bs || !text || !offset--)
            continue;
        kafka_take_sub(bs, o->base, o->first, offset, text);
    }
    if (o->is_kept)
        kafka_take_kept(k, &o->kept, o->first);
}

/* -ENOSPC, or -1: why is set. */
static int decide_unnamed(struct kafka_stream *k, const struct opened *o)
{
    struct stream *stream = k->st->stream;
    struct stream_figures f;
    stream_figures(stream, &f);
    if (!stream_is_mirror(stream) && stream_is_pristine(stream))
        return stream_adopt(stream, stream_epoch(stream), 0, o->first + 1);
    if (!stream_is_mirror(stream) && o->first != o->end)
        return snprintf(k->why, sizeof k->why,
                        "topic %s has records already, and stream %s has messages of its own; delete the topic", k->topic,
                        k->st->name),
               -1;
    if (!stream_is_mirror(stream)) /* it moves */
        return stream_set_mirror(stream, true, f.next_seq - 1 - o->first, false);
    uint64_t at = kafka_position(k);
    return at >= o->first && at <= o->end ? 0 : begin_anew(k, o) ? 0 : -1;
}

static int decide_named(struct kafka_stream *k, const struct opened *o)
{
    struct stream *stream = k->st->stream;
    struct stream_figures f;
    bool same = !memcmp(o->epoch, stream_epoch(stream), EPOCH_BYTES);
    stream_figures(stream, &f);
    if (!same && stream_is_pristine(stream)) {
        take_subs(k, o);
        log_warn("kafka", k->st->tenant->id, NULL,
                 "stream %s: what is in topic %s is taken up; what was not known to be done comes again", k->st->name, k->topic);
        return stream_adopt(stream, o->epoch, o->base, o->base + o->first + 1);
    }
    if (!same)
        return snprintf(
                   k->why, sizeof k->why,
                   "topic %s is of another home or store, and this stream has messages of its own; another kafka.prefix, or delete "
                   "the topic",
                   k->topic),
               -1;
    if (!stream_is_mirror(stream) && f.next_seq - 1 < o->end)
        return snprintf(k->why, sizeof k->why, "topic %s has more than stream %s ever had; delete the topic", k->topic,
                        k->st->name),
               -1;
    if (!stream_is_mirror(stream)) /* it moves, again */
        return stream_set_mirror(stream, true, f.next_seq - 1 - o->end, false);
    uint64_t at = kafka_position(k);
    if (at > o->end)
        return begin_anew(k, o) ? 0 : -1;
    if (at < o->first)
        say_lost(k, stream_lose(stream, kafka_seq(k, o->first)), "has records no more that were not taken yet");
    return 0;
}

static bool read_opened(const unsigned char *p, size_t n, struct opened *o)
{
    uint32_t n_groups;
    uint64_t offset;
    if (!kafka_take_u64(&p, &n, &o->first) || !kafka_take_u64(&p, &n, &o->end) || !kafka_take_u32(&p, &n, &n_groups) || !n_groups ||
        !kafka_take_u64(&p, &n, &offset))
        return false;
    AUTO_FREE char *text = kafka_take_str(&p, &n);
    o->named = text && offset && read_name(text, o);
    o->groups = p;
    o->n_groups = n;
    for (uint32_t i = 1; i < n_groups; i++) { /* the last one is that of the members */
        free(o->kept_text);
        if (!kafka_take_u64(&p, &n, &offset) || !(o->kept_text = kafka_take_str(&p, &n)))
            return false;
        o->kept_offset = offset ? offset - 1 : 0;
    }
    return text != NULL && o->first <= o->end && o->end < 1ULL << 47;
}

/* Of one that is followed: is it what it was? */
static bool on_checked(struct kafka_stream *k, const char *why, const unsigned char *p, size_t n)
{
    struct opened o = {0};
    bool ok = *why || read_opened(p, n, &o);
    free(o.kept_text);
    if (!ok)
        return false;
    if (!strncmp(why, "topic ", 6)) {
        k->known = false;
        kafka_close(k, AGAIN_MS, why);
    } else if (!*why && o.end < k->asked_at) {
        kafka_close(k, 0, "the topic is another one");
    }
    return true;
}

static int decide(struct kafka_stream *k, struct opened *o)
{
    o->is_kept = kafka_read_kept(o->kept_text, &o->kept);
    int r = k->shared ? kafka_prepare_copy(k, &o->kept, o->is_kept) : 0;
    if (o->is_kept && (k->shared || !o->named)) {
        memcpy(o->epoch, o->kept.epoch, sizeof o->epoch);
        o->base = o->kept.base;
        o->named = true;
    }
    if (r == 0)
        r = o->named ? decide_named(k, o) : decide_unnamed(k, o);
    if (r == 0 && o->is_kept)
        stream_count_from(k->st->stream, o->kept.base + o->kept.next + 1);
    return r;
}

/* The topic is what it should be. */
static void on_open(struct kafka_stream *k, struct opened *o)
{
    k->known = true;
    if (k->shared && !k->here) {
        k->state = KAFKA_KNOWN;
        *k->why = 0;
        return;
    }
    char before[sizeof k->why];
    memcpy(before, k->why, sizeof before);
    int r = decide(k, o);
    if (r < 0) {
        char text[sizeof k->why];
        snprintf(text, sizeof text, "%s", r == -1 && *k->why ? k->why : "the broker's disk is full");
        memcpy(k->why, before, sizeof before); /* so that it is said once */
        kafka_close(k, k->shared ? AGAIN_MS : FOREIGN_MS, text);
        return;
    }
    k->leave_at = k->leaving && !k->first ? o->end + 1 : 0;
    name(k);
    if (k->shared)
        kafka_keep_on(k, o->is_kept ? &o->kept : NULL, o->kept_offset);
}

bool kafka_on_opened(struct kafka_stream *k, const unsigned char *p, size_t n)
{
    struct opened o = {0};
    AUTO_FREE char *why = kafka_take_str(&p, &n);
    struct kafka *all = k->st->b->kafka;
    k->asking = false;
    bool answers = why && (!*why || !strncmp(why, "topic ", 6) || !strncmp(why, KAFKA_SOON, strlen(KAFKA_SOON)));
    if (answers || (why && !*all->down)) /* librdkafka's own words say more */
        snprintf(all->down, sizeof all->down, "%s", answers ? "" : why);
    if (why && k->ask_again) {
        k->ask_again = false;
        kafka_open(k);
        return true;
    }
    if (why && (k->state == KAFKA_FOLLOWS || k->state == KAFKA_KNOWN))
        return on_checked(k, why, p, n);
    if (k->state != KAFKA_OPENING)
        return why != NULL;
    bool ok = why && (*why || read_opened(p, n, &o));
    if (ok && *why) {
        bool soon = !strncmp(why, KAFKA_SOON, strlen(KAFKA_SOON));
        k->known &= soon;
        kafka_close(k, soon ? SOON_MS : AGAIN_MS, soon ? "" : why);
    } else if (ok) {
        on_open(k, &o);
    }
    free(o.kept_text);
    return ok;
}

static void on_sub_committed(struct kafka_stream *k, const char *group, const char *why)
{
    size_t n = strlen(k->topic);
    struct sub *s = !strncmp(group, k->topic, n) && group[n] == '.' ? stream_sub(k->st->stream, group + n + 1) : NULL;
    struct broker_sub *bs = s ? sub_tag(s) : NULL;
    if (!bs)
        return;
    bs->kafka_committing = false;
    kafka_right(k, KAFKA_MAY_COMMIT, why);
    if (*why)
        xstr_set(&bs->kafka_committed, NULL); /* it is tried again */
}

bool kafka_on_committed(struct kafka_stream *k, const unsigned char *p, size_t n)
{
    AUTO_FREE char *group = kafka_take_str(&p, &n);
    AUTO_FREE char *why = group ? kafka_take_str(&p, &n) : NULL;
    if (!why)
        return false;
    if (strcmp(group, k->topic) != 0)
        return on_sub_committed(k, group, why), true;
    if (k->state != KAFKA_NAMING || k->shared)
        return true;
    if (*why)
        kafka_close(k, AGAIN_MS, why);
    else
        kafka_follow(k);
    return true;
}

/* ---- where subscriptions are ---- */

static uint64_t offset_of(const struct kafka_stream *k, uint64_t seq)
{
    uint64_t base = stream_base(k->st->stream);
    return seq > base ? seq - 1 - base : 0;
}

static void commit_sub(struct kafka_stream *k, struct broker_sub *bs)
{
    struct broker *b = k->st->b;
    AUTO_BUF struct buf f = {0}, group = {0}, done = {0};
    uint64_t offset = offset_of(k, sub_begins(bs->sub));
    if (bs->kafka_done.n || bs->kafka_committing) /* it is not yet where an earlier store was; or Kafka takes its time */
        return;
    buf_adds(&done, "");
    sub_add_done(bs->sub, &done, MAX_DONE);
    bool same = bs->kafka_committed && bs->kafka_offset == offset && !strcmp(bs->kafka_committed, done.p);
    if (same && b->now_ms - bs->kafka_committed_ms < COMMIT_ANYWAY_MS)
        return;
    group_of(k, sub_name(bs->sub), &group);
    kafka_frame_begin(&f, KAFKA_COMMIT, k->number);
    kafka_frame_add_str(&f, group.p);
    le_add_u64(&f, offset);
    kafka_frame_add_str(&f, done.p);
    kafka_frame_send(b->kafka->link, &f);
    xstr_set(&bs->kafka_committed, done.p);
    bs->kafka_committing = true;
    bs->kafka_offset = offset;
    bs->kafka_committed_ms = b->now_ms;
}

/* Records stay for as long as their publishers' numbers are remembered: a store that is made anew has to know them. */
static void trim(struct kafka_stream *k)
{
    struct broker *b = k->st->b;
    AUTO_BUF struct buf f = {0};
    struct stream_figures figures;
    size_t i = 0;
    stream_figures(k->st->stream, &figures);
    uint64_t least = figures.next_seq;
    for (struct sub *s; (s = stream_next_sub(k->st->stream, &i));)
        least = sub_begins(s) < least ? sub_begins(s) : least;
    if (!i)
        least = figures.first_seq;
    if (b->now_ms < k->trim_ms || *b->kafka->down)
        return;
    if (k->next_trim > k->trim) {
        k->trim = k->next_trim;
        kafka_frame_begin(&f, KAFKA_TRIM, k->number);
        le_add_u64(&f, k->trim);
        kafka_frame_send(b->kafka->link, &f);
    }
    k->next_trim = offset_of(k, least);
    k->trim_ms = b->now_ms + TRIM_MS + k->st->conf.dedup_window_s * 1000;
}

void kafka_commit(struct kafka_stream *k)
{
    size_t i = 0;
    if (k->shared)
        kafka_keep(k);
    else
        for (struct sub *s; (s = stream_next_sub(k->st->stream, &i));)
            commit_sub(k, sub_tag(s));
    if (k->st->b->now_ms - k->named_ms >= COMMIT_ANYWAY_MS)
        write_name(k);
    trim(k);
}
