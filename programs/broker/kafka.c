#include "kafka_parts.h"

#include "deliver.h"
#include "parts.h"

#include "base/log.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { DOWN_MS = 200, SLOW_MS = 2000, SETTLED_MS = 5000 };

int kafka_prepare(struct broker *b, struct err *e)
{
    return *b->conf->platform.kafka.brokers ? keeper_start(b->base, &b->home, "kafka", &b->kafka->keeper, e) : 0;
}

/* ---- streams ---- */

static struct kafka_stream *find(const struct broker *b, uint32_t number)
{
    struct kafka_stream *k = b->kafka->at; /* records come in runs */
    if (k && k->number == number)
        return k;
    k = b->kafka->streams;
    while (k && k->number != number)
        k = k->next;
    return k;
}

static void begin(struct broker_stream *st)
{
    struct broker *b = st->b;
    struct kafka_stream *k = xcalloc(1, sizeof *k);
    *k = (struct kafka_stream){.st = st, .again_ms = b->now_ms, .next = b->kafka->streams};
    k->last = &k->first;
    k->topic = xasprintf("%s.%s.%s", b->conf->platform.kafka.prefix, st->tenant->id, st->name);
    AUTO_FREE char *place = xasprintf("%s#%" PRIu32, k->topic, st->part);
    k->number = (uint32_t)(uintptr_t)map_get(&b->kafka->numbers, place);
    if (!k->number) {
        k->number = ++b->kafka->last_number;
        map_put(&b->kafka->numbers, place, (void *)(uintptr_t)k->number);
    }
    if (!kafka_link_is_up(b->kafka->link))
        snprintf(k->why, sizeof k->why, "%s", kafka_link_why(b->kafka->link));
    k->shared = st->conf.shared;
    st->idle = k->shared && stream_is_mirror(st->stream); /* until it is ours again */
    b->kafka->streams = k;
    st->kafka = k;
}

void kafka_forget_stream(struct broker_stream *st)
{
    struct kafka_stream *k = st->kafka, **at = &st->b->kafka->streams;
    if (!k)
        return;
    kafka_refuse_all(k, "the stream is taken out");
    kafka_close(k, 0, "");
    while (*at != k)
        at = &(*at)->next;
    *at = k->next;
    for (size_t i = 0; i < k->n_asked; i++)
        free(k->asked[i]);
    free(k->asked);
    kafka_rights_fini(k);
    free(k->kept);
    free(k->topic);
    map_fini(&k->by_number);
    buf_fini(&k->run.bytes);
    buf_fini(&k->run.lengths);
    buf_fini(&k->run.traces);
    free(k);
    st->kafka = NULL;
    st->idle = false;
}

void kafka_forget_sub(struct broker_sub *bs)
{
    buf_fini(&bs->kafka_done);
    free(bs->kafka_committed);
}

/* All is here that is there. */
static void leave(struct kafka_stream *k)
{
    struct broker_stream *st = k->st;
    kafka_flush(st->b);
    kafka_commit(k);
    if (stream_set_mirror(st->stream, false, stream_base(st->stream), false) < 0)
        return; /* there is no room to write it down: the next tick */
    log_info("kafka", st->tenant->id, NULL, "stream %s is out of Kafka; its topic %s can be deleted", st->name, k->topic);
    kafka_forget_stream(st);
}

void kafka_apply(struct broker *b)
{
    size_t i = 0;
    broker_look_at_clocks(b);
    if (kafka_prefix_accept(b))
        while (b->kafka->streams)
            kafka_forget_stream(b->kafka->streams->st);
    for (struct stream *stream; (stream = streams_next(b->streams, &i));) {
        struct broker_stream *st = stream_tag(stream);
        bool there = st->configured && st->conf.store == CONF_STORE_kafka;
        bool was = stream_is_mirror(stream) && (st->configured || st->kafka);
        if (st->kafka && st->kafka->state == KAFKA_CLOSED && !kafka_prefix_is(st->kafka->topic, b->conf->platform.kafka.prefix))
            kafka_forget_stream(st); /* the prefix is another one now, or again the one of before */
        if (st->kafka && there && st->kafka->shared != st->conf.shared)
            kafka_forget_stream(st);
        if (!st->kafka && (there || was))
            begin(st);
        if (st->kafka && st->kafka->leaving == there) {
            st->kafka->leaving = !there;
            st->kafka->leave_at = 0;
        }
        if (st->kafka)
            st->kafka->check_ms = b->now_ms; /* an administrator may have repaired, or broken, it */
        if (st->kafka && st->kafka->state == KAFKA_CLOSED)
            st->kafka->again_ms = b->now_ms;
        if (st->kafka && !there && !stream_is_mirror(stream) && !st->kafka->shared)
            kafka_forget_stream(st); /* it never was there */
    }
    const char *brokers = b->conf->platform.kafka.brokers;
    const char *member = b->conf->platform.kafka.member;
    bool others = (b->kafka->brokers && strcmp(b->kafka->brokers, brokers) != 0) ||
                  (b->kafka->member && strcmp(b->kafka->member, member) != 0) || *b->kafka->fenced;
    *b->kafka->fenced = 0; /* the operator has us try again */
    if (b->kafka->keeper && b->kafka->streams && !b->kafka->link)
        b->kafka->link = kafka_link_new(b);
    else if (b->kafka->link && (others || *b->kafka->down))
        kafka_link_restart(b->kafka->link);
    *b->kafka->down = 0;
    xstr_set(&b->kafka->brokers, brokers);
    xstr_set(&b->kafka->member, member);
    kafka_tick(b);
}

