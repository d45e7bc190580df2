/* Dead letters: messages that no consumer could process (sub_fail: delivered max_deliveries times, and for a reason of their own).
 * They keep their reason, and are kept until they are replayed, dropped or too old. */
#include "parts.h"

#include "base/mem.h"

#include <errno.h>
#include <string.h>

size_t sub_dead_at(const struct sub *s, uint64_t seq)
{
    size_t lo = s->dead_head, hi = s->n_dead;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (s->dead[mid].seq < seq)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

void sub_add_dead(struct sub *s, uint64_t seq, uint8_t deliveries, int64_t wall_ms, const char *reason, size_t n)
{
    size_t i = sub_dead_at(s, seq);
    if (i < s->n_dead && s->dead[i].seq == seq)
        return;
    s->dead = xgrow(s->dead, s->n_dead, sizeof *s->dead);
    memmove(s->dead + i + 1, s->dead + i, (s->n_dead++ - i) * sizeof *s->dead);
    s->dead[i] = (struct dead){seq, wall_ms, xstrndup(reason, n), deliveries};
}

static bool remove_dead(struct sub *s, uint64_t seq)
{
    size_t i = sub_dead_at(s, seq);
    if (i == s->n_dead || s->dead[i].seq != seq)
        return false;
    free(s->dead[i].reason);
    if (i == s->dead_head)
        s->dead_head++; /* mostly they are dropped from the front, all of them */
    else
        memmove(s->dead + i, s->dead + i + 1, (--s->n_dead - i) * sizeof *s->dead);
    if (s->dead_head == s->n_dead)
        s->dead_head = s->n_dead = 0;
    s->stream->look_at_kept = true;
    return true;
}

void sub_die(struct sub *s, uint64_t seq, struct slot *t, const char *reason, int64_t wall_ms)
{
    AUTO_BUF struct buf b = {0};
    size_t n = strnlen(reason, MAX_REASON);
    uint8_t deliveries = t->deliveries;
    le_add_u32(&b, s->id);
    le_add_u32(&b, deliveries);
    le_add_u64(&b, seq);
    le_add_u64(&b, (uint64_t)wall_ms);
    buf_add(&b, reason, n);
    log_event(s->stream->all, REC_DEAD, b.p, b.n);
    sub_add_dead(s, seq, deliveries, wall_ms, reason, n);
    sub_set_state(s, seq, t, SLOT_DEAD);
    sub_count(s, TALLY_DEAD, 1);
    if (s->stream->all->on_death)
        s->stream->all->on_death(s, &(struct dead_letter){seq, deliveries, wall_ms, reason});
}

void sub_fail(struct sub *s, uint64_t seq, struct slot *t, bool own, const char *reason, int64_t wall_ms)
{
    sub_count(s, TALLY_ERRORS, 1);
    if (own && t->deliveries >= s->max_deliveries)
        sub_die(s, seq, t, reason, wall_ms);
    else
        sub_set_state(s, seq, t, own ? SLOT_AGAIN : SLOT_SUSPECT);
}

void sub_load_dead(struct sub *s, uint64_t seq, uint32_t deliveries, int64_t wall_ms, const char *reason, size_t n)
{
    sub_advance(s, seq + 1);
    struct slot *t = seq >= s->floor ? sub_slot_of(s, seq) : NULL;
    if (!t || t->state == SLOT_DONE || t->state == SLOT_DEAD)
        return;
    sub_add_dead(s, seq, (uint8_t)deliveries, wall_ms, reason, n < MAX_REASON ? n : MAX_REASON);
    sub_set_state(s, seq, t, SLOT_DEAD);
    sub_finish(s);
}

bool sub_next_dead(const struct sub *s, uint64_t seq, struct dead_letter *ret)
{
    size_t i = sub_dead_at(s, seq);
    if (i == s->n_dead)
        return false;
    *ret = (struct dead_letter){s->dead[i].seq, s->dead[i].deliveries, s->dead[i].wall_ms, s->dead[i].reason};
    return true;
}

static void log_dead_event(struct sub *s, int type, uint64_t seq)
{
    AUTO_BUF struct buf b = {0};
    le_add_u32(&b, s->id);
    le_add_u32(&b, 0);
    le_add_u64(&b, seq);
    log_event(s->stream->all, type, b.p, b.n);
}

int sub_replay(struct sub *s, uint64_t seq)
{
    if (!remove_dead(s, seq))
        return -ENOENT;
    log_dead_event(s, REC_REPLAY, seq);
    sub_reopen(s, seq);
    return 0;
}

int sub_drop_dead(struct sub *s, uint64_t seq)
{
    if (!remove_dead(s, seq))
        return -ENOENT;
    log_dead_event(s, REC_DROP_DEAD, seq);
    struct slot *t = seq >= s->floor ? sub_slot_of(s, seq) : NULL;
    if (t && t->state == SLOT_DEAD) /* after a restart it is done already */
        sub_set_state(s, seq, t, SLOT_DONE);
    return 0;
}
