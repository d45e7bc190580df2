/* What the store should have and does not have: the marks (marks.h) say how far each stream was confirmed, the log how far it is
 * there.
 *
 *   the log ends before the mark      the end was lost, or an older copy of state/broker was put in its place: sequences go on
 *                                     behind the mark, and what is between is lost, and counted
 *   messages were done that are not   the same, where there is no mark
 *   sequences are missing in between  lost to damage, and counted
 *   the marks are a copy, or none     nobody knows what was confirmed
 *   the store is damaged              where the mark is a little behind (after a power cut) it does not show what was lost
 *
 * In any of these a stream begins a new epoch (epoch.c), so that no message ever gets the _id of one that was lost and may be
 * stored. What is there keeps its epoch, and is delivered again unless it is known to be done: that stores nothing twice. A stream
 * or a subscription whose records are all lost is made anew, to say what it had.
 *
 * What begins is written down before anything is published; on a full disk publishing waits for it. */
#include "parts.h"

#include "base/log.h"
#include "base/mem.h"

#include <inttypes.h>
#include <string.h>

static void attach_stream(struct streams *all, uint32_t slot, const struct mark *v)
{
    struct stream *st = streams_find(all, v->name);
    if (!strchr(v->name, '/') || (!st && v->next <= 1) || (st && st->slot)) {
        marks_drop(all->marks, slot);
        return;
    }
    if (!st) {
        st = stream_new(all, v->name, all->next_id);
        stream_begin_epoch(st);
        map_put(&all->streams, v->name, st);
        register_id(all, 's', st->id, st);
    }
    st->slot = slot;
}

static void attach_sub(struct streams *all, uint32_t slot, const struct mark *v)
{
    const struct mark *of = marks_at(all->marks, v->of);
    struct stream *st = of && of->kind == MARK_STREAM ? streams_find(all, of->name) : NULL;
    struct sub *s = st ? stream_sub(st, v->name) : NULL;
    if (!st || st->slot != v->of || !v->next || (s && s->slot)) {
        marks_drop(all->marks, slot);
        return;
    }
    if (!s) {
        uint64_t end = of->next > st->next_seq ? of->next : st->next_seq;
        st->subs = xrealloc(st->subs, (st->n_subs + 1) * sizeof(struct sub *));
        s = st->subs[st->n_subs++] = sub_new(st, v->name, all->next_id, v->next < end ? v->next : end);
        s->shared_below = v->more;
        st->unsaved = true;
    }
    s->slot = slot;
}

static void attach(struct streams *all, enum mark_kind kind, void (*fn)(struct streams *all, uint32_t slot, const struct mark *v))
{
    const struct mark *v;
    for (uint32_t slot = 1; (v = marks_at(all->marks, slot)); slot++)
        if (v->kind == kind)
            fn(all, slot, v);
}

/* True when it begins a new epoch. */
static bool recover_stream(struct stream *st, bool doubt)
{
    const struct mark *v = st->slot ? marks_at(st->all->marks, st->slot) : NULL;
    uint64_t next = v ? v->next : 1;
    for (size_t i = 0; i < st->n_subs; i++) /* acks and the like of messages that are lost may be there */
        next = st->subs[i]->cursor > next ? st->subs[i]->cursor : next;
    bool anew = doubt || !v || next > st->next_seq || memcmp(v->epoch, stream_epoch(st), EPOCH_BYTES) != 0;
    if (next > st->next_seq)
        st->next_seq = next;
    if (anew)
        stream_begin_epoch(st);
    st->unsaved |= gaps_count(st) || anew;
    for (size_t i = 0; i < st->n_subs; i++)
        if (st->subs[i]->shared_below == SHARED_NOT_SET) {
            st->subs[i]->shared_below = st->next_seq;
            st->unsaved = true;
        }
    return anew;
}

static bool save_record(struct streams *all, int type, struct buf *b)
{
    struct iovec part = {b->p, b->n};
    bool ok = seglog_append(all->log, type, &part, 1, true, NULL) == 0;
    b->n = 0;
    return ok;
}

/* Epochs first: reading takes a REC_STREAM of an unknown epoch for one that begins there. */
static bool save(struct stream *st)
{
    AUTO_BUF struct buf b = {0};
    epochs_record(st, &b);
    bool ok = save_record(st->all, REC_EPOCHS, &b);
    stream_record(st, &b);
    ok = ok && save_record(st->all, REC_STREAM, &b);
    mirror_record(st, &b);
    ok = ok && save_record(st->all, REC_MIRROR, &b);
    gaps_record(st, &b);
    ok = ok && save_record(st->all, REC_GAPS, &b);
    for (size_t i = 0; ok && i < st->n_subs; i++) {
        sub_record(st->subs[i], &b);
        ok = save_record(st->all, REC_SUB, &b);
    }
    return ok;
}

bool streams_save_recovered(struct streams *all)
{
    size_t i = 0, k;
    bool ok = true;
    for (struct stream *st; ok && (st = map_next(&all->streams, &i));) {
        ok = !st->unsaved || save(st);
        st->unsaved = !ok;
    }
    all->unsaved = !ok;
    if (!ok)
        return false;
    seglog_commit(all->log, true);
    i = 0;
    for (struct stream *st; (st = map_next(&all->streams, &i));) {
        stream_put_mark(st);
        k = 0;
        for (struct sub *s; (s = stream_next_sub(st, &k));)
            sub_put_mark(s);
    }
    marks_vouch(all->marks, seglog_newest(all->log), seglog_damage(all->log));
    return true;
}

static void tell_loss(const struct stream *st)
{
    if (st->loss.n)
        log_error("messages_lost", NULL, NULL,
                  "stream %s: %" PRIu64 " messages that were confirmed, from %" PRIu64 " to %" PRIu64
                  ", are not in the store: it was damaged, or an older copy was restored; `mysimbdp queue list` counts them by app",
                  st->name, st->loss.n, st->loss.first, st->loss.last);
}

void streams_recover(struct streams *all)
{
    size_t i = 0, n = 0;
    uint64_t damage = seglog_damage(all->log);
    bool any = marks_at(all->marks, 1) != NULL, is_known = marks_are_original(all->marks);
    bool doubt = !is_known || (damage && damage != marks_known_damage(all->marks));
    attach(all, MARK_STREAM, attach_stream);
    attach(all, MARK_SUB, attach_sub);
    mirrors_recover(all, doubt);
    for (struct stream *st; (st = map_next(&all->streams, &i));) {
        n += recover_stream(st, doubt);
        tell_loss(st);
    }
    if (n)
        log_warn("new_epochs", NULL, NULL, "%zu streams begin new epochs: %s", n,
                 !any        ? "there is no record of what was confirmed (an upgrade, or state/broker.mark is gone)"
                 : !is_known ? "state/broker.mark is a copy: the state was restored, or moved to another file system"
                 : doubt     ? "the store is damaged"
                             : "the store ends before what was confirmed, or their marks are damaged");
    streams_save_recovered(all);
}