/* Every partition is ours, and all that is there is here. */
static bool all_may_leave(const struct kafka_stream *k)
{
    size_t i = 0;
    for (const struct broker_stream *st; (st = parts_next(k->st->whole, &i));) {
        const struct kafka_stream *x = st->kafka;
        if (x && (x->state != KAFKA_FOLLOWS || !x->leave_at || kafka_position(x) + 1 < x->leave_at))
            return false;
    }
    return true;
}

static void leave_all(struct broker_stream *whole)
{
    size_t i = 0;
    for (struct broker_stream *st; (st = parts_next(whole, &i));)
        if (st->kafka)
            leave(st->kafka);
}

void kafka_tick(struct broker *b)
{
    kafka_prefix_keep(b);
    kafka_shared_tick(b);
    for (struct kafka_stream *k = b->kafka->streams, *next; k; k = next) {
        next = k->next;
        if (!kafka_link_is_up(b->kafka->link)) {
            snprintf(k->why, sizeof k->why, "%s", kafka_link_why(b->kafka->link));
            continue;
        }
        if (k->state == KAFKA_CLOSED && b->now_ms >= k->again_ms)
            kafka_open(k);
        if (k->state == KAFKA_KNOWN)
            kafka_check(k);
        if (k->state != KAFKA_FOLLOWS)
            continue;
        if (k->leaving && !k->first && !k->leave_at) {
            kafka_close(k, 0, "");
            kafka_open(k); /* for its end, now that nothing is under way */
        } else if (k->leaving && k->leave_at && kafka_position(k) + 1 >= k->leave_at && (!k->shared || all_may_leave(k))) {
            if (!k->shared) {
                leave(k);
                continue;
            }
            leave_all(k->st->whole); /* now: the group would give the others to somebody else */
            return;
        } else {
            if (b->now_ms - k->followed_ms > SETTLED_MS)
                kafka_right(k, KAFKA_MAY_READ, "");
            kafka_commit(k);
            kafka_check(k);
        }
    }
}

void kafka_stop(struct broker *b)
{
    kafka_link_free(b->kafka->link);
    b->kafka->link = NULL;
    keeper_stop(b->kafka->keeper);
    map_fini(&b->kafka->numbers);
    free(b->kafka->brokers);
    free(b->kafka->prefix);
    free(b->kafka->member);
    buf_fini(&b->kafka->joined);
}

/* ---- what the link tells ---- */

void kafka_on_up(struct broker *b)
{
    b->kafka->heard_ms = b->now_ms;
    for (struct kafka_stream *k = b->kafka->streams; k; k = k->next)
        if (k->state == KAFKA_CLOSED)
            kafka_open(k);
}

void kafka_on_down(struct broker *b)
{
    kafka_flush(b);
    for (struct kafka_stream *k = b->kafka->streams; k; k = k->next) {
        size_t i = 0;
        for (struct sub *s; (s = stream_next_sub(k->st->stream, &i));)
            ((struct broker_sub *)sub_tag(s))->kafka_committing = false;
        k->asking = false;
        kafka_close(k, DOWN_MS, kafka_link_why(b->kafka->link));
        kafka_refuse_all(k, "simbdp-kafka ended");
    }
    kafka_shared_down(b);
    broker_turn_soon(b);
}

static bool on_broken(struct kafka_stream *k, const unsigned char *p, size_t n)
{
    AUTO_FREE char *why = kafka_take_str(&p, &n);
    if (why && k->state == KAFKA_FOLLOWS) {
        kafka_flush(k->st->b);
        kafka_right(k, KAFKA_MAY_READ, why);
        kafka_close(k, k->may_not[KAFKA_MAY_READ] ? SLOW_MS : DOWN_MS, k->may_not[KAFKA_MAY_READ] ? "" : why); /* that is told */
    }
    return why != NULL;
}

bool kafka_on_frame(struct broker *b, uint32_t verb, uint32_t stream, const unsigned char *p, size_t n)
{
    struct kafka_stream *k = find(b, stream);
    b->kafka->heard_ms = b->now_ms;
    if (verb == KAFKA_ALIVE)
        return true;
    if (verb == KAFKA_ASSIGNMENT)
        return kafka_on_assignment(b, p, n);
    if (verb == KAFKA_DOWN) {
        AUTO_FREE char *why = kafka_take_str(&p, &n);
        snprintf(b->kafka->down, sizeof b->kafka->down, "%s", why ? why : "");
        return why != NULL;
    }
    if (!k)
        return true; /* it was taken out */
    switch (verb) {
    case KAFKA_RECORD:
        return kafka_on_record(k, p, n);
    case KAFKA_PRODUCED:
        return kafka_on_produced(k, p, n);
    case KAFKA_OPENED:
        return kafka_on_opened(k, p, n);
    case KAFKA_COMMITTED:
        return kafka_on_committed(k, p, n);
    case KAFKA_KEPT:
        return kafka_on_kept(k, p, n);
    case KAFKA_LOOKED:
        return kafka_on_looked(k, p, n);
    case KAFKA_BROKEN:
        return on_broken(k, p, n);
    case KAFKA_TRIMMED:
        return kafka_on_trimmed(k, p, n);
    default:
        return false;
    }
}

