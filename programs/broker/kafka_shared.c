/* Streams that several brokers share. Kafka's consumer group of the brokers (its members are `kafka.member` of each home) says
 * which partitions are ours. What of them is done is kept with the group's offset of the partition, as text, by a commit that only
 * who has the partition can make:
 *
 *   v2 EPOCH BASE MEMBER NEXT BYTES [APP OFFSET DONE]...
 *
 * EPOCH and BASE as in a topic's name (kafka_open.c); NEXT: how far MEMBER has counted; BYTES: of its copy, for the others, who
 * hold publishers to max_stored_bytes by it; of each app the first offset that is not
 * done, and which are done beyond it ("10-14,20-20,"; "-": none).
 *
 *   a partition becomes ours     its topic is opened (again, what was kept is read now), and followed from there. Our copy is used
 *                                where we were the last who had it; else it is made anew
 *   it becomes another's         it is given to nobody any more, what is done is kept, and our copy goes. What apps hold of it
 *                                comes again elsewhere, with the same _ids
 *   simbdp-kafka is silent       for the session's time: others may have our partitions, so nothing is given to anybody
 *   another broker has our name  we are fenced: nothing is taken or given, until an operator has us try again (reload)
 *
 * What is published goes to any partition, whosesoever it is. */
#include "kafka_parts.h"

#include "deliver.h"
#include "parts.h"

#include "base/le.h"
#include "base/log.h"
#include "base/mem.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GRACE_MS = 2000, KEEP_ANYWAY_MS = 3600 * 1000, OFFSET_TEXT = 24 };

#define GROUP ".members"

static int64_t session_ms(const struct broker *b)
{
    return b->conf->platform.kafka.session_s * 1000;
}

void kafka_members_group(const struct broker *b, struct buf *out)
{
    out->n = 0;
    buf_adds(out, b->conf->platform.kafka.prefix);
    buf_adds(out, GROUP);
}

/* ---- where to be ---- */

static void frame(struct broker *b, enum kafka_verb verb)
{
    AUTO_BUF struct buf f = {0};
    kafka_frame_begin(&f, verb, 0);
    kafka_frame_send(b->kafka->link, &f);
}

/* Topics that were looked at, and found to be what they should. */
static void join(struct broker *b)
{
    AUTO_BUF struct buf topics = {0}, f = {0}, group = {0};
    uint32_t n = 0;
    le_add_u32(&topics, 0);
    for (const struct kafka_stream *k = b->kafka->streams; k; k = k->next) {
        if (!k->shared || k->st->part || !k->known)
            continue;
        kafka_frame_add_str(&topics, k->topic);
        n++;
    }
    le_set_u32(topics.p, n);
    struct buf *joined = &b->kafka->joined;
    if ((!n && !joined->n) || (joined->n == topics.n && !memcmp(joined->p, topics.p, topics.n)))
        return;
    kafka_members_group(b, &group);
    kafka_frame_begin(&f, KAFKA_JOIN, 0);
    kafka_frame_add_str(&f, group.p);
    kafka_frame_add_str(&f, b->conf->platform.kafka.member);
    le_add_u32(&f, (uint32_t)session_ms(b));
    buf_add(&f, topics.p, topics.n);
    kafka_frame_send(b->kafka->link, &f);
    joined->n = 0;
    buf_add(joined, topics.p, topics.n);
}

/* At what the others keep. */
static void look(struct broker *b)
{
    AUTO_BUF struct buf f = {0}, group = {0};
    for (struct kafka_stream *k = b->kafka->streams; k; k = k->next) {
        if (!k->shared || k->st->part || !k->known || k->looking || kafka_n_here(k->st) == (int64_t)k->st->n_parts)
            continue;
        kafka_members_group(b, &group);
        kafka_frame_begin(&f, KAFKA_LOOK, k->number);
        kafka_frame_add_str(&f, group.p);
        le_add_u32(&f, (uint32_t)k->st->n_parts);
        kafka_frame_send(b->kafka->link, &f);
        k->looking = true;
    }
}

