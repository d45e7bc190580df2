/* What makes changes durable.
 *
 * A turn's records are written at its end in one go. They are synced with it where messages were published, before any of them is
 * confirmed. Acks, nacks and deliveries alone are written and not synced: the caller syncs within 100 ms (../turn.c), and a power
 * cut before that costs a redelivery. Behind the records go the marks of what they changed (marks.h). */
#include "parts.h"

#include <string.h>

/* ---- the marks of what changed ---- */

void stream_touch(struct stream *st)
{
    if (st->touched || st->all->loading || arrivals_is_name(st->name))
        return;
    st->touched = true;
    st->next_touched = st->all->touched_streams;
    st->all->touched_streams = st;
}

void sub_touch(struct sub *s)
{
    struct streams *all = s->stream->all;
    if (s->touched || all->loading || arrivals_is_name(s->stream->name))
        return;
    s->touched = true;
    s->next_touched = all->touched_subs;
    all->touched_subs = s;
}

void stream_put_mark(struct stream *st)
{
    struct mark v = {.kind = MARK_STREAM, .next = st->next_seq};
    if (strlen(st->name) >= MARK_NAME)
        return;
    strcpy(v.name, st->name);
    memcpy(v.epoch, stream_epoch(st), sizeof v.epoch);
    st->slot = marks_put(st->all->marks, st->slot, &v);
}

void sub_put_mark(struct sub *s)
{
    struct mark v = {.kind = MARK_SUB, .of = s->stream->slot, .next = s->floor, .more = s->shared_below};
    if (strlen(s->name) >= MARK_NAME || !v.of)
        return;
    strcpy(v.name, s->name);
    s->slot = marks_put(s->stream->all->marks, s->slot, &v);
}

static void write_marks(struct streams *all)
{
    for (struct stream *st; (st = all->touched_streams);) {
        all->touched_streams = st->next_touched;
        st->touched = false;
        stream_put_mark(st);
    }
    for (struct sub *s; (s = all->touched_subs);) {
        all->touched_subs = s->next_touched;
        s->touched = false;
        sub_put_mark(s);
    }
}

void sub_unmark(struct sub *s)
{
    for (struct sub **at = &s->stream->all->touched_subs; *at; at = &(*at)->next_touched)
        if (*at == s) {
            *at = s->next_touched;
            break;
        }
    marks_drop(s->stream->all->marks, s->slot);
}

void stream_unmark(struct stream *st)
{
    for (struct stream **at = &st->all->touched_streams; *at; at = &(*at)->next_touched)
        if (*at == st) {
            *at = st->next_touched;
            break;
        }
    for (size_t i = 0; i < st->n_subs; i++)
        sub_unmark(st->subs[i]);
    marks_drop(st->all->marks, st->slot);
    marks_sync(st->all->marks);
}

/* ---- commits ---- */

void streams_commit(struct streams *all, bool sync)
{
    streams_record_tallies(all);
    seglog_commit(all->log, sync || all->published);
    write_marks(all);
    all->published = false;
}

void streams_push_marks(struct streams *all)
{
    marks_push(all->marks, seglog_newest(all->log));
}

bool streams_unsynced(const struct streams *all)
{
    return !seglog_is_synced(all->log);
}
