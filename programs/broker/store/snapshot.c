/* What each segment begins with: all that is known but the messages, so that the segments before it can go once nobody needs their
 * messages. */
#include "parts.h"

static void add_stream(struct streams *all, struct stream *st, struct buf *b)
{
    size_t k = 0;
    b->n = 0;
    stream_record(st, b);
    log_event(all, REC_STREAM, b->p, b->n);
    b->n = 0;
    epochs_record(st, b);
    if (st->n_eras > 1)
        log_event(all, REC_EPOCHS, b->p, b->n);
    b->n = 0;
    mirror_record(st, b);
    if (st->mirror)
        log_event(all, REC_MIRROR, b->p, b->n);
    b->n = 0;
    gaps_record(st, b);
    if (st->n_gaps)
        log_event(all, REC_GAPS, b->p, b->n);
    b->n = 0;
    if (publishers_record(st, b))
        log_event(all, REC_PUBLISHERS, b->p, b->n);
    tally_append(all, &st->tally, st->id);
    for (struct sub *s; (s = stream_next_sub(st, &k));) {
        b->n = 0;
        sub_record(s, b);
        log_event(all, REC_SUB, b->p, b->n);
        tally_append(all, &s->tally, s->id);
    }
    b->n = 0;
    arrivals_whole_record(st, b);
    if (st->whole)
        log_event(all, REC_WHOLE, b->p, b->n);
}

/* Enough to read all that follows without the segments before. */
void streams_on_segment(void *arg)
{
    struct streams *all = arg;
    size_t i = 0;
    AUTO_BUF struct buf b = {0};
    for (struct stream *st; (st = map_next(&all->streams, &i));)
        add_stream(all, st, &b);
    i = 0;
    for (struct stream *st; (st = map_next(&all->arriving, &i));)
        add_stream(all, st, &b);
}

static size_t size_of(const struct stream *st)
{
    size_t n = 1024 + st->n_eras * sizeof(struct era) + st->n_gaps * sizeof(struct range), i = 0;
    for (const struct publisher *p; (p = map_next(&st->publishers, &i));)
        n += 32 + p->n_seen * sizeof(struct range);
    i = 0;
    for (const struct sub *s; (s = stream_next_sub(st, &i));)
        n += 768 + (size_t)(s->n_again + s->n_suspect + s->n_delayed + s->n_leased) * 32 +
             (s->n_dead - s->dead_head) * (32 + MAX_REASON);
    return n;
}

/* An upper bound of what streams_on_segment writes. */
size_t streams_segment_begins_with(void *arg)
{
    const struct streams *all = arg;
    size_t i = 0, n = 0;
    for (const struct stream *st; (st = map_next(&all->streams, &i));)
        n += size_of(st);
    i = 0;
    for (const struct stream *st; (st = map_next(&all->arriving, &i));)
        n += size_of(st);
    return n;
}
