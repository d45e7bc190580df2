/* A stream: its life, its subscriptions, and how it is written down. */
#include "parts.h"

#include "base/mem.h"

#include <string.h>

struct stream *stream_new(struct streams *all, const char *name, uint32_t id)
{
    struct stream *st = xcalloc(1, sizeof *st);
    *st = (struct stream){.all = all, .name = xstrdup(name), .id = id, .next_seq = 1};
    return st;
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
    free(st->traced);
    buf_fini(&st->record);
    buf_fini(&st->traces);
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

void stream_record(const struct stream *st, struct buf *out)
{
    le_add_u32(out, st->id);
    le_add_u32(out, (uint32_t)strlen(st->name));
    le_add_u64(out, st->next_seq);
    buf_add(out, stream_epoch(st), EPOCH_BYTES);
    buf_adds(out, st->name);
}

struct stream_loss stream_loss(const struct stream *st)
{
    return st->loss;
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

int stream_add_sub(struct stream *st, const char *name, struct sub **ret)
{
    struct stream_figures f;
    AUTO_BUF struct buf b = {0};
    *ret = stream_sub(st, name);
    if (*ret)
        return 0;
    stream_figures(st, &f);
    struct sub *s = sub_new(st, name, st->all->next_id, f.first_seq);
    sub_record(s, &b);
    struct iovec part = {b.p, b.n};
    int r = seglog_append(st->all->log, REC_SUB, &part, 1, true, NULL);
    if (r < 0) {
        sub_free(s);
        return r;
    }
    st->subs = xrealloc(st->subs, (st->n_subs + 1) * sizeof(struct sub *));
    st->subs[st->n_subs++] = s;
    sub_touch(s);
    *ret = s;
    return 0;
}

void stream_drop_sub(struct stream *st, struct sub *s)
{
    AUTO_BUF struct buf b = {0};
    le_add_u32(&b, s->id);
    sub_unmark(s);
    log_event(st->all, REC_SUB_DROP, b.p, b.n);
    for (size_t i = 0; i < st->n_subs; i++)
        if (st->subs[i] == s)
            memmove(st->subs + i, st->subs + i + 1, (--st->n_subs - i) * sizeof *st->subs);
    sub_free(s);
    st->look_at_kept = true;
    stream_trim_kept(st);
}