bool kafka_on_looked(struct kafka_stream *k, const unsigned char *p, size_t n)
{
    uint32_t part;
    struct kafka_kept kept;
    k->looking = false;
    while (kafka_take_u32(&p, &n, &part)) {
        AUTO_FREE char *text = kafka_take_str(&p, &n);
        if (!text)
            return false;
        const struct broker_stream *whole = k->st->whole, *st = part < whole->n_parts ? whole->parts[part] : NULL;
        if (st && st->kafka && kafka_read_kept(text, &kept))
            st->kafka->elsewhere = kept.bytes < INT64_MAX ? (int64_t)kept.bytes : 0;
    }
    return !n;
}

/* ---- what is ours ---- */

/* It is served elsewhere: what we have of it goes. */
static void forget_copy(struct kafka_stream *k)
{
    struct broker_stream *st = k->st;
    if (stream_is_pristine(st->stream) || !stream_is_mirror(st->stream))
        return;
    if (stream_reset(st->stream) < 0)
        return; /* no room to write it down: the next tick */
    xstr_set(&k->kept, NULL);
}

static void set_idle(struct broker_stream *st, bool idle)
{
    size_t i = 0;
    st->idle = idle;
    for (struct sub *s; !idle && (s = stream_next_sub(st->stream, &i));)
        deliver_want(sub_tag(s));
}

static void leave(struct kafka_stream *k)
{
    kafka_flush(k->st->b);
    k->keeping = false; /* what is under way is older */
    if (k->state == KAFKA_FOLLOWS)
        kafka_keep(k);
    kafka_close(k, 0, "");
    k->here = false;
    set_idle(k->st, stream_is_mirror(k->st->stream));
    log_info("kafka", k->st->tenant->id, NULL, "stream %s: partition %" PRIu32 " is another broker's", k->st->name, k->st->part);
}

static void enter(struct kafka_stream *k)
{
    k->here = true;
    log_info("kafka", k->st->tenant->id, NULL, "stream %s: partition %" PRIu32 " is ours", k->st->name, k->st->part);
    if (k->asking)
        k->ask_again = true; /* what is on its way was read before */
    else
        kafka_open(k);
}

static bool is_listed(const struct kafka_stream *k, const struct buf *list)
{
    const unsigned char *p = (const unsigned char *)list->p;
    size_t n = list->n;
    uint32_t part;
    for (char *topic; (topic = kafka_take_str(&p, &n)) && kafka_take_u32(&p, &n, &part);) {
        bool same = part == k->st->part && !strcmp(topic, k->topic);
        free(topic);
        if (same)
            return true;
    }
    return false;
}

static void on_fenced(struct broker *b, const char *why)
{
    snprintf(b->kafka->fenced, sizeof b->kafka->fenced,
             "another broker is member \"%s\" of those that share it, and serves instead (%s)", b->conf->platform.kafka.member,
             why);
    log_error("kafka", NULL, NULL, "%s", b->kafka->fenced);
    for (struct kafka_stream *k = b->kafka->streams; k; k = k->next)
        if (k->shared && k->here) {
            kafka_close(k, 0, "");
            k->here = false;
            set_idle(k->st, true);
        }
}

bool kafka_on_assignment(struct broker *b, const unsigned char *p, size_t n)
{
    AUTO_FREE char *why = kafka_take_str(&p, &n);
    uint32_t waits, n_parts;
    if (!why || !kafka_take_u32(&p, &n, &waits) || !kafka_take_u32(&p, &n, &n_parts))
        return false;
    if (*why) {
        on_fenced(b, why);
        return true;
    }
    struct buf list = {.p = (char *)p, .n = n};
    kafka_flush(b);
    b->kafka->assigned = true;
    for (struct kafka_stream *k = b->kafka->streams; k; k = k->next) {
        bool here = k->shared && is_listed(k, &list);
        if (k->here && !here)
            leave(k);
        if (k->shared && !here)
            forget_copy(k);
        if (here && !k->here)
            enter(k);
    }
    if (waits)
        frame(b, KAFKA_RELEASE);
    broker_turn_soon(b);
    return true;
}

