/* A turn:
 *   1. requests that waited for their tenant's share are acted upon (share.h); those that came since the last turn have been
 *   2. the store is committed: with a sync where messages were published, else without
 *   3. answers leave. A CONFIRM says what a power cut cannot undo; DONE after an ack may, which costs a redelivery
 *   4. consumers get what their windows allow
 *   5. the store gives back what is not needed any more
 * Acks and the like are synced SYNC_MS later at the latest. The broker may be killed at any place of this: before 2 nothing was
 * confirmed; after it the publisher sends again what it has no answer for, and is told that it is known. */
#include "turn.h"
#include "auth.h"
#include "answers.h"
#include "cut_off.h"
#include "deliver.h"
#include "journal.h"
#include "kafka.h"
#include "publish.h"
#include "share.h"
#include "spans.h"

#include "loop/timer.h"

enum {
    TICK_MS = 1000,
    JOURNAL_TICKS = 5,
    SYNC_MS = 100,
};

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
    struct broker *b = arg;
    (void)fd;
    (void)what;
    broker_look_at_clocks(b);
    bool more = share_next_turn(b, publish_parked);
    streams_commit(b->streams, false);
    spans_committed(b);
    answers_leave(b);
    more |= deliver(b);
    more |= streams_tidy(b->streams);
    if (streams_unsynced(b->streams) && !event_pending(b->sync_ev, EV_TIMEOUT, NULL))
        timer_set(b->sync_ev, SYNC_MS);
    if (more) /* not at once: peers are to be read in between */
        timer_set(b->turn_ev, 0);
}

static void on_sync(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    streams_commit(((struct broker *)arg)->streams, true);
}

/* Smoothed over about three seconds. */
static void take_rate(double *per_s, uint64_t *seen, uint64_t n)
{
    *per_s += ((double)(n - *seen) * 1000 / TICK_MS - *per_s) / 3;
    if (*per_s < 0.05)
        *per_s = 0;
    *seen = n;
}

static void look_at_streams(struct broker *b)
{
    size_t i = 0;
    for (struct stream *stream; (stream = streams_next(b->streams, &i));) {
        struct broker_stream *st = stream_tag(stream);
        size_t k = 0;
        take_rate(&st->in_per_s, &st->rate_seen, stream_tally(stream)->v[TALLY_MESSAGES]);
        for (struct sub *s; (s = stream_next_sub(stream, &k));) {
            struct broker_sub *bs = sub_tag(s);
            take_rate(&bs->acked_per_s, &bs->rate_seen, sub_tally(s)->v[TALLY_MESSAGES]);
            if (bs->whole == bs)
                cut_off_look_at_rejects(bs);
        }
    }
}

/* So long ago; 0 where it is kept for ever. */
static int64_t before(int64_t now_wall_ms, int64_t seconds)
{
    return seconds < 0 ? 0 : now_wall_ms - seconds * 1000;
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct broker *b = arg;
    size_t i = 0;
    (void)fd;
    (void)what;
    broker_look_at_clocks(b);
    look_at_streams(b);
    int64_t now = retention_clock_now(&b->age);
    for (struct stream *stream; (stream = streams_next(b->streams, &i));) {
        const struct broker_stream *st = stream_tag(stream);
        const struct conf_stream *c = &st->conf;
        if (st->tenant->held) /* nothing of it changes */
            continue;
        /* Of a copy: those that were not heard of for so long when what came last was published. */
        int64_t heard = stream_is_mirror(stream) && stream_newest_wall_ms(stream) < now ? stream_newest_wall_ms(stream) : now;
        stream_apply_retention(stream, before(now, c->retention_s), before(now, c->dead_retention_s),
                               before(heard, c->dedup_window_s));
    }
    auth_look_at_runs(b);
    kafka_tick(b);
    spans_tick(b);
    if (++b->n_ticks % JOURNAL_TICKS == 0)
        journal_interval(b);
    streams_push_marks(b->streams);
    if (streams_record_refusals(b->streams) || streams_unsynced(b->streams))
        broker_turn_soon(b);
}

void turn_init(struct broker *b)
{
    b->turn_ev = event_new(b->base, -1, 0, on_turn, b);
    b->sync_ev = event_new(b->base, -1, 0, on_sync, b);
}

void turn_start(struct broker *b)
{
    b->tick_ev = event_new(b->base, -1, EV_PERSIST, on_tick, b);
    timer_set(b->tick_ev, TICK_MS);
}

void turn_fini(struct broker *b)
{
    struct event *evs[] = {b->turn_ev, b->tick_ev, b->sync_ev};
    for (size_t i = 0; i < sizeof evs / sizeof *evs; i++)
        if (evs[i])
            event_free(evs[i]);
}
