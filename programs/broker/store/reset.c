/* A stream that begins anew in its place: what it holds is kept elsewhere, and somebody else serves it from now on. To the log it
 * is dropped and another one made of the same name; to the caller it is the same, with its tags, consumers and counts. */
#include "parts.h"

#include "base/mem.h"

#include <errno.h>
#include <string.h>

static void reset_sub(struct sub *s)
{
    struct streams *all = s->stream->all;
    for (size_t i = 0; i < s->cap_consumers; i++) {
        struct consumer *c = s->consumers[i];
        if (!c)
            continue;
        uint64_t seq = s->floor;
        for (struct slot *t; c->n_leased && (t = sub_next_slot(s, &seq, UINT64_MAX)); seq++)
            if (slot_is_held(t, c->id))
                sub_set_state(s, seq, t, SLOT_DONE);
    }
    sub_free_slots(s);
    for (size_t i = s->dead_head; i < s->n_dead; i++)
        free(s->dead[i].reason);
    s->chunks = NULL;
    s->n_chunks = s->cap_chunks = 0;
    s->again = s->suspects = (struct ring){0};
    s->dead_head = s->n_dead = s->n_timed = 0;
    s->n_again = s->n_suspect = s->n_delayed = s->n_leased = 0;
    s->floor = s->cursor = 1;
    s->shared_below = 0;
    s->slot = 0;
    s->touched = false; /* sub_unmark took it out of the list */
    s->tally.changed = true;
    unregister_id(all, 'u', s->id);
    s->id = all->next_id;
    register_id(all, 'u', s->id, s);
}

static void give_back(struct stream *st)
{
    for (size_t i = st->head; i < st->n; i++)
        seglog_release(st->all->log, &st->extents[i].at);
    for (size_t i = 0; i < st->n_kept; i++)
        seglog_release(st->all->log, &st->kept[i].at);
    traces_drop(st);
    size_t i = 0;
    for (struct publisher *p; (p = map_next(&st->publishers, &i));)
        publisher_free(p);
    map_fini(&st->publishers);
    st->publishers = (struct map){0};
    st->head = st->n = st->n_kept = st->n_gaps = st->n_eras = 0;
    st->bytes = st->newest_wall_ms = 0;
    st->loaded.n = 0;
    st->traces.n = 0;
}

int stream_reset(struct stream *st)
{
    struct streams *all = st->all;
    AUTO_BUF struct buf b = {0};
    le_add_u32(&b, st->id);
    if (seglog_append(all->log, REC_STREAM_DROP, &(struct iovec){b.p, b.n}, 1, true, NULL) < 0)
        return -ENOSPC;
    stream_unmark(st);
    for (size_t i = 0; i < st->n_subs; i++)
        reset_sub(st->subs[i]);
    give_back(st);
    unregister_id(all, 's', st->id);
    st->id = all->next_id;
    register_id(all, 's', st->id, st);
    st->next_seq = 1;
    st->mirror = st->unsaved = false;
    st->base = st->count_from = 0;
    st->slot = 0;
    st->touched = false;
    st->tally.changed = true;
    stream_begin_epoch(st);
    b.n = 0;
    stream_record(st, &b);
    log_event(all, REC_STREAM, b.p, b.n);
    for (size_t i = 0; i < st->n_subs; i++) {
        b.n = 0;
        sub_record(st->subs[i], &b);
        log_event(all, REC_SUB, b.p, b.n);
    }
    stream_touch(st);
    for (size_t i = 0; i < st->n_subs; i++)
        sub_touch(st->subs[i]);
    return 0;
}