void kafka_shared_down(struct broker *b)
{
    b->kafka->joined.n = 0;
    b->kafka->assigned = false;
    for (struct kafka_stream *k = b->kafka->streams; k; k = k->next) {
        k->here = k->known = k->keeping = k->ask_again = k->looking = false;
        xstr_set(&k->kept, NULL);
    }
}

void kafka_shared_tick(struct broker *b)
{
    bool any = false, silent = b->now_ms - b->kafka->heard_ms > session_ms(b);
    for (struct kafka_stream *k = b->kafka->streams; k; k = k->next) {
        any |= k->shared;
        if (k->shared && !k->here && stream_is_mirror(k->st->stream) && !k->st->idle && silent)
            set_idle(k->st, true); /* another one may have it by now */
        if (k->shared && !k->here && b->kafka->assigned)
            forget_copy(k);
    }
    if (!kafka_link_is_up(b->kafka->link) || (!any && !b->kafka->joined.n))
        return;
    if (silent && b->now_ms - b->kafka->heard_ms > session_ms(b) + GRACE_MS) {
        b->kafka->heard_ms = b->now_ms;
        kafka_link_restart(b->kafka->link); /* it hangs */
        return;
    }
    frame(b, KAFKA_ALIVE);
    if (*b->kafka->fenced)
        return;
    join(b);
    look(b);
}

/* ---- what is kept ---- */

static uint64_t offset_of(const struct kafka_stream *k, uint64_t seq)
{
    uint64_t base = stream_base(k->st->stream);
    return seq > base ? seq - 1 - base : 0;
}

static void add_apps(struct kafka_stream *k, size_t room, struct buf *text, uint64_t *ret_least)
{
    size_t i = 0, n = 0;
    for (struct sub *s; (s = stream_next_sub(k->st->stream, &i));)
        n += ((struct broker_sub *)sub_tag(s))->configured;
    i = 0;
    for (struct sub *s; (s = stream_next_sub(k->st->stream, &i));) {
        const struct broker_sub *bs = sub_tag(s);
        uint64_t offset = offset_of(k, sub_begins(s));
        if (!bs->configured)
            continue;
        size_t fixed = strlen(sub_name(s)) + OFFSET_TEXT, share = room / n, before;
        buf_addf(text, " %s %" PRIu64 " ", sub_name(s), offset);
        before = text->n;
        sub_add_done(s, text, share > fixed ? share - fixed : 0);
        if (text->n == before)
            buf_adds(text, "-");
        *ret_least = offset < *ret_least ? offset : *ret_least;
    }
}

static void begin_text(const struct kafka_stream *k, uint64_t next, struct buf *text)
{
    struct stream_figures f;
    stream_figures(k->st->stream, &f);
    char hex[2 * EPOCH_BYTES + 1];
    sodium_bin2hex(hex, sizeof hex, stream_epoch(k->st->stream), EPOCH_BYTES);
    buf_addf(text, "v2 %s %" PRIu64 " %s %" PRIu64 " %" PRId64, hex, stream_base(k->st->stream),
             k->st->b->conf->platform.kafka.member, next, f.bytes);
}

static void send_kept(struct kafka_stream *k, uint64_t offset, const char *text)
{
    AUTO_BUF struct buf f = {0};
    kafka_frame_begin(&f, KAFKA_KEEP, k->number);
    le_add_u64(&f, offset);
    kafka_frame_add_str(&f, text);
    kafka_frame_send(k->st->b->kafka->link, &f);
    xstr_set(&k->kept, text);
    k->kept_ms = k->st->b->now_ms;
    k->keeping = true;
}

void kafka_keep_on(struct kafka_stream *k, const struct kafka_kept *kept, uint64_t offset)
{
    AUTO_BUF struct buf text = {0};
    begin_text(k, kept ? kept->next : 0, &text);
    buf_adds(&text, kept ? kept->apps : "");
    send_kept(k, offset, text.p);
}

