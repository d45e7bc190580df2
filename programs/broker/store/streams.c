/* All streams: how they are opened, found, made and dropped. */
#include "parts.h"

#include "base/log.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>

enum { MOVE_BYTES = 4 << 20 }; /* moved out of the oldest segment in one turn */

bool take_u32(const unsigned char **p, size_t *n, uint32_t *ret)
{
    if (*n < sizeof *ret)
        return false;
    *ret = le_u32(*p);
    *p += sizeof *ret;
    *n -= sizeof *ret;
    return true;
}

bool take_u64(const unsigned char **p, size_t *n, uint64_t *ret)
{
    if (*n < sizeof *ret)
        return false;
    *ret = le_u64(*p);
    *p += sizeof *ret;
    *n -= sizeof *ret;
    return true;
}

/* ---- numbers by which records name streams and subscriptions ---- */

static void id_key(char kind, uint32_t id, char out[16])
{
    snprintf(out, 16, "%c%" PRIu32, kind, id);
}

void register_id(struct streams *all, char kind, uint32_t id, void *v)
{
    char key[16];
    id_key(kind, id, key);
    map_put(&all->by_id, key, v);
    if (id >= all->next_id)
        all->next_id = id + 1;
}

void unregister_id(struct streams *all, char kind, uint32_t id)
{
    char key[16];
    id_key(kind, id, key);
    map_remove(&all->by_id, key);
}

void *streams_by_id(const struct streams *all, char kind, uint32_t id)
{
    char key[16];
    id_key(kind, id, key);
    return map_get(&all->by_id, key);
}

void log_event(struct streams *all, int type, const void *p, size_t n)
{
    struct iovec part = {(void *)p, n};
    if (!all->loading && seglog_append(all->log, type, &part, 1, true, NULL) < 0)
        log_debug("log_event", NULL, NULL, "no room for a record of type %d", type);
}

/* ---- opening and closing ---- */

static void free_all(struct streams *all)
{
    size_t i = 0;
    for (struct stream *st; (st = map_next(&all->streams, &i));)
        stream_free(st);
    map_fini(&all->streams);
    i = 0;
    for (struct stream *st; (st = map_next(&all->arriving, &i));)
        stream_free(st);
    map_fini(&all->arriving);
    map_fini(&all->by_id);
    marks_close(all->marks);
    buf_fini(&all->scratch);
    free(all);
}

int streams_open(int dirfd, int marks_fd, struct streams **ret, struct err *e)
{
    struct streams *all = xcalloc(1, sizeof *all);
    all->marks = marks_open(marks_fd);
    struct seglog_ops ops = {.on_record = streams_on_record,
                             .on_segment = streams_on_segment,
                             .segment_begins_with = streams_segment_begins_with,
                             .arg = all,
                             .newest = marks_newest_segment(all->marks),
                             .is_copy = !marks_are_original(all->marks)};
    size_t i = 0, k;
    all->next_id = 1;
    all->loading = true;
    int r = seglog_open(dirfd, &ops, &all->log, e);
    all->loading = false;
    if (r < 0) {
        free_all(all);
        return r;
    }
    for (struct stream *st; (st = map_next(&all->streams, &i));) {
        k = 0;
        for (struct sub *s; (s = stream_next_sub(st, &k));)
            sub_recovered(s);
        st->look_at_kept = true;
        stream_trim_kept(st);
    }
    streams_recover(all);
    *ret = all;
    return 0;
}

void streams_on_death(struct streams *all, void (*fn)(struct sub *s, const struct dead_letter *d))
{
    all->on_death = fn;
}

void streams_close(struct streams *all)
{
    streams_commit(all, true);
    marks_sync(all->marks);
    seglog_close(all->log);
    free_all(all);
}

void streams_abandon(struct streams *all)
{
    seglog_abandon(all->log);
    free_all(all);
}

bool streams_tidy(struct streams *all)
{
    uint64_t oldest;
    int64_t budget = MOVE_BYTES;
    size_t i = 0;
    if (!seglog_tidy(all->log, &oldest))
        return false;
    for (struct stream *st; (st = map_next(&all->streams, &i));)
        if (!stream_move(st, oldest, &budget))
            return true;
    i = 0;
    for (struct stream *st; (st = map_next(&all->arriving, &i));)
        if (!stream_move(st, oldest, &budget))
            break;
    return true;
}

bool streams_full(struct streams *all)
{
    return seglog_is_full(all->log);
}

/* ---- finding, making, dropping ---- */

struct stream *streams_next(struct streams *all, size_t *i)
{
    return map_next(&all->streams, i);
}

struct stream *streams_find(struct streams *all, const char *name)
{
    return map_get(&all->streams, name);
}

int streams_add(struct streams *all, const char *name, struct stream **ret)
{
    AUTO_BUF struct buf b = {0};
    *ret = streams_find(all, name);
    if (*ret)
        return 0;
    struct stream *st = stream_new(all, name, all->next_id);
    stream_begin_epoch(st);
    stream_record(st, &b);
    struct iovec part = {b.p, b.n};
    int r = seglog_append(all->log, REC_STREAM, &part, 1, true, NULL);
    if (r < 0) {
        stream_free(st);
        return r;
    }
    map_put(&all->streams, name, st);
    register_id(all, 's', st->id, st);
    stream_touch(st);
    *ret = st;
    return 0;
}

void streams_drop(struct streams *all, struct stream *st)
{
    AUTO_BUF struct buf b = {0};
    stream_unmark(st);
    le_add_u32(&b, st->id);
    log_event(all, REC_STREAM_DROP, b.p, b.n);
    for (size_t i = st->head; i < st->n; i++)
        seglog_release(all->log, &st->extents[i].at);
    for (size_t i = 0; i < st->n_kept; i++)
        seglog_release(all->log, &st->kept[i].at);
    traces_drop(st);
    map_remove(arrivals_map_of(all, st->name), st->name);
    unregister_id(all, 's', st->id);
    stream_free(st);
}