void kafka_on_read_end(struct broker *b)
{
    kafka_flush(b);
}

/* ---- figures ---- */

bool kafka_keeps(const struct broker_stream *st)
{
    /* One that moves there goes on here until its topic is open. */
    return st->kafka && (stream_is_mirror(st->stream) || stream_is_pristine(st->stream) || st->kafka->shared);
}

static bool is_here(const struct broker_stream *st)
{
    return !st->kafka || !st->kafka->shared || st->kafka->here;
}

int64_t kafka_n_here(const struct broker_stream *whole)
{
    int64_t n = 0;
    size_t i = 0;
    for (const struct broker_stream *st; (st = parts_next(whole, &i));)
        n += is_here(st);
    return n;
}

int64_t kafka_bytes_elsewhere(const struct broker_stream *whole)
{
    int64_t n = 0;
    size_t i = 0;
    for (const struct broker_stream *st; (st = parts_next(whole, &i));)
        n += is_here(st) ? 0 : st->kafka->elsewhere;
    return n;
}

int64_t kafka_bytes_under_way(const struct broker_stream *whole)
{
    int64_t n = 0;
    size_t i = 0;
    for (const struct broker_stream *st; (st = parts_next(whole, &i));)
        n += st->kafka ? st->kafka->bytes : 0;
    return n;
}

typedef char why_text[700];

/* With a partition. NULL: it is well. */
static const char *what_is_wrong_with(const struct kafka_stream *k, why_text text)
{
    const struct broker *b = k->st->b;
    int64_t waits_ms = k->first ? clk_now_ms() - k->first->since_ms : 0;
    const char *down = b->kafka->down;
    bool is_open = k->state == KAFKA_FOLLOWS || k->state == KAFKA_KNOWN;
    if (k->shared && *b->kafka->fenced)
        return b->kafka->fenced;
    if (k->shared && k->leaving && !k->here)
        snprintf(text, sizeof(why_text), "it cannot leave Kafka while other brokers serve partitions of it");
    else if (is_open && k->shared && !b->kafka->assigned)
        snprintf(text, sizeof(why_text), "the brokers that share it have not been given their partitions yet");
    else if ((is_open || k->may_not[KAFKA_MAY_READ]) && waits_ms < SLOW_MS && !*down)
        return kafka_lacks(k, text, sizeof(why_text));
    else if (is_open && waits_ms < SLOW_MS)
        snprintf(text, sizeof(why_text), "Kafka does not answer: %s", down);
    else if (is_open)
        snprintf(text, sizeof(why_text), "Kafka has confirmed nothing for %" PRId64 " s%s%s", waits_ms / 1000, *down ? ": " : "",
                 down);
    else
        snprintf(text, sizeof(why_text), "%s%s%s", *k->why ? k->why : "it is being opened", *down ? ": " : "", down);
    return text;
}

/* With any partition of a stream. */
static const char *what_is_wrong(const struct broker_stream *whole, why_text text)
{
    const char *why = NULL;
    size_t i = 0;
    for (const struct broker_stream *st; !why && (st = parts_next(whole, &i));)
        why = st->kafka ? what_is_wrong_with(st->kafka, text) : NULL;
    return why;
}

void kafka_tell(const struct broker_stream *st, struct buf *out)
{
    const struct kafka_stream *k = st->kafka;
    why_text text;
    json_str(out, "store", k ? "kafka" : "local");
    json_str(out, "topic", k ? k->topic : NULL);
    json_str(out, "kafka", k ? what_is_wrong(st, text) : NULL);
    json_i64(out, "partitions_here", kafka_n_here(st));
    if (!k || !k->shared)
        return;
    size_t i = 0;
    json_begin(out, "mine", '[');
    for (const struct broker_stream *part; (part = parts_next(st, &i));)
        if (is_here(part))
            json_i64(out, NULL, part->part);
    json_end(out, ']');
}

void kafka_tell_all(const struct broker *b, struct buf *out)
{
    why_text text, all;
    const char *why = NULL;
    for (const struct kafka_stream *k = b->kafka->streams; k && !why; k = k->next) {
        why = what_is_wrong_with(k, text);
        if (why)
            snprintf(all, sizeof all, "stream %s: %.500s", stream_name(k->st->whole->stream), why);
    }
    json_str(out, "kafka", why ? all : NULL);
}

size_t kafka_n_stopped(const struct broker *b)
{
    why_text text;
    size_t n = 0;
    for (const struct kafka_stream *k = b->kafka->streams; k; k = k->next)
        n += k->st->whole == k->st && what_is_wrong(k->st, text) != NULL;
    return n;
}