void kafka_keep(struct kafka_stream *k)
{
    struct broker *b = k->st->b;
    AUTO_BUF struct buf text = {0};
    uint64_t least = kafka_position(k);
    size_t i = 0;
    for (struct sub *s; (s = stream_next_sub(k->st->stream, &i));)
        if (((struct broker_sub *)sub_tag(s))->kafka_done.n)
            return; /* it is not yet where the one before us was */
    begin_text(k, kafka_position(k), &text);
    add_apps(k, KAFKA_MAX_TEXT - text.n, &text, &least);
    if (k->keeping || (k->kept && !strcmp(k->kept, text.p) && b->now_ms - k->kept_ms < KEEP_ANYWAY_MS))
        return;
    send_kept(k, least, text.p);
}

bool kafka_on_kept(struct kafka_stream *k, const unsigned char *p, size_t n)
{
    AUTO_FREE char *why = kafka_take_str(&p, &n);
    if (!why)
        return false;
    k->keeping = false;
    if (*why)
        xstr_set(&k->kept, NULL); /* it is tried again, if it is ours */
    if (k->state == KAFKA_NAMING && k->shared && *why)
        kafka_close(k, GRACE_MS / 4, why);
    else if (k->state == KAFKA_NAMING && k->shared)
        kafka_follow(k);
    return true;
}

/* ---- what was kept by who had it before ---- */

bool kafka_read_kept(const char *text, struct kafka_kept *ret)
{
    char hex[2 * EPOCH_BYTES + 1];
    size_t bytes;
    int at = 0;
    *ret = (struct kafka_kept){0};
    if (!text || sscanf(text, "v2 %32[0-9a-f] %" SCNu64 " %64[A-Za-z0-9-] %" SCNu64 " %" SCNu64 "%n", hex, &ret->base, ret->member,
                        &ret->next, &ret->bytes, &at) != 5)
        return false;
    ret->apps = text + at;
    return sodium_hex2bin(ret->epoch, sizeof ret->epoch, hex, strlen(hex), NULL, &bytes, NULL) == 0 && bytes == EPOCH_BYTES;
}

void kafka_take_kept(struct kafka_stream *k, const struct kafka_kept *kept, uint64_t first)
{
    AUTO_FREE char *apps = xstrdup(kept->apps);
    char *save = NULL;
    for (char *name = strtok_r(apps, " ", &save); name; name = strtok_r(NULL, " ", &save)) {
        const char *offset = strtok_r(NULL, " ", &save), *done = offset ? strtok_r(NULL, " ", &save) : NULL;
        struct sub *s = stream_sub(k->st->stream, name);
        struct broker_sub *bs = done && s ? sub_tag(s) : NULL;
        uint64_t at = done ? strtoull(offset, NULL, 10) : 0;
        const struct range *v = bs && bs->kafka_done.n ? (const struct range *)bs->kafka_done.p : NULL;
        if (bs && at < 1ULL << 47 && !(v && v->last > kept->base + at)) /* or another group knows of more */
            kafka_take_sub(bs, kept->base, first, at, done);
    }
}

int kafka_prepare_copy(struct kafka_stream *k, const struct kafka_kept *kept, bool is_kept)
{
    struct broker_stream *st = k->st;
    bool ours = is_kept && !strcmp(kept->member, st->b->conf->platform.kafka.member) &&
                !memcmp(kept->epoch, stream_epoch(st->stream), EPOCH_BYTES);
    if (stream_is_pristine(st->stream))
        return 0;
    if (!stream_is_mirror(st->stream) && !stream_is_done(st->stream))
        return snprintf(k->why, sizeof k->why,
                        "partition %" PRIu32
                        " waits until the messages that this home has of its own are done, and no dead letters "
                        "are left of them",
                        st->part),
               -1;
    if (stream_is_mirror(st->stream) && (ours || !is_kept))
        return 0;
    return stream_reset(st->stream);
}
